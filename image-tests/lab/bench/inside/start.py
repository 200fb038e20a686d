# SPDX-License-Identifier: GPL-2.0-or-later
"""The first process of the benchmark's guest: runs `lab.bench.inside.PART`, then switches off.

What a part reports goes, one JSON object a line, to the second serial port. The last is {"done": true}.
"""

import importlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

CHECKOUT = Path("/checkout")
EXIT_PORT = 0xF4


def prepare() -> None:
    """The kernel's own modules instead of the image's choice of them; the code on the path."""
    os.environ.update(PATH="/usr/sbin:/usr/bin", HOME="/root", LANG="C.UTF-8", PYTHONDONTWRITEBYTECODE="1")
    for command in (
        ["mount", "--bind", str(CHECKOUT / "modules/lib/modules"), "/usr/lib/modules"],
        ["ip", "link", "set", "lo", "up"],
    ):
        subprocess.run(command, check=True)
    sys.path.insert(0, str(CHECKOUT))
    os.environ["PYTHONPATH"] = str(CHECKOUT)


def main(port: TextIO) -> None:
    def report(said: Mapping[str, Any]) -> None:
        port.write(json.dumps(said) + "\n")
        port.flush()

    try:
        prepare()
        part = importlib.import_module(f"lab.bench.inside.{sys.argv[1]}")
        part.run(report, sys.argv[2:])
    except BaseException:
        report({"say": traceback.format_exc()})
        raise
    report({"done": True})


def switch_off() -> None:
    with Path("/dev/port").open("r+b", buffering=0) as io_port:
        io_port.seek(EXIT_PORT)
        io_port.write(b"\0")


if __name__ == "__main__":
    try:
        with Path("/dev/ttyS1").open("w", encoding="utf-8") as output:
            main(output)
    finally:
        switch_off()
