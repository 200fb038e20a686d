# SPDX-License-Identifier: GPL-2.0-or-later
"""Counting instructions: the time stamp counter, and what an idle machine does instead of nothing."""

import ctypes
import mmap
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# rdtsc; shl $32, %rdx; or %rdx, %rax; ret
_RDTSC = bytes.fromhex("0f31 48c1e220 4809d0 c3")
_SPIN = "import os; os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nwhile True: pass"


class Instructions:
    """Counts them. Only in a guest under icount is that what the counter counts."""

    def __init__(self) -> None:
        self._code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._code.write(_RDTSC)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._code))
        self.now = ctypes.CFUNCTYPE(ctypes.c_uint64)(address)
        """The counter."""


class Spinner:
    """A process of the lowest priority that never waits.

    Without it a machine in which all wait would jump to the next timer, and what it jumped over would be counted. What
    the spinner used itself is known to the scheduler to the nanosecond, and so to the instruction.
    """

    def __init__(self, instructions: Instructions) -> None:
        self._instructions = instructions
        self._process = subprocess.Popen([sys.executable, "-S", "-E", "-c", _SPIN])
        self._file = Path(f"/proc/{self._process.pid}/schedstat")
        # What Python's start costs is over.
        time.sleep(0.2)
        begin, used = instructions.now(), self._used()
        # All of this time is the spinner's, but for what Python and the clock's interrupts take.
        time.sleep(0.2)
        scale = (instructions.now() - begin) / max(1, self._used() - used)
        if not 0.95 < scale < 1.05:
            raise RuntimeError(f"one nanosecond of the scheduler is {scale:.3f} instructions")
        self._process.send_signal(signal.SIGSTOP)

    def _used(self) -> int:
        return int(self._file.read_text().split()[0])

    @contextmanager
    def spent(self) -> Iterator[list[int]]:
        """Counts what the block spends, all processes but the spinner together: the list has it afterwards.

        The spinner runs only meanwhile.
        """
        result: list[int] = []
        self._process.send_signal(signal.SIGCONT)
        used, begin = self._used(), self._instructions.now()
        yield result
        end = self._instructions.now()
        result.append(end - begin - (self._used() - used))
        self._process.send_signal(signal.SIGSTOP)
