# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a function in a process with mounts of its own: small, full and read-only file systems without harm."""

import ctypes
import os
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

_NEWNS, _NEWUSER = 0x20000, 0x10000000
_RDONLY, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 32, 4096, 16384, 1 << 18
_libc = ctypes.CDLL(None, use_errno=True)


def apart(work: Callable[[], None]) -> None:
    """Run `work` in a mount namespace (without root: in a user namespace as well); fails as it fails."""
    reader, writer = os.pipe()
    user, group = os.geteuid(), os.getegid()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of other tests do not matter to the child
        child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            _checked(_libc.unshare(_NEWNS if user == 0 else _NEWNS | _NEWUSER))
            if user != 0:
                Path("/proc/self/setgroups").write_text("deny")
                Path("/proc/self/uid_map").write_text(f"0 {user} 1")
                Path("/proc/self/gid_map").write_text(f"0 {group} 1")
            _mount(None, Path("/"), None, _REC | _PRIVATE)
            work()
        except BaseException:  # noqa: BLE001 - the parent is told, and must not go on twice
            os.write(writer, traceback.format_exc().encode()[-60_000:])
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read().decode()
    os.waitpid(child, 0)
    if told:
        raise AssertionError(told)


def small(directory: Path, kib: int) -> None:
    """Mount an empty file system of so many KiB on the directory."""
    _mount("tmpfs", directory, "tmpfs", 0, f"size={kib}k")


def read_only(directory: Path) -> None:
    """Nothing in the directory can be changed from now on."""
    _mount(str(directory), directory, None, _BIND)
    _mount(None, directory, None, _REMOUNT | _BIND | _RDONLY)


def fill(directory: Path, leave: int = 0) -> Path:
    """Fill the file system up to `leave` KiB; the file that does."""
    filler = directory / "filler"
    room = os.statvfs(directory)
    size = room.f_bavail * room.f_frsize - leave * 1024
    with filler.open("wb") as file:
        file.write(bytes(max(0, size)))
    return filler


def _mount(source: str | None, target: Path, kind: str | None, flags: int, data: str | None = None) -> None:
    texts = [None if text is None else text.encode() for text in (source, str(target), kind, data)]
    _checked(_libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3]))


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
