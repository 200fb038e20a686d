# SPDX-License-Identifier: GPL-2.0-or-later
"""Access on disks that are missing, read-only, full or damaged, and killed at every step."""

import contextlib
import shutil
import sqlite3
from datetime import timedelta

import mounts
import pytest
from access_world import HERE, PASSWORD, TOKEN, Clock, cheap_hashes
from system_calls import run

from agent.access import Access, WrongCredentials
from agent.storage import StoreBusy, StoreError

OTHER = "another password"
NEW_TOKEN = "n3w-t0ken-0123456789-0123456789"


@pytest.fixture(autouse=True)
def _cheap_hashes(monkeypatch):
    cheap_hashes(monkeypatch)


@pytest.fixture
def directory(memory_path):
    place = memory_path / "data"
    place.mkdir()
    access = Access.open(place)
    access.provision(password=PASSWORD, api_token=TOKEN)
    access.close()
    return place


def audit(access):
    """The actions in the audit log, the oldest first."""
    return [action for (action,) in access._vault.rows("SELECT action FROM audit ORDER BY number")]


def codes(access):
    return [trouble.code for trouble in access.troubles()]


def test_without_a_directory_the_box_can_be_claimed_and_says_that_it_does_not_last(memory_path):
    access = Access.open(memory_path / "none")
    assert codes(access) == ["secrets-missing"]
    session = access.claim(access.claim_code, PASSWORD, HERE)
    assert access.authenticate(session.token)
    assert access.log_in("admin", PASSWORD, HERE)
    access.close()


def test_read_only_the_administrator_logs_in_and_cannot_change_what_must_last(directory):
    def work():
        mounts.read_only(directory)
        access = Access.open(directory)
        assert codes(access) == ["secrets-read-only"]
        assert access.claimed
        session = access.log_in("admin", PASSWORD, HERE)
        assert access.authenticate(session.token)
        assert access.authenticate(TOKEN)
        access.provision(api_token=NEW_TOKEN)
        assert codes(access) == ["secrets-read-only", "provisioning-token"]
        assert access.authenticate(TOKEN)
        with pytest.raises(StoreError):
            access.change_password(session.token, PASSWORD, OTHER, HERE)
        assert access.log_in("admin", PASSWORD, HERE)
        access.audit("admin", HERE, "something")
        assert audit(access)[-1] == "something"
        access.close()

    mounts.apart(work)


def test_on_a_full_disk_the_administrator_logs_in_and_it_heals(directory):
    def work():
        place = directory.parent / "mount"
        place.mkdir()
        mounts.small(place, 1024)
        shutil.copy(directory / "secrets.db", place)
        clock = Clock()
        access = Access.open(place, clock=clock)
        filler = mounts.fill(place)
        tokens = []
        while not codes(access):
            assert len(tokens) < 100
            tokens.append(access.log_in("admin", PASSWORD, HERE).token)
        assert codes(access) == ["secrets-full"]
        for token in tokens:
            assert access.authenticate(token)
        with pytest.raises(WrongCredentials):
            access.log_in("admin", OTHER, HERE)
        access.provision(api_token=NEW_TOKEN)
        assert codes(access) == ["secrets-full", "provisioning-token"]
        access.provision()
        assert access.log_in("admin", PASSWORD, HERE)
        filler.unlink()
        assert codes(access) == ["secrets-full"]
        clock.now += timedelta(minutes=2)
        token = access.log_in("admin", PASSWORD, HERE).token
        assert codes(access) == []
        access.close()
        access = Access.open(place, clock=clock)
        for known in (*tokens, token):
            assert access.authenticate(known)
        access.close()

    mounts.apart(work)


def test_what_must_last_is_set_at_once_when_there_is_room_again(directory):
    def work():
        place = directory.parent / "mount"
        place.mkdir()
        mounts.small(place, 1024)
        access = Access.open(place)
        access.provision(password=PASSWORD)
        filler = mounts.fill(place)
        for count in range(100):
            access.audit("admin", HERE, "x" * 60, "y" * 900 + str(count))
        assert codes(access) == ["secrets-full"]
        filler.unlink()
        access.provision(api_token=NEW_TOKEN)
        assert codes(access) == []
        records = audit(access)
        access.close()
        access = Access.open(place)
        assert access.authenticate(NEW_TOKEN)
        assert audit(access) == records
        access.close()

    mounts.apart(work)


@pytest.mark.parametrize("content", [b"garbage " * 1000, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_damaged_secrets_are_set_aside_and_the_box_must_be_claimed(directory, content):
    (directory / "secrets.db").write_bytes(content)
    access = Access.open(directory)
    assert codes(access) == ["secrets-damaged"]
    assert not access.claimed
    assert access.claim(access.claim_code, OTHER, HERE)
    access.close()
    aside = [path for path in directory.iterdir() if ".corrupt-" in path.name]
    assert [path.read_bytes() for path in aside] == [content]
    access = Access.open(directory)
    assert codes(access) == []
    assert access.log_in("admin", OTHER, HERE)
    access.close()


def test_without_its_file_the_box_can_be_claimed_anew(directory):
    """What docs/security.md says of a forgotten password."""
    for path in directory.glob("secrets.db*"):
        path.unlink()
    access = Access.open(directory)
    assert codes(access) == []
    assert not access.claimed
    assert access.claim(access.claim_code, OTHER, HERE)
    access.close()


def test_damaged_and_read_only_it_works_in_memory(directory):
    (directory / "secrets.db").write_bytes(b"garbage " * 1000)

    def work():
        mounts.read_only(directory)
        access = Access.open(directory)
        assert codes(access) == ["secrets-read-only", "secrets-damaged"]
        assert access.claim(access.claim_code, OTHER, HERE)
        access.close()

    mounts.apart(work)


def test_secrets_of_newer_software_are_left_alone(directory):
    connection = sqlite3.connect(directory / "secrets.db")
    connection.execute("PRAGMA user_version = 2")
    connection.commit()
    connection.close()
    before = (directory / "secrets.db").read_bytes()
    access = Access.open(directory)
    assert codes(access) == ["secrets-newer"]
    access.close()
    assert (directory / "secrets.db").read_bytes() == before


def test_a_second_agent_is_refused(directory, monkeypatch):
    monkeypatch.setattr("agent.storage.database._BUSY_AFTER", 0.0)
    access = Access.open(directory)
    with pytest.raises(StoreBusy):
        Access.open(directory)
    access.close()


def valid(access):
    """Which of the tokens are taken."""
    found = []
    for token in (TOKEN, NEW_TOKEN):
        with contextlib.suppress(WrongCredentials):
            access.authenticate(token)
            found.append(token)
    return found


def test_killed_at_every_step_of_a_change_one_token_is_right(directory, memory_path):
    def work(place):
        access = Access.open(place)
        access.provision(api_token=NEW_TOKEN)
        access.close()

    whole = memory_path / "whole"
    shutil.copytree(directory, whole)
    calls = run(whole, lambda: work(whole)).calls
    assert len(calls) > 5
    seen = set()
    for step in range(len(calls)):
        copy = memory_path / f"killed-{step}"
        shutil.copytree(directory, copy)
        assert run(copy, lambda copy=copy: work(copy), kill_at=step).killed
        access = Access.open(copy)
        assert codes(access) == []
        right = valid(access)
        access.close()
        assert len(right) == 1
        seen.update(right)
    assert seen == {TOKEN, NEW_TOKEN}


def begun(access, password):
    """A session's token, or None if the password is not right."""
    try:
        return access.log_in("admin", password, HERE).token
    except WrongCredentials:
        return None


def test_killed_at_every_step_of_a_change_one_password_is_right_and_sessions_fit_it(directory, memory_path):
    access = Access.open(directory)
    mine, theirs = (begun(access, PASSWORD) for _ in range(2))
    access.close()

    def work(place):
        access = Access.open(place)
        access.change_password(mine, PASSWORD, OTHER, HERE)
        access.close()

    whole = memory_path / "whole"
    shutil.copytree(directory, whole)
    calls = run(whole, lambda: work(whole)).calls
    assert len(calls) > 5
    seen = set()
    for step in range(len(calls)):
        copy = memory_path / f"killed-{step}"
        shutil.copytree(directory, copy)
        assert run(copy, lambda copy=copy: work(copy), kill_at=step).killed
        access = Access.open(copy)
        assert codes(access) == []
        assert access.authenticate(mine)
        changed = begun(access, OTHER) is not None
        assert (begun(access, PASSWORD) is None) == changed
        if changed:
            with pytest.raises(WrongCredentials):
                access.authenticate(theirs)
        else:
            assert access.authenticate(theirs)
        assert audit(access).count("password") == (2 if changed else 1)
        access.close()
        seen.add(changed)
    assert seen == {True, False}


def test_a_refused_change_leaves_the_old_token(directory, memory_path):
    def work(place):
        access = Access.open(place)
        access.provision(api_token=NEW_TOKEN)
        assert valid(access) == [TOKEN if "provisioning-token" in codes(access) else NEW_TOKEN]
        access.close()

    whole = memory_path / "whole"
    shutil.copytree(directory, whole)
    count = len(run(whole, lambda: work(whole)).calls)
    for step in range(count):
        copy = memory_path / f"refused-{step}"
        shutil.copytree(directory, copy)
        result = run(copy, lambda copy=copy: work(copy), fail=lambda at, step=step: 28 if at >= step else None)
        assert result.status == 0, step
