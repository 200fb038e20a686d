# SPDX-License-Identifier: GPL-2.0-or-later
"""Changing the administrator's password."""

import threading

import pytest
from access_world import HERE, PASSWORD, TOKEN, cheap_hashes, refused, rows

from agent.access import Access, SessionNeeded, WeakPassword, WrongCredentials, WrongPassword

OTHER = "another password"


@pytest.fixture
def access(memory_path, monkeypatch):
    cheap_hashes(monkeypatch)
    access = Access.open(memory_path)
    access.provision(password=PASSWORD)
    yield access
    access.close()


def test_a_changed_password_holds_and_the_old_one_does_not(memory_path, access):
    mine = access.log_in("admin", PASSWORD, HERE).token
    assert access.change_password(mine, PASSWORD, OTHER, HERE) == 0
    access.close()
    access = Access.open(memory_path)
    assert access.authenticate(mine)
    with pytest.raises(WrongCredentials):
        access.log_in("admin", PASSWORD, HERE)
    assert access.log_in("admin", OTHER, HERE)
    # And no credential of a later start brings the old one back.
    access.provision(password=PASSWORD)
    assert access.log_in("admin", OTHER, HERE)
    access.close()


def test_a_changed_password_ends_the_other_sessions_and_no_api_token(access):
    access.provision(api_token=TOKEN)
    others = [access.log_in("admin", PASSWORD, f"192.0.2.{number}").token for number in (7, 8)]
    mine = access.log_in("admin", PASSWORD, HERE).token
    assert access.change_password(mine, PASSWORD, OTHER, HERE) == 2
    for token in others:
        refused(access, token)
    assert access.authenticate(mine).author == "admin"
    assert access.authenticate(TOKEN).kind == "token"


def test_a_change_of_the_password_is_one_record_without_secrets(access):
    mine, _ = (access.log_in("admin", PASSWORD, HERE).token for _ in range(2))
    before = rows(access, "SELECT max(number) FROM audit")[0][0]
    with pytest.raises(WrongPassword):
        access.change_password(mine, "wrong password", OTHER, HERE)
    with pytest.raises(WeakPassword):
        access.change_password(mine, PASSWORD, "short", HERE)
    access.change_password(mine, PASSWORD, OTHER, HERE)
    query = f"SELECT actor, source, action, detail FROM audit WHERE number > {before}"
    assert rows(access, query) == [("admin", HERE, "password", "password changed, other sessions ended: 1")]


@pytest.mark.parametrize("current", ["", "wrong password", PASSWORD + " ", OTHER, "x" * 10_000, "\ud800" * 12])
def test_without_the_current_password_nothing_changes(access, caplog, current):
    mine, other = (access.log_in("admin", PASSWORD, HERE).token for _ in range(2))
    with pytest.raises(WrongPassword):
        access.change_password(mine, current, OTHER, HERE)
    assert "change of password failed from 192.0.2.1" in caplog.text
    assert access.authenticate(mine)
    assert access.authenticate(other)
    assert access.log_in("admin", PASSWORD, HERE)


@pytest.mark.parametrize("new", ["", "123456789", "x" * 257, "\N{KEY}" * 65, "\udc00" * 20])
def test_a_new_password_keeps_the_rules_of_the_first(access, new):
    mine = access.log_in("admin", PASSWORD, HERE).token
    for current in (PASSWORD, "wrong password"):
        # Told before the current password is looked at, so that it tells nothing of that and need not count.
        for _ in range(10):
            with pytest.raises(WeakPassword):
                access.change_password(mine, current, new, HERE)
    assert access.log_in("admin", PASSWORD, HERE)


def test_only_a_session_changes_the_password(access):
    access.provision(api_token=TOKEN)
    ended = access.log_in("admin", PASSWORD, HERE).token
    access.log_out(ended)
    with pytest.raises(SessionNeeded):
        access.change_password(TOKEN, PASSWORD, OTHER, HERE)
    for bearer in (ended, "", "never was"):
        with pytest.raises(WrongCredentials):
            access.change_password(bearer, PASSWORD, OTHER, HERE)
    assert access.log_in("admin", PASSWORD, HERE)


def test_of_two_changes_at_once_one_wins_and_ends_the_session_of_the_other(access):
    tokens = [access.log_in("admin", PASSWORD, HERE).token for _ in range(2)]
    barrier = threading.Barrier(2)
    outcomes = {}

    def change(number):
        barrier.wait()
        try:
            outcomes[number] = access.change_password(tokens[number], PASSWORD, f"password of {number}", HERE)
        except WrongCredentials:
            outcomes[number] = "ended"

    threads = [threading.Thread(target=change, args=[number]) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, outcomes.values())) == ["1", "ended"]
    winner = next(number for number, outcome in outcomes.items() if outcome == 1)
    assert access.log_in("admin", f"password of {winner}", HERE)
    assert access.authenticate(tokens[winner])
    refused(access, tokens[1 - winner])


@pytest.mark.parametrize("current", [PASSWORD, "wrong password"])
def test_a_session_that_ends_while_the_password_is_checked_changes_nothing(access, monkeypatch, current):
    mine = access.log_in("admin", PASSWORD, HERE).token
    matches = access._passwords.matches

    def slow(hashed, password):
        access.log_out(mine)
        return matches(hashed, password)

    monkeypatch.setattr(access._passwords, "matches", slow)
    with pytest.raises(WrongCredentials):
        access.change_password(mine, current, OTHER, HERE)
    monkeypatch.undo()
    assert access.log_in("admin", PASSWORD, HERE)


def test_the_old_password_is_gone_from_the_files(memory_path, access):
    (before,) = rows(access, "SELECT hash FROM users")
    mine = access.log_in("admin", PASSWORD, HERE).token
    access.change_password(mine, PASSWORD, OTHER, HERE)
    access.close()
    content = b"".join(path.read_bytes() for path in memory_path.iterdir())
    assert b"$argon2id$" in content
    assert before[0].encode() not in content
