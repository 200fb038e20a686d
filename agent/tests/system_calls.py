# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a function in a process of its own and stops it at each system call that changes a file.

The process is killed there, or the call fails with an error, or all is only written down, so that a power cut can be
played: which of the writes that were not synced would have reached the disk is anybody's guess.
"""

import ctypes
import errno
import os
import platform
import signal
import struct
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

_TRACEME, _SYSCALL, _SETOPTIONS, _GET_SYSCALL_INFO, _POKEUSER = 0, 24, 0x4200, 0x420E, 6
_SYSGOOD, _EXITKILL = 1, 0x100000
_ORIG_RAX, _RAX = 15 * 8, 10 * 8
_NAMES = {
    1: "write",
    18: "pwrite",
    74: "fsync",
    75: "fsync",
    77: "truncate",
    82: "rename",
    87: "unlink",
    257: "open",
}
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


@dataclass(frozen=True)
class Call:
    """A system call that changes a file of the directory, or makes a change last."""

    name: str
    file: str
    offset: int = 0
    data: bytes = b""
    target: str = ""


@dataclass
class Run:
    """What a process did: its calls, in order, and how it ended."""

    calls: list[Call] = field(default_factory=list)
    status: int = 0

    @property
    def killed(self) -> bool:
        return os.WIFSIGNALED(self.status)


def run(
    directory: Path,
    work: Callable[[], object],
    *,
    kill_at: int | None = None,
    fail: Callable[[int], int | None] = lambda _: None,
) -> Run:
    """Run `work`; kill it before its call number `kill_at`, or let calls fail with the errno that `fail` says."""
    assert platform.machine() == "x86_64", "the numbers of the system calls are those of x86-64"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of other tests do not matter to the child
        child = os.fork()
    if child == 0:
        code = 70
        try:
            _ptrace(_TRACEME, 0)
            os.kill(os.getpid(), signal.SIGSTOP)
            work()
            code = 0
        except BaseException as error:  # noqa: BLE001 - the parent is told by the status, and must not go on twice
            os.write(2, f"{error!r}\n".encode())
        finally:
            os._exit(code)
    return _follow(child, directory, kill_at, fail)


def _follow(child: int, directory: Path, kill_at: int | None, fail: Callable[[int], int | None]) -> Run:
    result = Run()
    _, status = os.waitpid(child, 0)
    assert os.WIFSTOPPED(status)
    _ptrace(_SETOPTIONS, child, data=_SYSGOOD | _EXITKILL)
    failing: int | None = None
    passed_on = 0
    while True:
        _ptrace(_SYSCALL, child, data=passed_on)
        passed_on = 0
        _, status = os.waitpid(child, 0)
        if not os.WIFSTOPPED(status):
            result.status = status
            return result
        if os.WSTOPSIG(status) != signal.SIGTRAP | 0x80:
            passed_on = os.WSTOPSIG(status)
            continue
        info = ctypes.create_string_buffer(88)
        _ptrace(_GET_SYSCALL_INFO, child, address=88, data=ctypes.addressof(info))
        if info.raw[0] == 2:
            if failing is not None:
                _ptrace(_POKEUSER, child, address=_RAX, data=-failing)
                failing = None
            continue
        number, *arguments = struct.unpack_from("<7Q", info.raw, 24)
        call = _call(child, directory, number, arguments)
        if call is None:
            continue
        if kill_at == len(result.calls):
            os.kill(child, signal.SIGKILL)
            _, result.status = os.waitpid(child, 0)
            return result
        failing = fail(len(result.calls))
        if failing is not None:
            _ptrace(_POKEUSER, child, address=_ORIG_RAX, data=-1)
        result.calls.append(call)


def _call(child: int, directory: Path, number: int, arguments: list[int]) -> Call | None:
    name = _NAMES.get(number)
    if name is None:
        return None
    by_path = name in ("rename", "unlink", "open")
    call = _by_path(child, name, arguments) if by_path else _by_descriptor(child, name, arguments)
    if call is None:
        return None
    if Path(call.file) == directory:
        return replace(call, file=".")
    return replace(call, file=Path(call.file).name) if Path(call.file).parent == directory else None


def _by_path(child: int, name: str, arguments: list[int]) -> Call | None:
    if name == "open":
        path, flags = _text(child, arguments[1]), arguments[2]
        if not flags & (os.O_CREAT | os.O_TRUNC):
            return None
        return Call(name, path, data=b"truncated" if flags & os.O_TRUNC else b"")
    path = _text(child, arguments[0])
    return Call(name, path, target=Path(_text(child, arguments[1])).name if name == "rename" else "")


def _by_descriptor(child: int, name: str, arguments: list[int]) -> Call:
    path = str(Path(f"/proc/{child}/fd/{arguments[0]}").readlink())
    if name == "fsync":
        return Call(name, path)
    if name == "truncate":
        return Call(name, path, arguments[1])
    data = _read(child, arguments[1], arguments[2])
    if name == "pwrite":
        return Call(name, path, arguments[3], data)
    return Call(name, path, int(Path(f"/proc/{child}/fdinfo/{arguments[0]}").read_text().split()[1]), data)


def _read(child: int, address: int, size: int) -> bytes:
    with Path(f"/proc/{child}/mem").open("rb", buffering=0) as memory:
        memory.seek(address)
        return memory.read(size)


def _text(child: int, address: int) -> str:
    content = b""
    while b"\0" not in content:
        # Not over the end of a page: the next one may not be there.
        step = 4096 - (address + len(content)) % 4096
        content += _read(child, address + len(content), step)
    return os.fsdecode(content.partition(b"\0")[0])


def _ptrace(request: int, child: int, address: int = 0, data: int = 0) -> None:
    if _libc.ptrace(request, child, address, data) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace {request}: {errno.errorcode.get(number)}")


@dataclass(frozen=True)
class _File:
    synced: bytes = b""
    """What is on the disk for sure."""
    waiting: tuple[Call, ...] = ()
    """Writes and truncations that may have reached it."""


def cuts(before: dict[str, bytes], calls: list[Call]) -> Iterator[tuple[int, str, dict[str, bytes]]]:
    """Every state of the directory that a power cut during `calls` could leave: after which call, which, the files.

    Of what was not synced: nothing reached the disk, all did, all but one write did, one alone did, or the last one
    half. Names that were not synced are there or not.
    """
    disk = _Disk(before)
    for count in range(len(calls) + 1):
        for word, state in _guesses(disk.files, disk.names, disk.synced_names):
            yield count, word, state
        if count < len(calls):
            disk.take(calls[count])


class _Disk:
    def __init__(self, before: dict[str, bytes]) -> None:
        self.files = {number: _File(content) for number, content in enumerate(before.values())}
        self.names = {name: number for number, name in enumerate(before)}
        self.synced_names = dict(self.names)

    def take(self, call: Call) -> None:
        if call.name == "open" and call.file not in self.names:
            self.names[call.file] = len(self.files)
            self.files[len(self.files)] = _File()
        elif call.name == "rename":
            self.names[call.target] = self.names.pop(call.file)
        elif call.name == "unlink":
            self.names.pop(call.file)
        elif call.file == ".":
            self.synced_names = dict(self.names)
        elif call.name == "fsync":
            file = self.files[self.names[call.file]]
            self.files[self.names[call.file]] = _File(_apply(file.synced, file.waiting))
        elif call.name != "open":
            self._wait(call)
        elif call.data:
            self._wait(replace(call, name="truncate", offset=0, data=b""))

    def _wait(self, call: Call) -> None:
        file = self.files[self.names[call.file]]
        self.files[self.names[call.file]] = replace(file, waiting=(*file.waiting, call))


def _guesses(
    files: dict[int, _File], names: dict[str, int], synced_names: dict[str, int]
) -> Iterator[tuple[str, dict[str, bytes]]]:
    waiting = [(number, place) for number, file in files.items() for place in range(len(file.waiting))]
    choices: list[tuple[str, set[tuple[int, int]], tuple[int, int] | None]] = [
        ("nothing", set(), None),
        ("all", set(waiting), None),
    ]
    if len(waiting) > 1:
        choices += [(f"all but {one}", set(waiting) - {one}, None) for one in waiting]
        choices += [(f"only {one}", {one}, None) for one in waiting]
    choices += [(f"half of {one}", set(waiting), one) for one in waiting[-1:]]
    for word, chosen, half in choices:
        content = {}
        for number, file in files.items():
            reached = [
                replace(call, data=call.data[: len(call.data) // 2]) if (number, place) == half else call
                for place, call in enumerate(file.waiting)
                if (number, place) in chosen
            ]
            content[number] = _apply(file.synced, tuple(reached))
        for known, which in ((names, "new names"), (synced_names, "old names")):
            if which == "new names" or names != synced_names:
                yield f"{word}, {which}", {name: content[number] for name, number in known.items()}


def _apply(content: bytes, calls: tuple[Call, ...]) -> bytes:
    result = bytearray(content)
    for call in calls:
        if call.name == "truncate":
            del result[call.offset :]
            result.extend(bytes(call.offset - len(result)))
        else:
            result.extend(bytes(max(0, call.offset - len(result))))
            result[call.offset : call.offset + len(call.data)] = call.data
    return bytes(result)
