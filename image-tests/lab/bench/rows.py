# SPDX-License-Identifier: GPL-2.0-or-later
"""What is to be reached, a row each, and what was: from the figures of a run to the results. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

IPVS, TRACKED, DIRECT = "ipvs nat", "ipvs nat conntrack", "ipvs dr"
PEERS = (IPVS, TRACKED, DIRECT, "ipvs dr conntrack", "iptables-legacy", "iptables-nft", "nftlb dnat", "haproxy")
PLAIN = ("routing", "conntrack")
"""What no balancer can be without: shown beside the peers, but nobody's competitor."""
WORDS = {
    "packet": "established packet",
    "flow": "new flow",
    "connection": "whole short TCP connection",
}


@dataclass(frozen=True)
class Figures:
    """What a run measured."""

    counted: Mapping[tuple[str, int], Mapping[str, float]]
    """By balancer and number of services: instructions by `packet`, `flow`, `connection` and `load`."""
    native: Mapping[str, tuple[float, str]]
    """Figure and unit by name, of the control plane."""

    def get(self, balancer: str, kind: str, services: int = 1) -> float | None:
        """A counted figure; None where it was not measured."""
        return self.counted.get((balancer, services), {}).get(kind)

    def peers(self, kind: str, services: int = 1) -> dict[str, float]:
        """The figures of all peers, and of plain routing."""
        found = {name: self.get(name, kind, services) for name in (*PLAIN, *PEERS)}
        return {name: figure for name, figure in found.items() if figure is not None}


@dataclass(frozen=True)
class Result:
    """One row of the table and of bench.json. What is not measured yet is not met."""

    name: str
    measured: float | None
    unit: str
    limit: float | None = None
    rule: str = ""
    """Where the limit comes from, in words."""
    peers: Mapping[str, float] | None = None

    @property
    def met(self) -> bool | None:
        """Whether the figure is within its limit; None where there is none."""
        if self.limit is None:
            return None
        return self.measured is not None and self.measured <= self.limit

    def winners(self) -> list[str]:
        """The peers that did better, the best first."""
        if self.measured is None or not self.peers:
            return []
        better = [(figure, name) for name, figure in self.peers.items() if name not in PLAIN and figure < self.measured]
        return [name for _, name in sorted(better)]

    def object(self) -> dict[str, Any]:
        """As it stands in bench.json."""
        return {
            "name": self.name, "measured": self.measured, "unit": self.unit, "limit": self.limit, "met": self.met,
            "peers": dict(self.peers or {}),
        }  # fmt: skip


@dataclass(frozen=True)
class Against:
    """A counted figure of Sluice that is held against others of the same run."""

    balancer: str
    kind: str
    factors: Mapping[str, float]
    """At most these times what the named ones need."""

    def result(self, figures: Figures) -> Iterator[Result]:
        """The row that this line makes of a run."""
        limits = {name: figures.get(name, self.kind) for name in self.factors}
        values = [self.factors[name] * value for name, value in limits.items() if value is not None]
        rule = " and ".join(f"{factor:.2f} × {name}" for name, factor in self.factors.items())
        yield Result(
            f"{self.balancer}: {WORDS[self.kind]}", figures.get(self.balancer, self.kind), "instructions",
            min(values) if values else None, rule, figures.peers(self.kind),
        )  # fmt: skip


@dataclass(frozen=True)
class Scaled:
    """A counted figure of Sluice with many farms, in times of what it is with one."""

    balancer: str
    kind: str
    services: int = 10_000
    limit: float = 1.03

    def result(self, figures: Figures) -> Iterator[Result]:
        """The row that this line makes of a run."""

        def times(name: str) -> float | None:
            measured = sorted(services for known, services in figures.counted if known == name)
            one = figures.get(name, self.kind, measured[0]) if measured else None
            many = figures.get(name, self.kind, self.services)
            return many / one if one and many and measured[0] < self.services else None

        peers = {name: ratio for name in PEERS if (ratio := times(name)) is not None}
        name = f"{self.balancer}: {WORDS[self.kind]} at {self.services:,} farms against 1".replace(",", " ")
        yield Result(name, times(f"{self.balancer} (mixed)"), "times", self.limit, f"{self.limit}", peers)


@dataclass(frozen=True)
class Native:
    """A figure of the control plane."""

    name: str
    limit: float | None = None
    unit: str = "s"

    def result(self, figures: Figures) -> Iterator[Result]:
        """The row that this line makes of a run."""
        measured, unit = figures.native.get(self.name, (None, self.unit))
        yield Result(self.name, measured, unit, self.limit, "" if self.limit is None else f"{self.limit:g}")


@dataclass(frozen=True)
class UseCase:
    """A new flow in one of docs/examples/, beside those who have it, too."""

    name: str

    def result(self, figures: Figures) -> Iterator[Result]:
        """The row that this line makes of a run."""
        found = {
            balancer.removeprefix(f"{self.name}: "): kinds["flow"]
            for (balancer, _), kinds in figures.counted.items()
            if balancer.startswith(f"{self.name}: ")
        }
        measured = found.pop("sluice", None)
        yield Result(f"use case {self.name}: new flow", measured, "instructions", peers=found)


Row = Against | Scaled | Native | UseCase

ROWS: tuple[Row, ...] = (
    Against("sluice dnat", "packet", {IPVS: 0.55, "routing": 1.0}),
    Against("sluice dnat", "flow", {TRACKED: 0.85}),
    Against("sluice dnat", "connection", {}),
    Against("sluice stateless", "flow", {IPVS: 0.90}),
    Against("sluice stateless", "packet", {IPVS: 1.0}),
    Against("sluice direct", "flow", {DIRECT: 0.85}),
    Against("sluice direct", "packet", {DIRECT: 0.80}),
    Against("sluice tunnel", "flow", {}),
    Against("sluice tunnel", "packet", {}),
    UseCase("round-robin"),
    UseCase("weight"),
    UseCase("weight-multiport"),
    UseCase("weight-persistence"),
    UseCase("dynamic-weights"),
    Scaled("sluice dnat", "packet"),
    Scaled("sluice dnat", "flow"),
    Scaled("sluice stateless", "packet"),
    Scaled("sluice stateless", "flow"),
    Scaled("sluice direct", "packet"),
    Scaled("sluice direct", "flow"),
    Native("document of 10 000 farms read and validated"),
    Native("document of 10 000 farms compiled"),
    Native("load 10 000 farms of 10 backends", 3.0),
    Native("agent peak memory at 10 000 farms", 350, "MB"),
    Native("one weight changed at 10 000 farms, decision to kernel", 2.0, "ms"),
    Native("the same by the clock", unit="ms"),
    Native("one farm changed in a document of 10 000: commit, validation included", 1.0),
    Native("one farm put to 10 000: commit, validation included", 1.0),
    Native("connections lost in 2000 changes under load", 0, ""),
    Native("connections lost in 500 commits under load", 0, ""),
)
"""A line each."""


def results(figures: Figures) -> list[Result]:
    """The row of each line, in order."""
    return [result for row in ROWS for result in row.result(figures)]
