# SPDX-License-Identifier: GPL-2.0-or-later
"""The store on disks that are missing, read-only, full or damaged."""

import contextlib
import json
import random
import shutil
import sqlite3

import mounts
import pytest
from system_calls import run

from agent.model import Configuration
from agent.snapshots import Store, StoreError, StoreFull, StoreReadOnly

SQLITE_HEADER = 100


def named(name, farms=0):
    content = {f"farm-{count}": {"addresses": [f"192.0.2.{count + 1}"], "ports": [80]} for count in range(farms)}
    return Configuration.model_validate({"system": {"hostname": name}, "farms": content})


def commit(store, name, farms=0):
    return store.confirm(store.prepare(named(name, farms), author="admin").number)


def opened(directory):
    store = Store.open(directory, software="1")
    store.recover()
    return store


def codes(store):
    return [trouble.code for trouble in store.troubles()]


def hostname(store):
    return store.in_force() and store.in_force().configuration().system.hostname


@pytest.fixture
def directory(memory_path):
    """A data directory in which `two` is in force and `one` was."""
    place = memory_path / "data"
    place.mkdir()
    store = opened(place)
    commit(store, "one")
    commit(store, "two")
    store.close()
    return place


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


def damage_header(path):
    content = bytearray(path.read_bytes())
    content[:SQLITE_HEADER] = random.Random(1).randbytes(SQLITE_HEADER)
    path.write_bytes(content)


def damage_document(path):
    connection = sqlite3.connect(path)
    connection.execute("DROP TRIGGER immutable")
    connection.execute("UPDATE snapshots SET document = zeroblob(50)")
    connection.commit()
    connection.close()


def damage_digest(path):
    connection = sqlite3.connect(path)
    connection.execute("DROP TRIGGER immutable")
    connection.execute("UPDATE snapshots SET digest = '00'")
    connection.commit()
    connection.close()


def damage_in_force(path):
    connection = sqlite3.connect(path)
    connection.execute("UPDATE current SET in_force = 77")
    connection.commit()
    connection.close()


def damage_tables(path):
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE current")
    connection.commit()
    connection.close()


def damage_row(path):
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM current")
    connection.commit()
    connection.close()


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garbage(path):
    path.write_bytes(random.Random(2).randbytes(8192))


def other_database(path):
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE other (x)")
    connection.commit()
    connection.close()


def a_directory(path):
    path.unlink()
    path.mkdir()
    (path / "something").write_text("x")


DAMAGES = [
    damage_header,
    damage_document,
    damage_digest,
    damage_in_force,
    damage_tables,
    damage_row,
    truncate,
    garbage,
    other_database,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_database_is_set_aside_and_the_copy_is_in_force(directory, damage):
    damage(directory / "snapshots.db")
    spoilt = (directory / "snapshots.db").read_bytes()
    store = opened(directory)
    assert codes(store) == ["snapshots-damaged"]
    assert "snapshot 2 was read from its copy" in store.troubles()[0].message
    assert store.lasting
    assert (hostname(store), store.in_force().number) == ("two", 2)
    aside = [path for path in directory.iterdir() if ".corrupt-" in path.name]
    assert [path.read_bytes() for path in aside] == [spoilt]
    # Numbers that the lost part of the history may have given are not given again.
    assert commit(store, "three").number > 100
    store.close()
    again = opened(directory)
    assert codes(again) == []
    assert hostname(again) == "three"
    again.close()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_database_without_a_copy_never_stops_the_start(directory, damage):
    damage(directory / "snapshots.db")
    (directory / "last-good.json").unlink()
    store = opened(directory)
    assert codes(store) == ["snapshots-damaged"]
    assert hostname(store) == ("two" if damage is damage_in_force else None)
    assert commit(store, "new").outcome == "committed"
    store.close()


@pytest.mark.parametrize("copy", [b"", b"{}", b"[" * 100_000, b"\xff\xfe", b'{"format":1,"sha256":"00","snapshot":{}}'])
def test_a_damaged_copy_is_not_taken(directory, copy):
    garbage(directory / "snapshots.db")
    (directory / "last-good.json").write_bytes(copy)
    store = opened(directory)
    assert hostname(store) is None
    store.close()


def test_a_changed_copy_is_not_taken(directory):
    copy = json.loads((directory / "last-good.json").read_text())
    copy["snapshot"]["document"]["system"]["hostname"] = "other"
    (directory / "last-good.json").write_text(json.dumps(copy))
    garbage(directory / "snapshots.db")
    store = opened(directory)
    assert hostname(store) is None
    store.close()


def test_a_damaged_copy_is_written_anew(directory):
    (directory / "last-good.json").write_bytes(b"rubbish")
    opened(directory).close()
    garbage(directory / "snapshots.db")
    store = opened(directory)
    assert hostname(store) == "two"
    store.close()


def test_with_both_damaged_the_newest_whole_snapshot_is_in_force(directory):
    connection = sqlite3.connect(directory / "snapshots.db")
    connection.execute("DROP TRIGGER immutable")
    connection.execute("UPDATE snapshots SET digest = '00' WHERE number = 2")
    connection.commit()
    connection.close()
    (directory / "last-good.json").unlink()
    store = opened(directory)
    assert (hostname(store), store.in_force().number) == ("one", 1)
    assert codes(store) == ["snapshots-damaged"]
    store.close()


def test_a_lost_log_is_noticed(directory):
    before = (directory / "snapshots.db").read_bytes()
    store = opened(directory)
    commit(store, "three")
    store.close()
    (directory / "snapshots.db").write_bytes(before)
    again = opened(directory)
    assert (hostname(again), again.in_force().number) == ("three", 3)
    assert codes(again) == ["snapshots-damaged"]
    assert [entry.number for entry in again.list()] == [3, 2, 1]
    assert commit(again, "four").number > 3
    again.close()


def test_damaged_databases_are_not_kept_for_ever(directory):
    for count in range(6):
        (directory / "snapshots.db").write_bytes(b"%d" % count * 5000)
        opened(directory).close()
    aside = sorted(path for path in directory.iterdir() if ".corrupt-" in path.name)
    assert [path.read_bytes()[:1] for path in aside] == [b"3", b"4", b"5"]


def test_a_database_of_newer_software_is_left_alone(directory):
    connection = sqlite3.connect(directory / "snapshots.db")
    connection.execute("PRAGMA user_version = 2")
    connection.commit()
    connection.close()
    before = (directory / "snapshots.db").read_bytes()
    store = opened(directory)
    assert codes(store) == ["data-newer"]
    assert not store.lasting
    assert hostname(store) == "two"
    commit(store, "three")
    store.close()
    assert (directory / "snapshots.db").read_bytes() == before
    assert not [path for path in directory.iterdir() if ".corrupt-" in path.name]


def test_something_else_in_place_of_the_database(directory):
    a_directory(directory / "snapshots.db")
    store = opened(directory)
    assert codes(store) == ["data-failed"]
    assert not store.lasting
    assert hostname(store) == "two"
    store.close()


@pytest.mark.parametrize("seed", range(40))
def test_random_damage_never_stops_the_start(directory, seed):
    chance = random.Random(seed)
    path = directory / "snapshots.db"
    content = bytearray(path.read_bytes())
    for _ in range(chance.choice([1, 5, 50])):
        content[chance.randrange(len(content))] = chance.randrange(256)
    path.write_bytes(content)
    store = opened(directory)
    assert hostname(store) in ("one", "two")
    for entry in store.list(abandoned=True):
        with contextlib.suppress(StoreError):
            store.get(entry.number)
    try:
        number = commit(store, "three").number
    except StoreError:
        pass
    else:
        assert store.in_force().number == number
    store.close()
    again = opened(directory)
    assert hostname(again) in ("one", "two", "three")
    again.close()
