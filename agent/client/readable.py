# SPDX-License-Identifier: GPL-2.0-or-later
"""What the agent answers as JSON text for people."""

import json
from typing import Any

READABLE = 1 << 20
"""Characters of which somebody may still read some."""


def indented(content: Any) -> str:
    """JSON text, indented where somebody may read it: white space could make a document too large to be put."""
    text = json.dumps(content, separators=(",", ":"))
    return json.dumps(content, indent=2) if len(text) <= READABLE else text
