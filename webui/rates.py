# SPDX-License-Identifier: GPL-2.0-or-later
"""Rates from counters: the agent answers totals, the pages show what happens now.

The last few answers of the agent are kept as samples, each with the agent's own time. A rate is the difference of the
newest sample and the oldest one of the last `WINDOW` seconds, divided by the time between them: it is exact for that
span, whoever polls, and however often. A counter that is not in both samples, or that went backwards (a farm
that was made anew), has no rate.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from threading import Lock

from agent.model.state import StateNow, Traffic

WINDOW = 6.0
"""Seconds that a rate looks back, at most."""

SPACING = 0.5
"""Samples closer together than this (seconds) are not kept: two pages polling at once add nothing."""

Key = tuple[str, str | None]


@dataclass(frozen=True)
class Rates:
    """What a farm or backend does now: connections and bytes each second; None where it is not known yet."""

    new: float | None = None
    bytes_in: float | None = None
    bytes_out: float | None = None


UNKNOWN = Rates()


@dataclass(frozen=True)
class _Sample:
    time: datetime
    counters: Mapping[Key, Traffic]


class Samples:
    """The last answers of the agent; shared by the threads of one process."""

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque()
        self._lock = Lock()

    def add(self, state: StateNow) -> Mapping[Key, Rates]:
        """Take an answer in, and tell the rates up to it: by (farm, None) and (farm, backend)."""
        now = _Sample(state.time, dict(_counters(state)))
        with self._lock:
            if self._samples and self._samples[-1].time > now.time:
                # The clock was set back, or two answers came out of turn; begin anew.
                self._samples.clear()
            # One sample older than the window stays when it is all there is to compare with, for another window.
            while self._samples and _seconds(self._samples[0], now) > WINDOW:
                if len(self._samples) == 1 and _seconds(self._samples[0], now) <= 2 * WINDOW:
                    break
                self._samples.popleft()
            base = self._samples[0] if self._samples else None
            if not self._samples or _seconds(self._samples[-1], now) >= SPACING:
                self._samples.append(now)
        if base is None or _seconds(base, now) < SPACING:
            return {}
        return {key: _between(base, now, key) for key in now.counters}

    @property
    def last_seen(self) -> datetime | None:
        """The agent's time at its last answer."""
        with self._lock:
            return self._samples[-1].time if self._samples else None


def _counters(state: StateNow) -> list[tuple[Key, Traffic]]:
    found: list[tuple[Key, Traffic]] = []
    for name, farm in state.farms.items():
        found.append(((name, None), farm.traffic))
        found.extend(((name, backend), now.traffic) for backend, now in farm.backends.items())
    return found


def _seconds(earlier: _Sample, later: _Sample) -> float:
    return (later.time - earlier.time).total_seconds()


def _between(base: _Sample, now: _Sample, key: Key) -> Rates:
    before, after = base.counters.get(key), now.counters[key]
    if before is None:
        return UNKNOWN
    seconds = _seconds(base, now)

    def each(earlier: int, later: int) -> float | None:
        return (later - earlier) / seconds if later >= earlier else None

    return Rates(
        each(before.new, after.new),
        each(before.bytes_in, after.bytes_in),
        each(before.bytes_out, after.bytes_out),
    )
