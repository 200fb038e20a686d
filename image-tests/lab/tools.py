# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs of the tools tree (QEMU, OVMF, erofs-utils), started on the host as it is.

The tree is a Debian of the image's release. Its programs run through its own dynamic loader with its own libraries, so
that nothing needs to be mounted and nobody needs to be root; only data files must be pointed at.
"""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from lab.build import tools_tree

_LIBRARIES = "usr/lib/x86_64-linux-gnu"


def path(relative: str) -> Path:
    """A file of the tools tree; FileNotFoundError, naming it, if the tree has none such."""
    found = tools_tree() / relative
    if not found.exists():
        raise FileNotFoundError(f"the tools tree has no /{relative}; see ToolsTreePackages= in mkosi.conf")
    return found


def command(program: str, *arguments: str) -> list[str]:
    """The command line that runs `program` ("qemu-img") of the tools tree."""
    tree = tools_tree()
    places = [tree / folder / program for folder in ("usr/bin", "usr/sbin")]
    binary = next((place for place in places if place.exists()), None)
    if binary is None:
        raise FileNotFoundError(f"the tools tree has no {program}; see ToolsTreePackages= in mkosi.conf")
    libraries = f"{tree / _LIBRARIES}:{tree / _LIBRARIES / 'systemd'}"
    return [
        str(tree / "usr/lib64/ld-linux-x86-64.so.2"),
        "--library-path", libraries,
        str(binary), *arguments,
    ]  # fmt: skip


def environment() -> Mapping[str, str]:
    """The environment for programs of the tools tree: their plug-ins are in the tree as well."""
    return {**os.environ, "QEMU_MODULE_DIR": str(tools_tree() / _LIBRARIES / "qemu")}


def run(program: str, *arguments: str) -> str:
    """Run `program` to its end and return what it printed; RuntimeError with its complaint if it failed."""
    result = subprocess.run(
        command(program, *arguments), check=False, capture_output=True, text=True, env=environment()
    )
    if result.returncode != 0:
        raise RuntimeError(f"{program} {' '.join(arguments)}: {result.stderr.strip()}")
    return result.stdout
