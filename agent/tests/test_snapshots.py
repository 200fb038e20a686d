# SPDX-License-Identifier: GPL-2.0-or-later
"""The store of snapshots on a disk that works."""

import hashlib
import json
import sqlite3
from datetime import UTC, datetime, timedelta, timezone

import pytest

from agent.model import Configuration, System, canonical, digest
from agent.snapshots import MAX_COMMENT, Conflict, NotFound, NotPending, Pending, Store, StoreBusy, StoreDamaged

TIME = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def named(name):
    return Configuration(system=System(hostname=name))


def opened(directory, **more):
    store = Store.open(directory, software="0.1.0", **more)
    store.recover()
    return store


@pytest.fixture
def store(memory_path):
    found = opened(memory_path, clock=lambda: TIME)
    yield found
    found.close()


def commit(store, name, **more):
    return store.confirm(store.prepare(named(name), author="admin", **more).number)


def test_a_new_store_is_empty_and_lasting(store):
    assert store.in_force() is None
    assert store.list() == []
    assert store.lasting
    assert store.troubles() == []


def test_a_commit_is_in_force_when_it_is_confirmed(store):
    prepared = store.prepare(named("one"), author="admin", comment="first")
    assert prepared.outcome == "pending"
    assert store.in_force() is None
    confirmed = store.confirm(prepared.number)
    assert confirmed == store.in_force() == store.get(1)
    assert confirmed.outcome == "committed"
    assert (confirmed.number, confirmed.parent, confirmed.version, confirmed.software) == (1, None, 1, "0.1.0")
    assert (confirmed.author, confirmed.comment, confirmed.time) == ("admin", "first", TIME)
    assert confirmed.document == canonical(named("one"))
    assert confirmed.digest == digest(named("one")) == hashlib.sha256(confirmed.document).hexdigest()
    assert confirmed.configuration() == named("one")


def test_times_are_kept_in_utc(memory_path):
    east = TIME.astimezone(timezone(timedelta(hours=9)))
    store = opened(memory_path, clock=lambda: east)
    assert commit(store, "one").time == TIME
    assert store.list()[0].time.tzinfo == UTC
    store.close()


def test_everything_is_there_after_a_restart(memory_path):
    store = opened(memory_path)
    commit(store, "one")
    second = commit(store, "two", parent=1)
    store.close()
    again = opened(memory_path)
    assert again.in_force() == second
    assert [entry.number for entry in again.list()] == [2, 1]
    assert again.get(1).configuration() == named("one")
    again.close()


def test_a_commit_from_another_parent_is_a_conflict(store):
    commit(store, "one")
    commit(store, "two", parent=1)
    with pytest.raises(Conflict) as caught:
        store.prepare(named("three"), author="admin", parent=1)
    assert caught.value.current == 2
    assert [entry.number for entry in store.list(abandoned=True)] == [2, 1]
    assert store.prepare(named("three"), author="admin", parent=2).parent == 2


def test_a_parent_in_an_empty_store_is_a_conflict(store):
    with pytest.raises(Conflict) as caught:
        store.prepare(named("one"), author="admin", parent=1)
    assert caught.value.current is None


def test_without_a_parent_whatever_is_in_force_is_the_parent(store):
    commit(store, "one")
    assert commit(store, "two").parent == 1


def test_an_abandoned_snapshot_is_marked_and_its_number_is_not_given_again(store):
    commit(store, "one")
    store.abandon(store.prepare(named("bad"), author="admin").number)
    assert store.in_force().configuration() == named("one")
    assert [entry.number for entry in store.list()] == [1]
    assert [(entry.number, entry.outcome) for entry in store.list(abandoned=True)] == [
        (2, "abandoned"),
        (1, "committed"),
    ]
    assert store.get(2).outcome == "abandoned"
    assert commit(store, "two").number == 3


def test_only_one_snapshot_can_be_pending(store):
    number = store.prepare(named("one"), author="admin").number
    with pytest.raises(Pending) as caught:
        store.prepare(named("two"), author="admin")
    assert caught.value.number == number
    assert store.get(number).outcome == "pending"


@pytest.mark.parametrize("step", ["confirm", "abandon"])
@pytest.mark.parametrize("number", [1, 2, 99, -1])
def test_only_the_pending_one_is_confirmed_or_abandoned(store, step, number):
    commit(store, "one")
    store.abandon(store.prepare(named("two"), author="admin").number)
    store.prepare(named("three"), author="admin")
    with pytest.raises(NotPending):
        getattr(store, step)(number)
    assert store.confirm(3).configuration() == named("three")


def test_what_was_pending_at_a_crash_is_abandoned(memory_path):
    store = opened(memory_path)
    commit(store, "one")
    store.prepare(named("two"), author="admin")
    store.close()
    again = Store.open(memory_path, software="0.1.0")
    recovery = again.recover()
    assert (recovery.in_force.number, recovery.abandoned) == (1, 2)
    assert again.get(2).outcome == "abandoned"
    assert again.recover().abandoned is None
    again.close()


def test_a_rollback_is_a_new_snapshot_with_the_old_document(store):
    first = commit(store, "one")
    commit(store, "two")
    back = store.confirm(store.prepare(store.get(1).configuration(), author="admin", comment="back").number)
    assert (back.number, back.parent, back.digest, back.document) == (3, 2, first.digest, first.document)


@pytest.mark.parametrize("number", [0, -1, 3, 2**62])
def test_a_number_that_never_was_is_not_found(store, number):
    commit(store, "one")
    with pytest.raises(NotFound):
        store.get(number)


def test_the_list_goes_back_in_pages(store):
    for count in range(7):
        commit(store, f"n{count}")
    store.abandon(store.prepare(named("bad"), author="admin").number)
    commit(store, "last")
    assert [entry.number for entry in store.list(3)] == [9, 7, 6]
    assert [entry.number for entry in store.list(3, before=6)] == [5, 4, 3]
    assert [entry.number for entry in store.list(3, before=1)] == []
    assert [entry.number for entry in store.list(3, before=9, abandoned=True)] == [8, 7, 6]


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_page_has_a_sensible_size(store, limit):
    with pytest.raises(ValueError, match="between 1 and 1000"):
        store.list(limit)


def test_author_and_comment_cannot_spoil_a_line_or_the_store(store):
    found = store.prepare(named("one"), author="ad\x00min\x1b[31m\u202e\ud800", comment="  one\r\ntwo " + "x" * 10_000)
    assert found.author == "ad min [31m"
    assert found.comment.startswith("one  two xxx")
    assert len(found.comment) == MAX_COMMENT
    assert store.confirm(found.number).author == found.author


def test_snapshots_cannot_be_changed_even_by_hand(memory_path, store):
    commit(store, "one")
    store.close()
    with (
        sqlite3.connect(memory_path / "snapshots.db") as connection,
        pytest.raises(sqlite3.IntegrityError, match="never"),
    ):
        connection.execute("UPDATE snapshots SET comment = 'other'")
    connection.close()


def test_a_second_agent_on_the_same_directory_is_refused(memory_path, store, monkeypatch):
    monkeypatch.setattr("agent.storage.database._BUSY_AFTER", 0.0)
    commit(store, "one")
    with pytest.raises(StoreBusy):
        Store.open(memory_path, software="0.1.0")
    assert commit(store, "two").number == 2


def test_the_files_are_for_their_owner_only(memory_path, store):
    commit(store, "one")
    store.prepare(named("two"), author="admin")
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in memory_path.iterdir()}
    assert modes == {"snapshots.db": "0o600", "snapshots.db-wal": "0o600", "last-good.json": "0o600"}


def test_the_copy_is_readable_and_follows_each_commit(memory_path, store):
    commit(store, "one")
    copy = json.loads((memory_path / "last-good.json").read_text())
    assert copy["snapshot"]["document"]["system"] == {"hostname": "one"}
    store.prepare(named("two"), author="admin")
    assert json.loads((memory_path / "last-good.json").read_text()) == copy
    store.confirm(2)
    assert json.loads((memory_path / "last-good.json").read_text())["snapshot"]["number"] == 2


def test_a_missing_copy_is_written_at_the_next_start(memory_path, store):
    commit(store, "one")
    before = (memory_path / "last-good.json").read_bytes()
    store.close()
    (memory_path / "last-good.json").unlink()
    opened(memory_path).close()
    assert (memory_path / "last-good.json").read_bytes() == before


def test_history_is_bounded_and_keeps_the_newest(memory_path, monkeypatch):
    monkeypatch.setattr("agent.snapshots.store.HISTORY_LEAST", 3)
    store = opened(memory_path, history_bytes=1)
    for count in range(6):
        commit(store, f"n{count}")
    assert [entry.number for entry in store.list()] == [6, 5, 4]
    for count in range(6):
        store.abandon(store.prepare(named(f"bad{count}"), author="admin").number)
    assert store.get(6).configuration() == named("n5")
    store.close()
    again = opened(memory_path)
    assert again.in_force().number == 6
    assert [entry.number for entry in again.list(abandoned=True)] == [12, 11, 10, 6]
    with pytest.raises(NotFound):
        again.get(1)
    again.close()


def test_a_damaged_old_snapshot_is_told_and_the_others_stay(memory_path, store):
    for name in ("one", "two", "three"):
        commit(store, name)
    store.close()
    spoil(memory_path, 2)
    again = opened(memory_path)
    assert again.troubles() == []
    with pytest.raises(StoreDamaged, match="snapshot 2"):
        again.get(2)
    assert again.get(1).configuration() == named("one")
    assert again.in_force().number == 3
    again.close()


def spoil(directory, number):
    connection = sqlite3.connect(directory / "snapshots.db")
    connection.execute("DROP TRIGGER immutable")
    connection.execute("UPDATE snapshots SET digest = '00' WHERE number = ?", [number])
    connection.commit()
    connection.close()


def test_a_large_document_is_kept(store):
    farms = {
        f"farm-{count}": {
            "addresses": [f"10.{count // 250}.{count % 250}.1"],
            "ports": [80],
            "backends": {f"b{other}": {"address": f"172.16.{other}.{count % 250 + 1}"} for other in range(4)},
        }
        for count in range(1000)
    }
    config = Configuration.model_validate({"farms": farms})
    found = store.confirm(store.prepare(config, author="admin").number)
    assert found.configuration() == config
    assert store.get(1).document == canonical(config)
