# SPDX-License-Identifier: GPL-2.0-or-later
"""The store on disks that are missing, read-only or full."""

import shutil

import mounts
import pytest
from stores import codes, commit, hostname, named, opened, with_two
from system_calls import run

from agent.snapshots import Store, StoreFull, StoreReadOnly


@pytest.fixture
def directory(memory_path):
    return with_two(memory_path / "data")


def test_without_a_directory_it_works_in_memory_and_says_so(memory_path):
    store = opened(memory_path / "not" / "there")
    assert not store.lasting
    assert codes(store) == ["data-missing"]
    commit(store, "one")
    assert commit(store, "two").number == 2
    store.abandon(store.prepare(named("three"), author="admin").number)
    assert hostname(store) == "two"
    assert [entry.number for entry in store.list()] == [2, 1]
    assert not (memory_path / "not").exists()
    store.close()


def test_a_file_in_place_of_the_directory_is_a_missing_directory(memory_path):
    (memory_path / "data").write_text("a file")
    store = opened(memory_path / "data")
    assert codes(store) == ["data-missing"]
    store.close()


def test_read_only_it_is_read_and_refuses_to_write(directory):
    def work():
        mounts.read_only(directory)
        store = opened(directory)
        assert codes(store) == ["data-read-only"]
        assert not store.lasting
        assert hostname(store) == "two"
        assert [entry.number for entry in store.list()] == [2, 1]
        assert store.get(1).configuration() == named("one")
        with pytest.raises(StoreReadOnly):
            store.prepare(named("three"), author="admin")
        assert hostname(store) == "two"
        store.close()

    mounts.apart(work)


def test_read_only_what_is_in_the_log_only_is_read_too(directory):
    # Killed after the commit, before the log was moved into the database.
    def work():
        store = opened(directory)
        commit(store, "three")

    whole = directory.parent / "whole"
    shutil.copytree(directory, whole)
    calls = run(whole, lambda: commit(opened(whole), "three")).calls
    moved = [step for step, call in enumerate(calls) if call.name == "pwrite" and call.file == "snapshots.db"]
    assert run(directory, work, kill_at=moved[0]).killed
    (directory / "last-good.json").unlink()
    assert (directory / "snapshots.db-wal").stat().st_size > 0

    def look():
        mounts.read_only(directory)
        store = opened(directory)
        assert hostname(store) == "three"
        assert codes(store) == ["data-read-only"]
        store.close()

    mounts.apart(look)


def test_read_only_what_was_pending_counts_as_abandoned(directory):
    store = opened(directory)
    store.prepare(named("three"), author="admin")
    store.close()

    def work():
        mounts.read_only(directory)
        store = Store.open(directory, software="1")
        recovery = store.recover()
        assert (recovery.in_force.number, recovery.abandoned) == (2, 3)
        assert store.get(3).outcome == "abandoned"
        assert [entry.number for entry in store.list()] == [2, 1]
        assert [entry.outcome for entry in store.list(abandoned=True)] == ["abandoned", "committed", "committed"]
        store.close()

    mounts.apart(work)


def test_read_only_and_damaged_the_copy_is_in_force(directory):
    (directory / "snapshots.db").write_bytes(b"garbage " * 1000)

    def work():
        mounts.read_only(directory)
        store = opened(directory)
        assert hostname(store) == "two"
        assert codes(store) == ["data-read-only", "snapshots-damaged"]
        with pytest.raises(StoreReadOnly):
            store.prepare(named("three"), author="admin")
        store.close()

    mounts.apart(work)


def test_a_disk_that_becomes_read_only_while_it_runs(directory):
    def work():
        mounts.small(directory.parent / "mount", 4096)
        place = directory.parent / "mount"
        store = opened(place)
        commit(store, "one")
        number = store.prepare(named("two"), author="admin").number
        mounts.read_only(place)
        # The open files can be written still; a new one cannot.
        store.confirm(number)
        assert codes(store) == ["snapshots-copy"]
        assert hostname(store) == "two"
        store.close()
        again = opened(place)
        assert hostname(again) == "two"
        assert codes(again) == ["data-read-only"]
        again.close()

    (directory.parent / "mount").mkdir()
    mounts.apart(work)


def test_a_full_disk_keeps_what_is_in_force_at_whatever_byte_it_fills(memory_path):
    place = memory_path / "mount"
    place.mkdir()

    def work():
        mounts.small(place, 2048)
        outcomes = set()
        store = opened(place)
        commit(store, "start", farms=200)
        store.close()
        for leave in range(0, 120, 4):
            store = opened(place)
            before = hostname(store)
            filler = mounts.fill(place, leave)
            name = f"left-{leave}"
            try:
                number = store.prepare(named(name, farms=200), author="admin").number
            except StoreFull:
                outcomes.add("prepare")
                assert "data-full" in codes(store)
            else:
                try:
                    store.confirm(number)
                    outcomes.add("confirmed")
                except StoreFull:
                    outcomes.add("confirm")
                    assert "data-full" in codes(store)
                    store.abandon(number)
            expected = hostname(store)
            assert expected in (before, name)
            store.close()
            again = opened(place)
            assert hostname(again) == expected, leave
            again.close()
            filler.unlink()
        store = opened(place)
        assert store.lasting
        assert codes(store) == []
        commit(store, "after", farms=200)
        assert codes(store) == []
        store.close()
        assert outcomes >= {"prepare", "confirmed"}

    mounts.apart(work)


def commit_until_it_fails(store):
    for count in range(100):
        commit(store, f"n{count}", farms=250)


def test_a_full_disk_is_told_until_a_commit_works_again(memory_path):
    place = memory_path / "mount"
    place.mkdir()

    def work():
        mounts.small(place, 1024)
        store = opened(place)
        commit(store, "one")
        filler = mounts.fill(place)
        with pytest.raises(StoreFull):
            commit_until_it_fails(store)
        assert codes(store) == ["data-full"]
        assert hostname(store) is not None
        filler.unlink()
        commit(store, "two")
        assert codes(store) == []
        store.close()

    mounts.apart(work)


def test_a_first_start_on_a_full_disk_works_in_memory(memory_path):
    place = memory_path / "mount"
    place.mkdir()

    def work():
        mounts.small(place, 256)
        mounts.fill(place)
        store = opened(place)
        assert not store.lasting
        assert codes(store) == ["data-full"]
        assert commit(store, "one").number == 1
        store.close()

    mounts.apart(work)
