# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that survive the agent, and that it can do without."""

import json
import logging
from pathlib import Path
from typing import Any

from agent.snapshots import StoreError
from agent.storage import write_atomically

_log = logging.getLogger(__name__)


def read(path: Path) -> object:
    """The JSON in a file; None where there is none."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def write(path: Path, content: Any) -> None:
    """Replace a file. A failure is logged only."""
    try:
        write_atomically(path, json.dumps(content).encode())
    except StoreError as error:
        _log.warning("what is known of backends could not be kept: %s", error)
