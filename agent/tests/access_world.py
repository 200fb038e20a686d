# SPDX-License-Identifier: GPL-2.0-or-later
"""Words, clock and questions for tests of access."""

from datetime import UTC, datetime, timedelta

import pytest

from agent.access import Access, WrongCredentials

PASSWORD = "correct horse battery"
HERE = "192.0.2.1"
TOKEN = "t0ken-0123456789-0123456789"


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self):
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self):
        return self.now

    def go(self, **much):
        self.now += timedelta(**much)


def cheap_hashes(monkeypatch):
    """Passwords are hashed in no time from here on: what that costs is checked by a test of its own."""
    monkeypatch.setattr("agent.access.passwords.TIME_COST", 1)
    monkeypatch.setattr("agent.access.passwords.MEMORY_KIB", 64)


def rows(access, query):
    """What is stored: nothing of the product reads it yet, or it must not come out."""
    return access._vault.rows(query)


def refused(access, token):
    """This token is nobody's."""
    with pytest.raises(WrongCredentials):
        access.authenticate(token)


def again(access, directory, clock):
    """Close, and open as after a restart."""
    access.close()
    return Access.open(directory, clock=clock)
