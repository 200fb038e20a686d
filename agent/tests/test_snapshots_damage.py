# SPDX-License-Identifier: GPL-2.0-or-later
"""The store on a disk whose files are damaged, lost or another software's."""

import contextlib
import json
import random
import sqlite3

import pytest
from stores import codes, commit, hostname, opened, with_two

from agent.snapshots import StoreError

SQLITE_HEADER = 100


@pytest.fixture
def directory(memory_path):
    return with_two(memory_path / "data")


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
