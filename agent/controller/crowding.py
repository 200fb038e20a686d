# SPDX-License-Identifier: GPL-2.0-or-later
"""Counts the connections of backends that may have so many only, and tells when one is full, or is so no more."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from time import monotonic

from agent.model import Farm
from agent.scheduling import full

_log = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds until connections are counted again when that failed; what was full stays so meanwhile."""

Count = Callable[[Collection[full.Key]], Awaitable[Mapping[full.Key, int]]]


class Crowding:
    """Which backends are full. Without a backend that has `max_connections` it does nothing."""

    def __init__(self, count: Count, changed: Callable[[set[str]], None]) -> None:
        """`count`: the open connections of these backends; `changed` is called with the farms that have others full."""
        self._count = count
        self._changed = changed
        self._limits: Mapping[full.Key, int] = {}
        self._any = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self.full: frozenset[full.Key] = frozenset()

    def watch(self, farms: Mapping[str, Farm]) -> None:
        """From now on count those of the backends of `farms` that may have so many only."""
        self._limits = full.watched(farms)
        self.full &= self._limits.keys()
        if not self._limits:
            self._any.clear()
            return
        self._any.set()
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name="count connections")

    async def begin(self, farms: Mapping[str, Farm]) -> None:
        """Watch, and count once before anything is decided: an agent that restarts finds who is full."""
        self.watch(farms)
        try:
            await self.look()
        except OSError as error:
            _log.warning("the connections of backends cannot be counted: %s", error)

    async def look(self) -> float:
        """Count once; the seconds until it should be done again. Raises OSError."""
        if not self._limits:
            return 0
        begun = monotonic()
        active = await self._count(self._limits.keys())
        limits, before = self._limits, self.full
        self.full = full.full_after(limits, active, before)
        for farm, name in sorted(self.full - before):
            _log.info("backend %s of farm %s is full: %s connections are open", name, farm, active[farm, name])
        for farm, name in sorted(before - self.full):
            _log.info("backend %s of farm %s takes connections again", name, farm)
        if self.full != before:
            self._changed({farm for farm, _ in self.full ^ before})
        return full.pause(limits, active, self.full, monotonic() - begun)

    async def stop(self) -> None:
        """Stop counting."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    async def _keep(self) -> None:
        while True:
            await self._any.wait()
            try:
                wait = await self.look()
            except OSError as error:
                _log.warning("the connections of backends cannot be counted: %s", error)
                wait = RETRY
            await asyncio.sleep(wait)
