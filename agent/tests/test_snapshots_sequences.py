# SPDX-License-Identifier: GPL-2.0-or-later
"""Any sequence of commits, failures, rollbacks, restarts and crashes gives what a list in memory gives."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, precondition, rule

from agent.model import Configuration, System
from agent.snapshots import Conflict, NotPending, Pending, Store

NAMES = st.sampled_from(["a", "b", "c", "d"])


@dataclass
class Known:
    name: str
    parent: int | None
    comment: str
    outcome: str


class Sequences(RuleBasedStateMachine):
    """The store beside the simplest thing that could be right."""

    numbers = Bundle("numbers")

    def __init__(self):
        super().__init__()
        shared = Path("/dev/shm")
        self.directory = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))
        self.known: dict[int, Known] = {}
        self.in_force = None
        self.pending = None
        self.last = 0
        self.store = self.opened()

    def opened(self):
        store = Store.open(self.directory, software="1")
        recovery = store.recover()
        assert recovery.abandoned == self.pending
        if self.pending is not None:
            self.known[self.pending].outcome = "abandoned"
            self.pending = None
        assert (recovery.in_force and recovery.in_force.number) == self.in_force
        return store

    @rule(name=NAMES, comment=st.text(max_size=5), parent=st.sampled_from(["none", "current", "other"]))
    def prepare(self, name, comment, parent):
        number = {"none": None, "current": self.in_force, "other": (self.in_force or 0) + 1}[parent]
        config = Configuration(system=System(hostname=name))
        if parent == "other":
            with pytest.raises(Conflict) as conflict:
                self.store.prepare(config, author="admin", comment=comment, parent=number)
            assert conflict.value.current == self.in_force
        elif self.pending is not None:
            with pytest.raises(Pending) as pending:
                self.store.prepare(config, author="admin", comment=comment, parent=number)
            assert pending.value.number == self.pending
        else:
            found = self.store.prepare(config, author="admin", comment=comment, parent=number)
            assert found.number > self.last
            self.last = self.pending = found.number
            self.known[found.number] = Known(name, self.in_force, found.comment, "pending")

    @precondition(lambda self: self.pending is not None)
    @rule(target=numbers)
    def confirm(self):
        number = self.pending
        assert self.store.confirm(number).number == number
        self.known[number].outcome = "committed"
        self.in_force, self.pending = number, None
        return number

    @precondition(lambda self: self.pending is not None)
    @rule()
    def abandon(self):
        self.store.abandon(self.pending)
        self.known[self.pending].outcome = "abandoned"
        self.pending = None

    @precondition(lambda self: self.pending is None)
    @rule(target=numbers, number=consumes(numbers))
    def roll_back(self, number):
        if number not in self.known:
            return multiple()
        old = self.store.get(number)
        found = self.store.prepare(old.configuration(), author="admin", comment="back")
        assert found.digest == old.digest
        self.store.confirm(found.number)
        self.known[found.number] = Known(self.known[number].name, self.in_force, "back", "committed")
        self.last = self.in_force = found.number
        return found.number

    @rule(offset=st.integers(1, 5))
    def wrong_number(self, offset):
        for step in (self.store.confirm, self.store.abandon):
            with pytest.raises(NotPending):
                step((self.pending or self.last) + offset)

    @rule()
    def restart(self):
        self.store.close()
        self.store = self.opened()

    @rule()
    def crash(self):
        # What a killed process leaves: the files as they are, without an orderly close.
        copy = self.directory.with_name(self.directory.name + "-copy")
        shutil.copytree(self.directory, copy)
        self.store.close()
        shutil.rmtree(self.directory)
        copy.rename(self.directory)
        self.store = self.opened()

    @precondition(lambda self: self.in_force is not None)
    @rule()
    def lose_the_database(self):
        self.store.close()
        for path in self.directory.glob("snapshots.db*"):
            path.unlink()
        self.known = {self.in_force: self.known[self.in_force]}
        self.pending = None
        self.store = self.opened()
        # Those that never came into force are forgotten; no number that was in force is given again.
        self.last = self.in_force

    @invariant()
    def agrees(self):
        in_force = self.store.in_force()
        assert (in_force and in_force.number) == self.in_force
        listed = {entry.number: entry for entry in self.store.list(1000, abandoned=True)}
        assert list(listed) == sorted(self.known, reverse=True)
        assert [entry.number for entry in self.store.list(1000)] == [
            number for number in sorted(self.known, reverse=True) if self.known[number].outcome != "abandoned"
        ]
        for number, known in self.known.items():
            entry = listed[number]
            assert (entry.outcome, entry.parent, entry.comment) == (known.outcome, known.parent, known.comment)
            assert self.store.get(number).configuration().system.hostname == known.name

    def teardown(self):
        self.store.close()
        shutil.rmtree(self.directory)


TestSequences = Sequences.TestCase
TestSequences.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
