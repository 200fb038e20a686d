# SPDX-License-Identifier: GPL-2.0-or-later
"""Quality of service: what is done to every packet of a farm that asks for it. Pure.

    chain quality   ct mark -> the farm's number by `graded`; a packet of any other farm goes on after this one lookup
    chain grade     1 above the farm's ceiling, by `ceilings`: dropped, and counted there
                    2 the class that links' queues go by, by `classes`
                    3 the DSCP, by `markings` and a chain for each value

All of it comes with the first farm that wants it and goes with the last. A farm has one number for both IP families,
the lowest mark of its sides, so that its ceiling is one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.model import Farm, class_handle

_TYPICAL = 65_536
"""Bytes above a second's worth that pass at once: as large as a packet can be that the kernel put together."""

Element = tuple[str, str]

FIELDS = {"original": "rate_in", "reply": "rate_out"}
"""The field of a farm that has its ceiling for packets of a direction."""


@dataclass(frozen=True)
class Stage:
    """A chain that is always the same, while there is one."""

    name: str
    declaration: str
    """What makes it the chain of a hook; "" for one that others lead to."""
    rules: tuple[str, ...]
    rank: int = 0
    """How many chains of the kind it leads through, at most."""


QUALITY = Stage(
    "quality",
    "type filter hook forward priority mangle; policy accept",
    ("meta mark set ct mark map @graded goto grade",),
    1,
)
"""Where a packet that is forwarded is asked whose it is."""

GRADE = Stage(
    "grade",
    "",
    (
        "meta mark . ct direction @ceilings drop",
        "meta priority set meta mark map @classes",
        "meta mark . ct direction vmap @markings",
    ),
)
"""What is done to it."""


@dataclass(frozen=True)
class Marking:
    """Writes one DSCP value."""

    dscp: int

    @property
    def name(self) -> str:
        """The name of its chain."""
        return f"dscp_{self.dscp}"

    declaration = ""
    rank = 0

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules of its chain."""
        return (f"ip dscp set {self.dscp}", f"ip6 dscp set {self.dscp}")


def graded(farm: Farm) -> bool:
    """Whether something is to be done to every packet of `farm`."""
    return bool({"rate_in", "rate_out", "dscp_in", "dscp_out", "traffic_class"} & {*farm.packet_features()})


def elements_of(name: str, farm: Farm, number: int, marks: Iterable[int]) -> Mapping[str, Mapping[str, Element]]:
    """The elements of a farm that is graded: its number, and the marks of its backends of both families."""
    found: dict[str, dict[str, Element]] = {"graded": {str(mark): (str(number), "") for mark in marks}}
    for direction, rate, dscp in (
        ("original", farm.rate_in, farm.dscp_in),
        ("reply", farm.rate_out, farm.dscp_out),
    ):
        key = f"{number} . {direction}"
        if rate is not None:
            found.setdefault("ceilings", {})[key] = (ceiling(rate), name)
        if dscp is not None:
            found.setdefault("markings", {})[key] = (f"jump {Marking(dscp).name}", "")
    if farm.traffic_class != "normal":
        found["classes"] = {str(number): (class_handle(farm.traffic_class), "")}
    return found


def ceiling(rate: int) -> str:
    """What matches above `rate` bit/s, in the notation of nft. The kernel lets a second's worth more pass at once."""
    return f"limit rate over {rate // 8} bytes/second burst {_TYPICAL} bytes"


def chains_of(farms: Iterable[Farm]) -> frozenset[Stage | Marking]:
    """The chains that these farms want, all of which are graded."""
    found: set[Stage | Marking] = set()
    for farm in farms:
        found |= {QUALITY, GRADE, *(Marking(dscp) for dscp in (farm.dscp_in, farm.dscp_out) if dscp is not None)}
    return frozenset(found)
