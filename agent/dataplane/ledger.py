# SPDX-License-Identifier: GPL-2.0-or-later
"""What passed in all, by connection mark: what connections that ended had passed, and what those that are open have.

Totals never fall, and never tell more than passed. Where it is not known what ended (the agent was not there, or the
kernel had more to tell than there was room for), the bytes that an ended connection was seen with still count; only
what it passed after that is lost. Pure.
"""

from collections.abc import Collection, Mapping

Passed = tuple[int, int, int, int]
"""Packets and bytes from clients, packets and bytes from backends."""

NOTHING: Passed = (0, 0, 0, 0)


class Ledger:
    """The sums. To be used from one thread at a time."""

    def __init__(self) -> None:
        self._ended: dict[int, Passed] = {}
        self._totals: dict[int, Passed] = {}

    def end(self, mark: int, passed: Passed) -> None:
        """A connection has ended, having passed this much."""
        before = self._ended.get(mark)
        self._ended[mark] = passed if before is None else _sum(before, passed)

    def ended(self) -> dict[int, Passed]:
        """What connections that ended have passed, as of now: to be taken before what is open is read."""
        return dict(self._ended)

    def count(self, ended: Mapping[int, Passed], still: Mapping[int, Passed], *, gap: bool) -> dict[int, Passed]:
        """The totals, from what had ended before what is open (`still`) was read.

        A connection that ends between the two is in neither; the total then stays until the next count finds it. `gap`:
        something that ended since the last count may be missing; what was seen of it is taken over.
        """
        for mark in {*self._totals, *ended, *still}:
            total = self._totals.get(mark, NOTHING)
            here = still.get(mark, NOTHING)
            if gap:
                # What ended since `ended` was taken is counted as open, too: too little rather than too much.
                missing = _short(total, _sum(self._ended.get(mark, NOTHING), here))
                if missing != NOTHING:
                    self.end(mark, missing)
            self._totals[mark] = _most(total, _sum(ended.get(mark, NOTHING), here))
        return dict(self._totals)

    def keep(self, marks: Collection[int]) -> None:
        """Forget all marks but these."""
        for sums in (self._ended, self._totals):
            for mark in sums.keys() - marks:
                del sums[mark]

    def export(self) -> dict[int, tuple[Passed, Passed]]:
        """For each mark what ended and the total, for `restore` in a later run."""
        marks = {*self._ended, *self._totals}
        return {mark: (self._ended.get(mark, NOTHING), self._totals.get(mark, NOTHING)) for mark in marks}

    def restore(self, known: Mapping[int, tuple[Passed, Passed]]) -> None:
        """Go on from an earlier run's `export`. The next count has a gap."""
        for mark, (ended, total) in known.items():
            self.end(mark, ended)
            self._totals[mark] = _most(self._totals.get(mark, NOTHING), total)


def _sum(one: Passed, other: Passed) -> Passed:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3]


def _most(one: Passed, other: Passed) -> Passed:
    return max(one[0], other[0]), max(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])


def _short(wanted: Passed, found: Passed) -> Passed:
    """What `found` has less than `wanted`."""
    return (
        max(wanted[0] - found[0], 0),
        max(wanted[1] - found[1], 0),
        max(wanted[2] - found[2], 0),
        max(wanted[3] - found[3], 0),
    )
