# SPDX-License-Identifier: GPL-2.0-or-later
"""Run a command inside the lab: `python -m lab.enter COMMAND...`.

The command gets a user, network, mount and process namespace of its own. It needs no privilege: whoever may make
user namespaces is root in there. Nothing it does to networks is seen outside, and when it ends, however it ends, the
kernel ends every process it started.

A socket that was opened outside keeps working inside; `--listen ADDRESS:PORT` (repeatable) opens listening ones and
hands their descriptors over in LAB_LISTEN.
"""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lab import kernel

INSIDE = "LAB_INSIDE"
LISTEN = "LAB_LISTEN"


def is_inside() -> bool:
    """Whether this process runs in a lab."""
    return os.environ.get(INSIDE) == "1"


def _descriptors() -> list[int]:
    return [int(number) for number in os.environ.get(LISTEN, "").split(",") if number]


def listening_sockets() -> list[socket.socket]:
    """The sockets that were opened outside for this lab, in the order of the command line."""
    return [socket.socket(fileno=number) for number in _descriptors()]


def _become_root_in_namespaces() -> None:
    user, group = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNET | kernel.CLONE_NEWNS | kernel.CLONE_NEWPID)
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1", encoding="ascii")


def _first_process(command: Sequence[str]) -> int:
    """Be process 1 of the lab: run `command`, pass signals on, reap orphans; return its exit status."""
    kernel.die_with_parent(signal.SIGKILL)
    if not sys.stdin.isatty():
        os.setpgid(0, 0)
    kernel.make_mounts_private()
    kernel.mount("proc", "/proc", "proc")
    # Some containers do not allow a sysfs of one's own; the interfaces listed under /sys are then the host's.
    with contextlib.suppress(OSError):
        kernel.mount("sysfs", "/sys", "sysfs")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    child = subprocess.Popen(command, pass_fds=_descriptors())
    _pass_signals_to(child.pid)
    while True:
        ended, status = os.wait()
        if ended == child.pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _pass_signals_to(process: int) -> None:
    def forward(number: int, _frame: object) -> None:
        # Ctrl-C at a terminal reaches the whole foreground group by itself.
        if number != signal.SIGINT or not sys.stdin.isatty():
            os.kill(process, number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, forward)


def enter(command: Sequence[str], listen: Sequence[tuple[str, int]] = ()) -> int:
    """Run `command` in a new lab and return its exit status. The calling process can only exit after that.

    `listen` are addresses and ports of the machine's own network to open for it; OSError if one is taken.
    """
    sockets = [socket.create_server(address) for address in listen]
    os.environ[LISTEN] = ",".join(str(one.fileno()) for one in sockets)
    os.environ[INSIDE] = "1"
    sys.stdout.flush()
    _become_root_in_namespaces()
    first = os.fork()
    if first == 0:
        try:
            os._exit(_first_process(command))
        except (OSError, subprocess.SubprocessError) as error:
            print(f"lab: {error}", file=sys.stderr, flush=True)
            os._exit(125)
    _pass_signals_to(first)
    _, status = os.waitpid(first, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def main() -> int:
    """Parse the command line, run, and return the command's exit status."""
    parser = argparse.ArgumentParser(prog="python -m lab.enter", description="Run a command inside a new lab.")
    parser.add_argument("--listen", type=_address, action="append", default=[], metavar="ADDRESS:PORT")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if not arguments.command:
        parser.error("a command is needed")
    return enter(arguments.command, arguments.listen)


if __name__ == "__main__":
    sys.exit(main())
