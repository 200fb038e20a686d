# SPDX-License-Identifier: GPL-2.0-or-later
"""Totals by what ended and what is open: they never fall, never tell too much, and miss only what nobody saw."""

from hypothesis import given
from hypothesis import strategies as st

from agent.dataplane.ledger import NOTHING, Ledger

MARKS = st.integers(1, 3)


def summed(figures):
    return tuple(sum(each) for each in zip(*figures, strict=True)) if figures else NOTHING


class World:
    """Connections that pass packets and end; what ended is told, lost, or told after what is open was read."""

    def __init__(self):
        self.open, self.passed, self.gap, self.untold = [], {1: NOTHING, 2: NOTHING, 3: NOTHING}, False, False
        self.ledger = Ledger()

    def begin(self, mark):
        self.open.append([mark, NOTHING])

    def pass_on(self, number, size):
        if self.open:
            connection = self.open[number % len(self.open)]
            connection[1] = summed([connection[1], (1, size, 1, 2 * size)])
            self.passed[connection[0]] = summed([self.passed[connection[0]], (1, size, 1, 2 * size)])

    def end(self, number, told):
        if self.open:
            mark, passed = self.open.pop(number % len(self.open))
            if told:
                self.ledger.end(mark, passed)
            else:
                self.gap = self.untold = True

    def still(self):
        return {mark: summed([passed for each, passed in self.open if each == mark]) for mark in (1, 2, 3)}

    def count(self, between):
        """`between`: connections that end after what ended was taken, and before what is open is read."""
        ended, gap, self.gap = self.ledger.ended(), self.gap, False
        for number in between:
            self.end(number, told=True)
        return self.ledger.count(ended, self.still(), gap=gap)

    def restart(self):
        known = self.ledger.export()
        self.ledger = Ledger()
        self.ledger.restore(known)
        self.gap = True


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), MARKS),
        st.tuples(st.just("pass_on"), st.integers(0, 9), st.integers(40, 1500)),
        st.tuples(st.just("end"), st.integers(0, 9), st.sampled_from([True, True, True, False])),
        st.tuples(st.just("count"), st.lists(st.integers(0, 9), max_size=2)),
        st.tuples(st.just("restart")),
    ),
    max_size=60,
)


@given(STEPS)
def test_totals_never_fall_and_never_tell_more_than_passed(steps):
    world, before = World(), {}
    for name, *arguments in [*steps, ("count", [])]:
        answer = getattr(world, name)(*arguments)
        if name == "count":
            for mark, total in answer.items():
                assert all(new >= old for new, old in zip(total, before.get(mark, NOTHING), strict=True))
                assert all(told <= true for told, true in zip(total, world.passed[mark], strict=True))
            before = answer
            if not world.untold and not arguments[0]:
                assert {mark: answer.get(mark, NOTHING) for mark in world.passed} == world.passed


def test_what_was_seen_of_a_connection_counts_though_its_end_was_not_told():
    ledger = Ledger()
    assert ledger.count({}, {7: (1, 10, 1, 10)}, gap=False) == {7: (1, 10, 1, 10)}
    assert ledger.count(ledger.ended(), {}, gap=True) == {7: (1, 10, 1, 10)}
    assert ledger.count(ledger.ended(), {7: (2, 5, 2, 5)}, gap=False) == {7: (3, 15, 3, 15)}


def test_marks_that_nobody_has_any_more_are_forgotten():
    ledger = Ledger()
    ledger.end(7, (1, 1, 1, 1))
    ledger.end(8, (1, 1, 1, 1))
    ledger.count(ledger.ended(), {}, gap=False)
    ledger.keep({8})
    assert ledger.count(ledger.ended(), {}, gap=False) == {8: (1, 1, 1, 1)}
