# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's counters, asked for at most once a second however many ask the agent, and kept for a later run."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from agent.controller import kept
from agent.dataplane import Counters, Kernel, KernelRefused
from agent.model.state import Trouble

Run = Callable[[Callable[[], None]], Awaitable[Any]]

FRESH = 1.0
"""Seconds for which counters are answered again without asking the kernel."""
KEPT = 60.0
"""Seconds from one writing to the next: an agent that is killed has lost no more."""


@dataclass(frozen=True)
class Told:
    """What the kernel tells."""

    figures: Mapping[tuple[str, str], Counters] = field(default_factory=dict)
    """The counters of each backend."""
    turned_away: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """What limits turned away, by farm."""
    dropped: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """What each farm's settings dropped."""


class Counted:
    """Counts from `start` to `stop`."""

    def __init__(self, kernel: Kernel, file: Path) -> None:
        """`file` keeps what must survive the agent only."""
        self._kernel = kernel
        self._file = file
        self._asked = float("-inf")
        self._told = Told()
        self._keeper: asyncio.Task[None] | None = None

    def start(self, run: Run) -> None:
        """Go on from what an earlier run kept, and keep what is counted every minute; after the kernel's `adopt`.

        `run` is what the kernel's calls are made by, one at a time.
        """
        self._kernel.counting.restore(kept.read(self._file))
        self._keeper = asyncio.create_task(self._keep(run), name="keep counters")

    async def stop(self, run: Run) -> None:
        """Keep what is counted by now, and count no longer."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            await run(self._write)
        await run(self._kernel.close)

    def count(self) -> Told:
        """What the kernel tells now; what it does not tell stays as it was. Blocks: call it by `run`."""
        if monotonic() - self._asked >= FRESH:
            try:
                kernel = self._kernel
                self._told = Told(kernel.counters(), kernel.turned_away(), kernel.dropped())
            except (KernelRefused, OSError):
                return self._told
            self._asked = monotonic()
        return self._told

    def troubles(self) -> Iterator[Trouble]:
        """What keeps the counters from being whole."""
        hindrance = self._kernel.counting.hindrance()
        if hindrance:
            yield Trouble(code="traffic-incomplete", message=hindrance)

    def _write(self) -> None:
        self.count()
        kept.write(self._file, self._kernel.export())

    async def _keep(self, run: Run) -> None:
        while True:
            await asyncio.sleep(KEPT)
            await run(self._write)
