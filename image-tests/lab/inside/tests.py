# SPDX-License-Identifier: GPL-2.0-or-later
"""The only process of the guest that runs the network tests in the image's kernel: runs pytest, then switches off.

Arguments are pytest's. The exit status leaves the machine through QEMU's isa-debug-exit device at I/O port 0xf4.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

CHECKOUT = Path("/checkout")
EXIT_PORT = 0xF4


class NoSkips:
    """Skipping is for other kernels; in the kernel that ships every test must run."""

    def __init__(self) -> None:
        self.skipped: list[str] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Remember a test that pytest reports as skipped."""
        if report.skipped:
            self.skipped.append(f"{report.nodeid}: {report.longrepr}")


def main() -> int:
    os.environ.update(
        NO_COLOR="1",
        PATH="/usr/sbin:/usr/bin",
        HOME="/root",
        LANG="C.UTF-8",
        PYTHONDONTWRITEBYTECODE="1",
        HYPOTHESIS_STORAGE_DIRECTORY="/tmp/hypothesis",
    )
    subprocess.run(["ip", "link", "set", "lo", "up"], check=False)
    os.chdir(CHECKOUT)
    sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "site")]
    # Subprocesses of the tests find the same code.
    os.environ["PYTHONPATH"] = ":".join(sys.path[:2])
    import pytest  # noqa: PLC0415 - only now is it on the path

    watcher = NoSkips()
    status = int(pytest.main(sys.argv[1:], plugins=[watcher]))
    for skipped in watcher.skipped:
        print(f"SKIPPED, which must not be in this kernel: {skipped}")
    return status or int(bool(watcher.skipped))


def switch_off(status: int) -> None:
    sys.stdout.flush()
    with Path("/dev/port").open("r+b", buffering=0) as port:
        port.seek(EXIT_PORT)
        port.write(bytes([status]))


try:
    outcome = main()
except BaseException as error:  # noqa: BLE001 - whatever it is, the machine has to be switched off
    sys.excepthook(type(error), error, error.__traceback__)
    outcome = 3
switch_off(outcome)
