# SPDX-License-Identifier: GPL-2.0-or-later
"""What backends got and what passed: nftables counts new connections, connection tracking everything else."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct
from time import monotonic
from typing import Any

from agent.dataplane import elements
from agent.dataplane.endings import Endings
from agent.dataplane.forwarded import backend_of
from agent.dataplane.ledger import NOTHING, Passed
from agent.dataplane.readback import HOPS, TARGETS
from agent.dataplane.ruleset import Ruleset
from agent.dataplane.tables import FLOWS

_log = logging.getLogger(__name__)

_MARK = Struct("=I")
_ORIGINS = ("origins4", "origins6")
"""The sets that count what backends answer whose packets are rewritten at ingress."""
_LOST_FOR = 3600.0
"""Seconds for which it is told that something was not counted."""

Who = tuple[str, str]
"""A farm and one of its backends."""


@dataclass(frozen=True)
class Counters:
    """What a backend has and had. Bytes with IP headers; in = from clients."""

    active: int = 0
    """Connections that are open now (UDP: flows)."""
    new: int = 0
    """Connections since the backend is in the kernel."""
    packets_in: int = 0
    bytes_in: int = 0
    packets_out: int = 0
    bytes_out: int = 0


class Counting:
    """Counts for the network namespace of the thread that `listen` is first called in. One call at a time."""

    def __init__(self) -> None:
        self._endings: Endings | None = None
        self._known: dict[int, tuple[Who, Passed, Passed]] = {}

    def listen(self) -> Endings:
        """Begin to hear what ended, if that has not begun yet. Raises OSError."""
        if self._endings is None:
            self._endings = Endings()
        return self._endings

    def close(self) -> None:
        """Listen no longer."""
        if self._endings is not None:
            self._endings.close()
            self._endings = None

    def counters(self, ruleset: Ruleset) -> dict[Who, Counters]:
        """The counters of every backend of `ruleset`, which the kernel holds. Raises OSError.

        What is forwarded at ingress passes connection tracking by: its sets count. Of its flows at most
        `elements.MOST_FLOWS` of an IP family are counted as open.
        """
        marks, endings = ruleset.marks(), self.listen()
        if self._known:
            known, self._known = self._known, {}
            endings.restore(
                {mark: (ended, total) for mark, (who, ended, total) in known.items() if marks.get(mark) == who}
            )
        active, totals = endings.totals(marks.keys())
        figures = {mark: [active.get(mark, 0), 0, *totals.get(mark, NOTHING)] for mark in marks}
        nowhere = [0] * 6
        for set_name in (*TARGETS, *HOPS, *_ORIGINS, "begun"):
            keys = [key for part in ruleset.parts.values() for key in part.elements.get(set_name, ())]
            for key, packets, octets in elements.counters(set_name, keys) if keys else ():
                counted = figures.get(backend_of(_MARK.unpack_from(key)[0]), nowhere)
                if set_name in HOPS:
                    counted[2] += packets
                    counted[3] += octets
                elif set_name in _ORIGINS:
                    counted[4] += packets
                    counted[5] += octets
                else:
                    counted[1] += packets
        if any(part.farm.at_ingress for part in ruleset.parts.values()):
            for set_name in FLOWS:
                for mark, number in elements.flows(set_name).items():
                    figures.get(backend_of(mark), nowhere)[0] += number
        return {who: Counters(*figures[mark]) for mark, who in marks.items()}

    def export(self, ruleset: Ruleset) -> dict[str, Any]:
        """What a later run needs to go on counting, for `restore`; made of what JSON has."""
        marks = ruleset.marks()
        found = self._endings.export() if self._endings else {}
        return {str(mark): [*marks[mark], *each] for mark, each in found.items() if mark in marks}

    def restore(self, known: object) -> None:
        """Go on from an earlier run's `export`, for backends whose marks are the same still; nonsense is ignored."""
        for mark, entry in known.items() if isinstance(known, Mapping) else ():
            try:
                farm, backend, ended, total = entry
                self._known[int(mark)] = (str(farm), str(backend)), _passed(ended), _passed(total)
            except (TypeError, ValueError):
                continue

    def hindrance(self) -> str | None:
        """Why totals are lower than what passed, in a sentence; None where they are not."""
        lost_at = self._endings.lost_at if self._endings else None
        if lost_at is None or monotonic() - lost_at > _LOST_FOR:
            return None
        return (
            "In the last hour connections ended faster than they could be counted: what they passed after they were "
            "last seen is missing in the bytes and packets of their backends."
        )


def _passed(figures: Any) -> Passed:
    packets_in, bytes_in, packets_out, bytes_out = (max(int(figure), 0) for figure in figures)
    return packets_in, bytes_in, packets_out, bytes_out
