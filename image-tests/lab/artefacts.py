# SPDX-License-Identifier: GPL-2.0-or-later
"""What is kept of a test that failed: build/artefacts/<test>/."""

import contextlib
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lab import journal
from lab.appliance import Appliance
from lab.host import BUILD

ARTEFACTS = BUILD / "artefacts"

_QUESTIONS = {
    "units.txt": ["systemctl", "list-units", "--all", "--no-pager"],
    "ruleset.txt": ["nft", "list", "ruleset"],
    "addresses.txt": ["networkctl", "status", "--all", "--no-pager"],
    "connections.txt": ["cat", "/proc/net/nf_conntrack"],
    "data.txt": ["df", "-h"],
}


def folder_for(test: str) -> Path:
    """The folder for the artefacts of `test` (a pytest node's name)."""
    folder = ARTEFACTS / re.sub(r"[^A-Za-z0-9_.-]+", "-", test).strip("-")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def collect(folder: Path, appliance: Appliance, saved: Path | None = None) -> None:
    """Copy what tells the story of `appliance` into `folder`; `saved` is where its saved state came from."""
    machine = appliance.machine
    if machine.running:
        # The machine may be in any state: whatever it does not answer is simply not there.
        with contextlib.suppress(Exception):
            machine.screenshot(folder / "screen.png")
        for name, command in _QUESTIONS.items():
            with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
                (folder / name).write_text(appliance.run(*command, check=False, seconds=20), encoding="utf-8")
    with contextlib.suppress(RuntimeError):
        (folder / "console.txt").write_text(machine.console.text, encoding="utf-8")
    entries = journal.read(saved / "journal.json") if saved else []
    (folder / "journal.txt").write_text(journal.as_text([*entries, *appliance.journal()]), encoding="utf-8")
    _copy(machine.folder, folder, ["qemu.log", "mgmt.pcap", "clients.pcap", "backends.pcap"])
    _copy(machine.folder.parent, folder, ["dhcp.log"])


def _copy(source: Path, target: Path, names: Sequence[str]) -> None:
    for name in names:
        if (source / name).exists():
            shutil.copy(source / name, target / name)
