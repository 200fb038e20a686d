# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line in a process of its own, or in front of an agent of the test."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.tests.api_world import TOKEN, World, running

ROOT = Path(__file__).parents[2]


def document(tmp_path: Path, content: object) -> str:
    """The name of a file with this content."""
    path = tmp_path / "document.json"
    path.write_text(json.dumps(content))
    return str(path)


@contextmanager
def at_hand(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """An agent that commands of this process reach with its token."""
    with running(directory) as found:
        monkeypatch.setenv("SLUICE_SOCKET", str(found.socket))
        monkeypatch.setenv("SLUICE_TOKEN", TOKEN)
        yield found


def run(*arguments: str, given: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, to its end, with `given` as its input."""
    return subprocess.run(
        [sys.executable, "-m", "agent", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **environment},
        capture_output=True,
        input=given,
        text=True,
        timeout=60,
        check=False,
    )
