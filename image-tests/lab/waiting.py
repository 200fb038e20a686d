# SPDX-License-Identifier: GPL-2.0-or-later
"""Waiting for what has no event of its own: the only place in the lab that asks again and again."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Deadline:
    """A moment by which something must have happened."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self, what: str) -> float:
        """Seconds that are left, more than 0; TimeoutError, naming `what`, if none are."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"{what}: nothing within {self._seconds:g} s")
        return left

    def poll(self, attempt: Callable[[], T | None], what: str, every: float = 0.1) -> T:
        """Call `attempt` until it returns something other than None or False, and return that.

        TimeoutError, naming `what`, when the deadline passes first.
        """
        while True:
            result = attempt()
            if result is not None and result is not False:
                return result
            time.sleep(min(every, self.left(what)))


def wait_until(attempt: Callable[[], T | None], what: str, seconds: float, every: float = 0.1) -> T:
    """Call `attempt` until it returns something; TimeoutError, naming `what`, after `seconds`."""
    return Deadline(seconds).poll(attempt, what, every)
