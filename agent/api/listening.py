# SPDX-License-Identifier: GPL-2.0-or-later
"""The socket that the API listens on: systemd's, or one of our own."""

import os
import socket
import stat
from pathlib import Path

FIRST = 3
"""The first file descriptor that systemd hands over, as sd_listen_fds(3) says."""


class NoSocket(Exception):
    """There is nothing to listen on; the message says why."""


def listening_socket(path: Path) -> socket.socket:
    """The Unix socket that systemd hands over, else a new one at `path` with mode 0660. Raises NoSocket."""
    inherited = _inherited()
    return inherited if inherited is not None else _new(path)


def _inherited() -> socket.socket | None:
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    count = os.environ.get("LISTEN_FDS", "")
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)  # they are for this process, not for those that it starts
    if count != "1":
        raise NoSocket(f"systemd hands over {count or 'no'} sockets; the agent takes one")
    os.set_inheritable(FIRST, False)
    found = socket.socket(fileno=FIRST)
    if found.family != socket.AF_UNIX or found.type != socket.SOCK_STREAM:
        raise NoSocket("the socket that systemd hands over is no Unix stream socket")
    return found


def _new(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        before = os.umask(0o117)
        try:
            made.bind(str(path))
        finally:
            os.umask(before)
        made.listen()
    except OSError as error:
        made.close()
        raise NoSocket(f"can't listen on {path}: {error.strerror or error}") from None
    except NoSocket:
        made.close()
        raise
    return made


def _remove_stale(path: Path) -> None:
    """Remove the socket of an agent that is gone; never another file, nor the socket of one that lives."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise NoSocket(f"{path} exists and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise NoSocket(f"another agent listens on {path}")
