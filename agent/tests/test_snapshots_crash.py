# SPDX-License-Identifier: GPL-2.0-or-later
"""The store is killed, refused by the disk, and cut from power at every step of what it does to the disk."""

import errno
import shutil

import pytest
from system_calls import cuts, run

from agent.model import Configuration, System
from agent.snapshots import Store, StoreError

OLD = Configuration(system=System(hostname="old"))
NEW = Configuration(system=System(hostname="new"))
MARKS = "marks"


def commit(store, config):
    return store.confirm(store.prepare(config, author="admin").number)


def mark(directory, word):
    with (directory / MARKS).open("a") as file:
        file.write(word)


@pytest.fixture
def directory(memory_path):
    """A data directory in which OLD is in force."""
    place = memory_path / "data"
    place.mkdir()
    store = Store.open(place, software="1")
    store.recover()
    commit(store, OLD)
    store.close()
    return place


def commit_new(directory):
    store = Store.open(directory, software="1")
    store.recover()
    mark(directory, "opened")
    number = store.prepare(NEW, author="admin").number
    mark(directory, "prepared")
    store.confirm(number)
    mark(directory, "confirmed")


def abandon_new(directory):
    store = Store.open(directory, software="1")
    store.recover()
    store.abandon(store.prepare(NEW, author="admin").number)


def first_start(directory):
    store = Store.open(directory, software="1")
    store.recover()
    commit(store, NEW)
    mark(directory, "confirmed")


def found(directory):
    """The host name in force after a restart, what was said to be wrong, and that the store still works."""
    store = Store.open(directory, software="1")
    try:
        recovery = store.recover()
        in_force = recovery.in_force and recovery.in_force.configuration().system.hostname
        codes = [trouble.code for trouble in store.troubles()]
        assert store.lasting
        numbers = [entry.number for entry in store.list(abandoned=True)]
        after = commit(store, Configuration(system=System(hostname="after")))
        assert after.number not in numbers
        assert after.parent == (recovery.in_force and recovery.in_force.number)
    finally:
        store.close()
    again = Store.open(directory, software="1")
    assert again.recover().in_force == after
    again.close()
    return in_force, codes


def marks(directory):
    path = directory / MARKS
    return path.read_text() if path.exists() else ""


def steps(directory, work, memory_path):
    copy = memory_path / "whole"
    shutil.copytree(directory, copy)
    whole = run(copy, lambda: work(copy))
    assert whole.status == 0
    return whole.calls


@pytest.mark.parametrize(("work", "at_end"), [(commit_new, "new"), (abandon_new, "old")], ids=["commit", "abandon"])
def test_killed_at_every_step_the_old_or_the_new_one_is_in_force(directory, memory_path, work, at_end):
    calls = steps(directory, work, memory_path)
    assert [call.name for call in calls].count("fsync") >= 2
    seen = set()
    for step in range(len(calls)):
        copy = memory_path / f"killed-{step}"
        shutil.copytree(directory, copy)
        assert run(copy, lambda copy=copy: work(copy), kill_at=step).killed
        done = "confirmed" in marks(copy)
        in_force, codes = found(copy)
        assert in_force in (("new",) if done else ("old", at_end)), f"killed before {calls[step]}"
        assert codes == []
        seen.add(in_force)
    assert seen == {"old", at_end}


def test_killed_at_every_step_of_the_first_start(memory_path):
    directory = memory_path / "data"
    directory.mkdir()
    calls = steps(directory, first_start, memory_path)
    seen = set()
    for step in range(len(calls)):
        copy = memory_path / f"killed-{step}"
        copy.mkdir()
        assert run(copy, lambda copy=copy: first_start(copy), kill_at=step).killed
        in_force, codes = found(copy)
        assert in_force in (None, "new")
        assert codes == []
        seen.add(in_force)
    assert seen == {None, "new"}


def test_killed_at_every_step_of_beginning_anew(directory, memory_path):
    (directory / "snapshots.db").write_bytes(b"garbage " * 999)
    calls = steps(directory, lambda place: Store.open(place, software="1").recover(), memory_path)
    assert "rename" in [call.name for call in calls]
    for step in range(len(calls)):
        copy = memory_path / f"killed-{step}"
        shutil.copytree(directory, copy)
        assert run(copy, lambda copy=copy: Store.open(copy, software="1").recover(), kill_at=step).killed
        in_force, _ = found(copy)
        assert in_force == "old", f"killed before {calls[step]}"


@pytest.mark.parametrize("work", [commit_new, first_start], ids=["commit", "first start"])
def test_power_cut_at_every_step(directory, memory_path, work):
    if work is first_start:
        shutil.rmtree(directory)
        directory.mkdir()
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    calls = steps(directory, work, memory_path)
    seen, states = set(), set()
    for step, guess, files in cuts(before, calls):
        confirmed = any("confirmed" in call.data.decode(errors="replace") for call in calls[:step])
        files.pop(MARKS, None)
        key = (confirmed, tuple(sorted(files.items())))
        if key in states:
            continue
        states.add(key)
        copy = memory_path / "cut"
        copy.mkdir()
        for name, content in files.items():
            (copy / name).write_bytes(content)
        in_force, codes = found(copy)
        shutil.rmtree(copy)
        at_start = "old" if before else None
        assert in_force in (("new",) if confirmed else (at_start, "new")), f"after {step} calls, {guess}"
        assert codes == [], f"after {step} calls, {guess}"
        seen.add(in_force)
    assert len(states) > 20
    assert "new" in seen


def commit_new_or_tell(directory, told):
    store = Store.open(directory, software="1")
    store.recover()
    try:
        commit(store, NEW)
    except StoreError as error:
        assert store.in_force().configuration() == OLD
        told.write_text(f"refused {error.word}")
    else:
        assert store.in_force().configuration() == NEW
        told.write_text("confirmed")
    store.close()


@pytest.mark.parametrize("how", ["once", "from then on"])
@pytest.mark.parametrize(("number", "word"), [(errno.ENOSPC, "full"), (errno.EIO, "failed")])
def test_each_call_refused_by_the_disk(directory, memory_path, number, word, how):
    told = memory_path / "told"
    calls = steps(directory, lambda place: commit_new_or_tell(place, told), memory_path)
    outcomes = set()
    for step in range(len(calls)):
        copy = memory_path / f"refused-{step}"
        shutil.copytree(directory, copy)

        def fail(count, step=step):
            return number if count == step or (count > step and how == "from then on") else None

        result = run(copy, lambda copy=copy: commit_new_or_tell(copy, told), fail=fail)
        assert result.status == 0, f"{calls[step]} failed"
        outcome = told.read_text()
        told.unlink()
        in_force, codes = found(copy)
        assert in_force == "new" or (in_force == "old" and outcome != "confirmed"), f"{calls[step]} failed"
        assert codes == []
        outcomes.add(outcome)
    assert "confirmed" in outcomes  # such as when only the copy could not be written
    assert "refused failed" in outcomes
    if word == "full":
        assert "refused full" in outcomes
