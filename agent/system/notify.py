# SPDX-License-Identifier: GPL-2.0-or-later
"""Tells systemd how the agent is: sd_notify(3), as the datagram that it is."""

import os
import socket


def notify(*lines: str) -> bool:
    """Send lines such as "READY=1", "WATCHDOG=1", "STATUS=…", "STOPPING=1". False when systemd is not listening.

    Never raises: an agent that cannot tell systemd must go on balancing; systemd's own watchdog then decides.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return False
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sock:
            sock.connect(address)
            sock.send("\n".join(lines).encode())
    except OSError:
        return False
    return True


def ready(status: str) -> bool:
    """The agent serves; `status` is what `systemctl status` shows."""
    return notify("READY=1", f"STATUS={status}")


def stopping() -> bool:
    """The agent ends."""
    return notify("STOPPING=1")


def alive() -> bool:
    """The agent's event loop turns; to be called at least every `watchdog_interval()`."""
    return notify("WATCHDOG=1")


def watchdog_interval() -> float | None:
    """Seconds between two `alive()`, half of what systemd waits for; None when it does not watch this process."""
    microseconds, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or (pid and pid != str(os.getpid())):
        return None
    return int(microseconds) / 2_000_000 or None
