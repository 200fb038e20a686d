# SPDX-License-Identifier: GPL-2.0-or-later
"""Sessions and API tokens. Both are told once and stored as SHA-256: who reads the database cannot use them."""

import hashlib
import secrets
import sqlite3
from datetime import UTC, datetime

from agent.access.types import Identity, NewSession
from agent.access.vault import Vault

IDLE_S = 12 * 3600.0
"""A session ends this long after its last use ..."""
ABSOLUTE_S = 7 * 24 * 3600.0
"""... and this long after its begin."""
NOTED_AFTER_S = 300.0
"""A use is written down when the last one noted is older than this: not every request costs a write."""
SKEW_S = 3600.0
"""A session from further in the future than this began under a wrong clock, and has ended."""
MAX_SESSIONS = 100
"""With one more, the one that was not used for longest ends."""
MAX_BEARER = 512
"""Longer bearers are not looked at."""


def digest(bearer: str) -> str:
    """How a token is stored. It is random, so a quick hash without salt is enough."""
    return hashlib.sha256(bearer.encode("utf-8", "surrogatepass")).hexdigest()


def begin_session(connection: sqlite3.Connection, user: str, source: str, now: float) -> NewSession:
    """Make a session; the oldest ones go where there are too many, and those that have ended."""
    token = secrets.token_urlsafe(32)
    connection.execute(
        "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?)",
        (secrets.token_hex(8), digest(token), user, source, now, now),
    )
    connection.execute(
        "DELETE FROM sessions WHERE NOT (used > ? AND created > ? AND created < ?) "
        "OR id NOT IN (SELECT id FROM sessions ORDER BY used DESC, rowid DESC LIMIT ?)",
        (now - IDLE_S, now - ABSOLUTE_S, now + SKEW_S, MAX_SESSIONS),
    )
    return NewSession(token, user, datetime.fromtimestamp(now + ABSOLUTE_S, UTC))


def identify(vault: Vault, bearer: str, now: float) -> Identity | None:
    """Who a bearer belongs to; a use is noted now and then."""
    if not 0 < len(bearer) <= MAX_BEARER:
        return None
    key = digest(bearer)
    for user, created, used in vault.rows("SELECT user, created, used FROM sessions WHERE digest = ?", [key]):
        if not _holds(created, used, now):
            vault.change(lambda c: c.execute("DELETE FROM sessions WHERE digest = ?", [key]) and None)
            return None
        if abs(now - used) > NOTED_AFTER_S:
            vault.change(lambda c: c.execute("UPDATE sessions SET used = ? WHERE digest = ?", (now, key)) and None)
        return Identity(user, "session")
    for name, used in vault.rows("SELECT name, used FROM tokens WHERE digest = ?", [key]):
        if used is None or abs(now - used) > NOTED_AFTER_S:
            vault.change(lambda c: c.execute("UPDATE tokens SET used = ? WHERE digest = ?", (now, key)) and None)
        return Identity(name, "token")
    return None


def _holds(created: float, used: float, now: float) -> bool:
    return now - used < IDLE_S and now - created < ABSOLUTE_S and created - now < SKEW_S
