# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables of `snapshots.db`, and snapshots as rows of them."""

import contextlib
import hashlib
import sqlite3
import zlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from agent.model.answers import Outcome
from agent.snapshots.snapshot import Entry, NotFound, Snapshot
from agent.storage import Database, StoreDamaged

NAME = "snapshots.db"
VERSION = 1

# AUTOINCREMENT: a number is never given twice, even after the newest row went.
SCHEMA = (
    """CREATE TABLE snapshots (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        parent INTEGER,
        digest TEXT NOT NULL,
        author TEXT NOT NULL,
        comment TEXT NOT NULL,
        time TEXT NOT NULL,
        version INTEGER NOT NULL,
        software TEXT NOT NULL,
        document BLOB NOT NULL -- canonical JSON, compressed with zlib
    ) STRICT""",
    """CREATE TRIGGER immutable BEFORE UPDATE ON snapshots
        BEGIN SELECT RAISE(ABORT, 'a snapshot never changes'); END""",
    """CREATE TABLE abandoned (
        number INTEGER PRIMARY KEY REFERENCES snapshots (number) ON DELETE CASCADE
    ) STRICT""",
    """CREATE TABLE current (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        in_force INTEGER REFERENCES snapshots (number),
        pending INTEGER REFERENCES snapshots (number)
    ) STRICT""",
    "INSERT INTO current VALUES (1, NULL, NULL)",
)

_LEVEL = 1
"""Of zlib: for a large document a third of the usual time, and a tenth more bytes."""

_ENTRY = """SELECT s.number, s.parent, s.digest, s.author, s.comment, s.time, s.version, s.software,
    CASE WHEN a.number IS NOT NULL THEN 'abandoned' WHEN s.number = c.pending THEN 'pending' ELSE 'committed' END
    {more} FROM snapshots s CROSS JOIN current c LEFT JOIN abandoned a ON a.number = s.number """
_TYPES = (int, int | None, str, str, str, str, int, str, str, bytes)


def current(database: Database) -> tuple[int | None, int | None]:
    """The numbers in force and pending. Raises StoreError."""
    rows = database.rows("SELECT in_force, pending FROM current WHERE id = 1")
    if not rows:
        raise StoreDamaged("the row that says what is in force is not there")
    return rows[0][0], rows[0][1]


def entries(
    database: Database, limit: int, before: int | None, *, abandoned: bool, forgotten: int | None
) -> list[Entry]:
    """The newest first; `forgotten` is abandoned too, though the disk does not say so. Raises StoreError.

    A row that cannot be read is left out, so that one damaged row does not hide the others.
    """
    query = _ENTRY.format(more="") + (
        "WHERE (?1 IS NULL OR s.number < ?1) AND (?2 OR a.number IS NULL AND s.number IS NOT ?4) "
        "ORDER BY s.number DESC LIMIT ?3"
    )
    found = []
    for row in database.rows(query, (before, abandoned, limit, forgotten)):
        with contextlib.suppress(StoreDamaged):
            found.append(_entry(row))
    return [replace(entry, outcome="abandoned") if entry.number == forgotten else entry for entry in found]


def snapshot(database: Database, number: int) -> Snapshot:
    """One snapshot, its digest checked. Raises NotFound, StoreError."""
    rows = database.rows(_ENTRY.format(more=", s.document") + "WHERE s.number = ?", (number,))
    if not rows:
        raise NotFound(number)
    entry = _entry(rows[0])
    try:
        document = zlib.decompress(rows[0][9])
    except zlib.error as error:
        raise StoreDamaged(f"snapshot {number}: {error}") from error
    if hashlib.sha256(document).hexdigest() != entry.digest:
        raise StoreDamaged(f"snapshot {number}: the document is not the one that was written")
    return with_document(entry, document)


def with_document(entry: Entry, document: bytes, outcome: Outcome | None = None) -> Snapshot:
    """The snapshot of an entry and its document."""
    return Snapshot(**(vars(entry) | {"document": document, "outcome": outcome or entry.outcome}))


def insert(connection: sqlite3.Connection, entry: Entry, document: bytes, *, numbered: bool) -> int:
    """Write a row, with its own number or the next; its number. Raises sqlite3.Error."""
    cursor = connection.execute(
        "INSERT INTO snapshots VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            entry.number if numbered else None,
            entry.parent,
            entry.digest,
            entry.author,
            entry.comment,
            entry.time.isoformat(),
            entry.version,
            entry.software,
            zlib.compress(document, _LEVEL),
        ),
    )
    return int(cursor.lastrowid or 0)


def prune(connection: sqlite3.Connection, *, room: int, least: int) -> None:
    """Remove the oldest rows whose documents take more than `room` bytes with the newer ones; `least` rows stay."""
    connection.execute(
        """DELETE FROM snapshots WHERE number IN (
            SELECT number FROM (
                SELECT number, sum(length(document)) OVER newest AS taken, row_number() OVER newest AS place
                FROM snapshots WINDOW newest AS (ORDER BY number DESC)
            ) WHERE taken > ? AND place > ?
        ) AND number NOT IN (SELECT in_force FROM current WHERE in_force IS NOT NULL
            UNION SELECT pending FROM current WHERE pending IS NOT NULL)""",
        (room, least),
    )


def _entry(row: Any) -> Entry:
    if not all(isinstance(value, kind) for value, kind in zip(row, _TYPES, strict=False)):
        raise StoreDamaged(f"snapshot {row[0]}: its row is not what was written")
    try:
        time = datetime.fromisoformat(row[5]).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise StoreDamaged(f"snapshot {row[0]}: its time is {row[5]!r}") from error
    return Entry(row[0], row[1], row[2], row[3], row[4], time, row[6], row[7], row[8])
