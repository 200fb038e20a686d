# SPDX-License-Identifier: GPL-2.0-or-later
"""The audit log: who changed what, from where, and when."""

import sqlite3

from agent.storage import plain

MAX_AUDIT = 10_000
"""Records that are kept."""


def record(connection: sqlite3.Connection, now: float, *, actor: str, source: str, action: str, detail: str) -> None:
    """Write a record in the transaction of what it tells; the oldest ones go."""
    cursor = connection.execute(
        "INSERT INTO audit (time, actor, source, action, detail) VALUES (?, ?, ?, ?, ?)",
        (now, plain(actor, 200), plain(source, 64), plain(action, 64), plain(detail, 1000)),
    )
    connection.execute("DELETE FROM audit WHERE number <= ?", [int(cursor.lastrowid or 0) - MAX_AUDIT])
