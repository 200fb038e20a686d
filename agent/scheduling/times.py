# SPDX-License-Identifier: GPL-2.0-or-later
"""Since when backends drain, or start slowly. Pure: the clock is the caller's, and outlives the agent.

Slow start: a backend of weight w that came back e seconds ago, in a farm with `slow_start` s, weighs

    w * (1 + floor(STEPS * e / s)) / STEPS        until e is 0.9 * s, and w from then on

beside the full weights of the others: a tenth at once, two tenths after a tenth of the time, and so on. Buckets want
whole numbers, so all weights of the farm are multiplied by STEPS meanwhile.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from agent.model import Backend, Configuration, Farm
from agent.model.state import Health

STEPS = 10
"""In so many steps a backend comes to its full weight."""

_LEAST_WAIT = 0.001
"""Seconds that are waited for a step at least: what a clock's rounding may leave."""

Server = tuple[str, str, str, int | None]
"""Farm, backend, address and port: a backend that moves is another server."""


@dataclass(frozen=True)
class Times:
    """When what began, in seconds of the caller's clock."""

    draining: Mapping[Server, float] = field(default_factory=dict)
    returned: Mapping[Server, float] = field(default_factory=dict)
    """Those that start slowly."""
    failed: frozenset[Server] = frozenset()
    """Those that will start slowly when they come back."""

    def after(self, farms: Mapping[str, Farm], health: Mapping[str, Mapping[str, Health]], now: float) -> Self:
        """What holds with these farms of a document and this health (by farm and backend) from `now` on.

        What began before goes on, what is over is forgotten.
        """
        draining: dict[Server, float] = {}
        returned: dict[Server, float] = {}
        failed: set[Server] = set()
        for farm_name, name, farm, backend in _timed(farms):
            server = _server(farm_name, name, backend)
            # What began later than now began by the clock of an earlier start of the machine.
            if backend.state == "drain":
                draining[server] = min(self.draining.get(server, now), now)
            if backend.state != "enabled" or farm.slow_start is None:
                continue
            known = health.get(farm_name, {}).get(name, "unknown")
            if known == "unhealthy":
                failed.add(server)
            elif server in self.returned or (server in self.failed and known == "healthy"):
                begun = min(self.returned.get(server, now), now)
                if now - begun < farm.slow_start:
                    returned[server] = begun
        return type(self)(draining, returned, frozenset(failed))

    def after_some(self, farms: Mapping[str, Farm], health: Mapping[str, Mapping[str, Health]], now: float) -> Self:
        """As `after`, but of the farms that are not among `farms` everything stays."""
        changed = self.after(farms, health, now)
        draining = {server: begun for server, begun in self.draining.items() if server[0] not in farms}
        returned = {server: begun for server, begun in self.returned.items() if server[0] not in farms}
        failed = frozenset(server for server in self.failed if server[0] not in farms)
        return type(self)({**draining, **changed.draining}, {**returned, **changed.returned}, failed | changed.failed)

    def drain_left(self, farm_name: str, farm: Farm, name: str, now: float) -> float | None:
        """Seconds until what backend `name` has left is cut; 0 or less when it was; None without a deadline."""
        begun = self.draining.get(_server(farm_name, name, farm.backends[name]))
        return None if begun is None or farm.drain_timeout is None else begun + farm.drain_timeout - now

    def drained(self, farm_name: str, farm: Farm, now: float) -> frozenset[str]:
        """The backends of a farm whose drain has come to its deadline."""
        if farm.drain_timeout is None or not self.draining:
            return frozenset()
        left = {name: self.drain_left(farm_name, farm, name, now) for name in farm.backends}
        return frozenset(name for name, seconds in left.items() if seconds is not None and seconds <= 0)

    def steps(self, farm_name: str, farm: Farm, now: float) -> dict[str, int]:
        """The backends of a farm that start slowly: at which step they are, of STEPS."""
        if farm.slow_start is None or not self.returned:
            return {}
        begun = {name: self.returned.get(_server(farm_name, name, backend)) for name, backend in farm.backends.items()}
        steps = {
            name: 1 + int(STEPS * max(now - since, 0) / farm.slow_start)
            for name, since in begun.items()
            if since is not None
        }
        return {name: step for name, step in steps.items() if step < STEPS}

    def wait(self, config: Configuration, now: float) -> float | None:
        """Seconds until something is due; None when nothing is."""
        return min(self._waits(config, now), default=None)

    def _waits(self, config: Configuration, now: float) -> Iterator[float]:
        for farm, name, _, _ in self.draining:
            left = self.drain_left(farm, config.farms[farm], name, now)
            if left is not None and left > 0:
                yield left
        for server, begun in self.returned.items():
            farm_now = config.farms[server[0]]
            step = self.steps(server[0], farm_now, now).get(server[1])
            if step and farm_now.slow_start:
                yield max(begun + farm_now.slow_start * step / STEPS - now, _LEAST_WAIT)

    def export(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            "draining": [[*server, begun] for server, begun in sorted(self.draining.items(), key=str)],
            "returned": [[*server, begun] for server, begun in sorted(self.returned.items(), key=str)],
            "failed": [[*server, 0] for server in sorted(self.failed, key=str)],
        }

    @classmethod
    def restored(cls, content: Any) -> Self:
        """From what `export` made; what is anything else is left out."""
        return cls(_entries(content, "draining"), _entries(content, "returned"), frozenset(_entries(content, "failed")))


def _timed(farms: Mapping[str, Farm]) -> Iterator[tuple[str, str, Farm, Backend]]:
    """The backends of enabled farms that may have to do with time: of thousands, few."""
    for farm_name, farm in farms.items():
        if farm.enabled:
            for name, backend in farm.backends.items():
                if farm.slow_start is not None or backend.state == "drain":
                    yield farm_name, name, farm, backend


def _server(farm: str, name: str, backend: Backend) -> Server:
    return farm, name, str(backend.address), backend.port


def _entries(content: Any, name: str) -> dict[Server, float]:
    found = content.get(name) if isinstance(content, dict) else None
    if not isinstance(found, list):
        return {}
    return {(entry[0], entry[1], entry[2], entry[3]): float(entry[4]) for entry in found if _is_entry(entry)}


def _is_entry(entry: Any) -> bool:
    shape = (str, str, str, int | None, int | float)
    return (
        isinstance(entry, list)
        and len(entry) == len(shape)
        and all(isinstance(value, kind) for value, kind in zip(entry, shape, strict=True))
    )
