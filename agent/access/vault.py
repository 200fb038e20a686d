# SPDX-License-Identifier: GPL-2.0-or-later
"""`secrets.db`, and a copy of it in memory for as long as the disk cannot be written."""

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from agent.model.state import Trouble
from agent.storage import Database, StoreDamaged, StoreError, StoreMissing, StoreNewer, move_aside, open_best

NAME = "secrets.db"
VERSION = 1
HEAL_AFTER_S = 60.0
"""A disk that could not be written is tried again after this."""

# Times are seconds since 1970. AUTOINCREMENT: numbers of the audit log are never given twice.
_TABLES = {
    "users": "name TEXT PRIMARY KEY, hash TEXT NOT NULL, changed REAL NOT NULL",
    "claim": "id INTEGER PRIMARY KEY CHECK (id = 1), code TEXT NOT NULL",
    "sessions": "id TEXT PRIMARY KEY, digest TEXT NOT NULL UNIQUE, user TEXT NOT NULL, source TEXT NOT NULL, "
    "created REAL NOT NULL, used REAL NOT NULL",
    "tokens": "name TEXT PRIMARY KEY, digest TEXT NOT NULL UNIQUE, created REAL NOT NULL, used REAL",
    "throttle": "kind TEXT NOT NULL, key TEXT NOT NULL, failures INTEGER NOT NULL, until REAL NOT NULL, "
    "last REAL NOT NULL, PRIMARY KEY (kind, key)",
    "known": "source TEXT PRIMARY KEY, last REAL NOT NULL",
    "audit": "number INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, actor TEXT NOT NULL, "
    "source TEXT NOT NULL, action TEXT NOT NULL, detail TEXT NOT NULL",
    "named": "name TEXT PRIMARY KEY, kind TEXT NOT NULL, value TEXT NOT NULL, changed REAL NOT NULL",
}
_SCHEMA = tuple(f"CREATE TABLE {name} ({columns}) STRICT" for name, columns in _TABLES.items())
_LATER = ("named",)
"""Tables that earlier firmware did not make. They are no new version: the other slot's firmware can still read it."""

_WORDS = {
    "missing": "There is no data partition: the password, secrets and sessions are lost at the next start, and the "
    "appliance must be claimed again. Check the disk, then restart.",
    "newer": "The password, API tokens and secrets were written by newer firmware and cannot be read by this one. "
    "Start the newer firmware again.",
    "full": "The data partition is full: no password, API token or secret can be set, and sessions end at the next "
    "start. Make the disk larger.",
}
_OTHER_WORDS = (
    "The data partition cannot be written: no password, API token or secret can be set, and sessions end at the next "
    "start. Check the disk, then restart."
)

T = TypeVar("T")


class Vault:
    """The database of secrets.

    What must last (a password) is on the disk or refused. What need not (a session, a counted failure) goes to a
    copy in memory while the disk cannot be written, so that the administrator of a full box can log in; the copy is
    written back when that is possible again.
    """

    def __init__(self, directory: Path, clock: Callable[[], float]) -> None:
        self._lock = threading.RLock()
        self._clock = clock
        self._damage: str | None = None
        self._error: StoreError | None = None
        self._copy: Database | None = None
        self._tried = 0.0
        self._disk: Database | None = None
        path = directory / NAME
        try:
            database, self._error = open_best(path, _SCHEMA, VERSION)
        except StoreNewer as error:
            database, self._error = Database.memory(_SCHEMA, VERSION), error
        except StoreDamaged as error:
            database = self._begin_anew(path, error)
        if database.mode == "memory":
            self._copy = database
        else:
            self._disk = database
            if database.mode == "read-only":
                self._fall_back(self._error or StoreError(f"{path} cannot be written"))
            else:
                self._add_tables(database)

    @property
    def lasting(self) -> bool:
        """Whether what is written now is on the disk."""
        return self._copy is None

    def troubles(self) -> list[Trouble]:
        """What is wrong now."""
        with self._lock:
            found = []
            if self._error is not None:
                words = _WORDS.get(self._error.word, _OTHER_WORDS)
                found.append(Trouble(code=f"secrets-{self._error.word}", message=words))
            if self._damage is not None:
                found.append(Trouble(code="secrets-damaged", message=self._damage))
            return found

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """What a query answers. Raises StoreError."""
        with self._lock:
            return self._current().rows(query, parameters)

    def change(self, work: Callable[[sqlite3.Connection], T], *, must_last: bool = False) -> T:
        """Do `work` in a transaction; it may be called a second time, on the copy. Raises StoreError if it must last.

        Where there never was a disk, or none that could be read, nothing lasts, and nothing is refused either: no
        old password comes back.
        """
        with self._lock:
            if self._copy is not None and self._disk is not None:
                self._heal(at_once=must_last)
            if self._copy is None and self._disk is not None:
                try:
                    with self._disk.transaction() as connection:
                        return work(connection)
                except StoreError as error:
                    self._fall_back(error)
            if must_last and self._disk is not None and self._error is not None:
                raise self._error
            with self._current().transaction() as connection:
                return work(connection)

    def close(self) -> None:
        """Let go of the database."""
        with self._lock:
            for database in (self._disk, self._copy):
                if database is not None:
                    database.close()

    def _current(self) -> Database:
        database = self._copy or self._disk
        if database is None:
            raise StoreMissing("the secrets are closed")
        return database

    def _add_tables(self, database: Database) -> None:
        try:
            with database.transaction() as connection:
                for name in _LATER:
                    connection.execute(f"CREATE TABLE IF NOT EXISTS {name} ({_TABLES[name]}) STRICT")
        except StoreError as error:
            self._fall_back(error)

    def _begin_anew(self, path: Path, error: StoreDamaged) -> Database:
        self._damage = (
            f"The password, API tokens, secrets and sessions were damaged ({error}) and are set aside; "
            "claim the appliance again with the code that its console shows."
        )
        try:
            move_aside(path)
            database, self._error = open_best(path, _SCHEMA, VERSION)
        except StoreError as refused:
            database, self._error = Database.memory(_SCHEMA, VERSION), refused
        return database

    def _fall_back(self, error: StoreError) -> None:
        self._error = error
        self._tried = self._clock()
        if self._copy is None and self._disk is not None:
            copy = Database.memory(_SCHEMA, VERSION)
            with copy.transaction() as connection:
                for name in _TABLES:
                    with contextlib.suppress(StoreError):
                        _fill(connection, name, self._disk.rows(f"SELECT * FROM {name}"))  # noqa: S608 - our own names
            self._copy = copy

    def _heal(self, *, at_once: bool) -> None:
        # A clock that was set back must not keep the disk from being tried.
        since = abs(self._clock() - self._tried)
        if self._copy is None or self._disk is None or not (at_once or since >= HEAL_AFTER_S):
            return
        self._tried = self._clock()
        try:
            with self._disk.transaction() as connection:
                for name in _TABLES:
                    _fill(connection, name, self._copy.rows(f"SELECT * FROM {name}"))  # noqa: S608 - our own names
        except StoreError as error:
            self._error = error
            return
        self._copy.close()
        self._copy = None
        self._error = None


def _fill(connection: sqlite3.Connection, name: str, content: Sequence[Sequence[Any]]) -> None:
    connection.execute(f"DELETE FROM {name}")  # noqa: S608 - our own names
    if content:
        places = ", ".join("?" * len(content[0]))
        connection.executemany(f"INSERT INTO {name} VALUES ({places})", content)  # noqa: S608 - our own names
