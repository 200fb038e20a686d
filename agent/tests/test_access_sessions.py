# SPDX-License-Identifier: GPL-2.0-or-later
"""Sessions, tokens and the audit log."""

from datetime import timedelta

import pytest
from access_world import HERE, PASSWORD, TOKEN, again, refused, rows

# Sessions


def test_a_session_outlasts_a_restart(memory_path, clock, access):
    token = access.log_in("admin", PASSWORD, HERE).token
    access = again(access, memory_path, clock)
    identity = access.authenticate(token)
    assert (identity.name, identity.kind, identity.author) == ("admin", "session", "admin")
    access.close()


def test_a_session_ends_when_it_is_idle(access, clock):
    token = access.log_in("admin", PASSWORD, HERE).token
    for _ in range(5):
        clock.go(hours=11, minutes=50)
        assert access.authenticate(token)
    clock.go(hours=12, seconds=1)
    refused(access, token)
    assert rows(access, "SELECT * FROM sessions") == []


def test_a_session_ends_after_a_week_however_it_is_used(access, clock):
    session = access.log_in("admin", PASSWORD, HERE)
    assert session.expires == clock.now + timedelta(days=7)
    for _ in range(16):
        clock.go(hours=10)
        assert access.authenticate(session.token)
    clock.go(hours=8)
    refused(access, session.token)


def test_a_session_of_a_clock_that_was_wrong_has_ended(access, clock):
    token = access.log_in("admin", PASSWORD, HERE).token
    clock.go(minutes=-30)
    assert access.authenticate(token)
    clock.go(days=-400)
    refused(access, token)


def test_log_out_ends_one_session(access):
    mine, other = (access.log_in("admin", PASSWORD, HERE).token for _ in range(2))
    access.log_out(mine)
    access.log_out(mine)
    access.log_out("never was")
    refused(access, mine)
    assert access.authenticate(other)


def test_the_number_of_sessions_is_bounded(access, clock, monkeypatch):
    monkeypatch.setattr("agent.access.bearers.MAX_SESSIONS", 3)
    tokens = []
    for _ in range(4):
        tokens.append(access.log_in("admin", PASSWORD, HERE).token)
        clock.go(seconds=1)
    refused(access, tokens[0])
    assert all(access.authenticate(token) for token in tokens[1:])


@pytest.mark.parametrize("bearer", ["", "x", "x" * 513, "\x00", "ä", "\ud800", "' OR 1=1 --"])
def test_rubbish_is_nobody(access, bearer):
    access.provision(api_token=TOKEN)
    refused(access, bearer)


# Tokens and audit


def test_a_use_of_a_token_is_noted_every_five_minutes(access, clock):
    access.provision(api_token=TOKEN)
    assert rows(access, "SELECT used FROM tokens") == [(None,)]
    noted = clock.now.timestamp()
    access.authenticate(TOKEN)
    clock.go(minutes=4)
    access.authenticate(TOKEN)
    assert rows(access, "SELECT used FROM tokens") == [(noted,)]


def test_the_audit_log_says_who_did_what(access, clock):
    access.log_in("admin", PASSWORD, HERE)
    access.audit("admin", HERE, "commit", "snapshot 3\n\x1b[31mforged line\u202e")
    assert rows(access, "SELECT time, actor, source, action, detail FROM audit ORDER BY number") == [
        (clock.now.timestamp(), "provisioning", "credential", "password", "password set"),
        (clock.now.timestamp(), "admin", HERE, "log-in", ""),
        (clock.now.timestamp(), "admin", HERE, "commit", "snapshot 3  [31mforged line"),
    ]


def test_the_audit_log_is_bounded(access, monkeypatch):
    monkeypatch.setattr("agent.access.audit.MAX_AUDIT", 5)
    for count in range(20):
        access.audit("admin", HERE, "commit", str(count))
    assert rows(access, "SELECT detail FROM audit ORDER BY number") == [("15",), ("16",), ("17",), ("18",), ("19",)]
