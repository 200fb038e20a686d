# SPDX-License-Identifier: GPL-2.0-or-later
"""One SQLite database, opened as well as its disk allows."""

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from agent.storage.errors import (
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreFailed,
    StoreFull,
    StoreMissing,
    StoreNewer,
    StoreReadOnly,
)
from agent.storage.files import store_error

Mode = Literal["disk", "read-only", "memory"]

# FULL: a commit is on the disk when it returns. EXCLUSIVE: one process, and the index of the write-ahead log in
# memory, so that no -shm file can be stale. Secrets that are deleted are overwritten.
_PRAGMAS = (
    "locking_mode = EXCLUSIVE",
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "trusted_schema = OFF",
    "cell_size_check = ON",
    "secure_delete = ON",
    "temp_store = MEMORY",
    "journal_size_limit = 4194304",
)

CHECKED_WHOLE = 64 << 20
"""Databases up to this size (bytes) are checked throughout when opened; a bigger one would hold up the start."""

_BUSY_AFTER = 2.0
_ROOM = 64 << 10


class Database:
    """A connection for the use of several threads, one at a time; its errors are StoreErrors."""

    def __init__(self, connection: sqlite3.Connection, mode: Mode, path: Path | None) -> None:
        self._connection = connection
        self._lock = threading.RLock()
        self.mode = mode
        """disk: written and lasting. read-only: as it was found. memory: gone when closed."""
        self._path = path

    @classmethod
    def open(cls, path: Path, schema: Sequence[str], version: int) -> Self:
        """Open or begin a database. Raises StoreError of every kind."""
        with _told(path):
            try:
                # Before SQLite makes it: readable by its owner only, and so are the files SQLite puts beside it.
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            except OSError as error:
                raise store_error(error, path) from error
            connection = _connect(str(path))
            try:
                for pragma in _PRAGMAS:
                    connection.execute(f"PRAGMA {pragma}").fetchall()
                _prepare(connection, schema, version)
                if path.stat().st_size <= CHECKED_WHOLE:
                    _check(connection)
            except BaseException:
                connection.close()
                raise
        return cls(connection, "disk", path)

    @classmethod
    def read(cls, path: Path, version: int, *, check: bool = True) -> Self:
        """Open a database that cannot be written; `check` whether it is whole. Raises StoreError."""
        log = path.with_name(path.name + "-wal")
        # A database in a directory that cannot be written is read without locks; what its log holds counts.
        # Without a log SQLite would try to make one, unless told that nothing changes.
        try:
            has_log = log.exists() and log.stat().st_size > 0
        except OSError as error:
            raise store_error(error, log) from error
        how = "vfs=unix-none" if has_log else "immutable=1"
        with _told(path):
            connection = _connect(f"file:{_quoted(path)}?mode=ro&{how}", uri=True)
            try:
                connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
                if _version(connection) != version:
                    raise _strange(connection, version)
                if check:
                    _check(connection)
            except BaseException:
                connection.close()
                raise
        return cls(connection, "read-only", path)

    @classmethod
    def memory(cls, schema: Sequence[str], version: int) -> Self:
        """Begin a database in memory."""
        connection = _connect(":memory:")
        connection.execute("PRAGMA foreign_keys = ON")
        _prepare(connection, schema, version)
        return cls(connection, "memory", None)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All that happens inside is on the disk when this ends, or, after an exception, nothing. Raises StoreError."""
        with self._lock, _told(self._path):
            if self.mode == "read-only":
                raise StoreReadOnly(f"{self._path} cannot be written")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        self._connection.execute("ROLLBACK")
                raise

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """What a query answers. Raises StoreError."""
        with self._lock, _told(self._path):
            return self._connection.execute(query, parameters).fetchall()

    def checkpoint(self) -> None:
        """Move what the write-ahead log holds into the database, as far as possible; nothing depends on it."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Close the database; a second time does nothing."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._connection.close()


def open_best(path: Path, schema: Sequence[str], version: int) -> tuple[Database, StoreError | None]:
    """Open a database for writing, else for reading, else begin one in memory; and why it is not the best.

    Raises StoreBusy, StoreDamaged and StoreNewer, which the caller has to decide about.
    """
    reason: StoreError
    if not path.parent.is_dir():
        return Database.memory(schema, version), StoreMissing(f"there is no directory {path.parent}")
    if os.access(path.parent, os.W_OK | os.X_OK):
        try:
            return Database.open(path, schema, version), None
        except (StoreBusy, StoreDamaged, StoreNewer):
            raise
        except StoreError as error:
            reason = error
    else:
        reason = StoreReadOnly(f"{path.parent} cannot be written")
    with contextlib.suppress(OSError):
        if path.stat().st_size > 0:
            try:
                return Database.read(path, version), reason
            except (StoreFull, StoreReadOnly, StoreFailed, StoreMissing):
                pass
    return Database.memory(schema, version), reason


def _connect(name: str, *, uri: bool = False) -> sqlite3.Connection:
    # Transactions are written out; the lock of Database keeps threads apart.
    return sqlite3.connect(name, timeout=_BUSY_AFTER, isolation_level=None, check_same_thread=False, uri=uri)


def _quoted(path: Path) -> str:
    return path.absolute().as_uri().removeprefix("file://")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _strange(connection: sqlite3.Connection, version: int) -> StoreError:
    found = _version(connection)
    if found > version:
        return StoreNewer(f"the database has version {found}, this software knows versions up to {version}")
    return StoreDamaged(f"the database has version {found}, which never was")


def _prepare(connection: sqlite3.Connection, schema: Sequence[str], version: int) -> None:
    # The transaction takes the lock even where nothing is to be made.
    connection.execute("BEGIN IMMEDIATE")
    try:
        empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if empty and _version(connection) == 0:
            for statement in schema:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {version}")
        elif _version(connection) != version:
            raise _strange(connection, version)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


def _check(connection: sqlite3.Connection) -> None:
    faults = [row[0] for row in connection.execute("PRAGMA quick_check(5)")]
    if faults != ["ok"]:
        raise StoreDamaged("; ".join(faults))
    if connection.execute("PRAGMA foreign_key_check").fetchone() is not None:
        raise StoreDamaged("rows refer to rows that are not there")


@contextlib.contextmanager
def _told(path: Path | None) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        # SQLite quotes what is damaged in its message, and Python cannot read that.
        raise StoreDamaged(f"{path or 'memory'}: text that is not UTF-8") from error
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
            raise
        raise _named(error, path) from error


_KINDS: dict[int, type[StoreError]] = {
    sqlite3.SQLITE_CORRUPT: StoreDamaged,
    sqlite3.SQLITE_NOTADB: StoreDamaged,
    # A table that this software made is missing: its own statements are right.
    sqlite3.SQLITE_ERROR: StoreDamaged,
    sqlite3.SQLITE_SCHEMA: StoreDamaged,
    sqlite3.SQLITE_FULL: StoreFull,
    sqlite3.SQLITE_READONLY: StoreReadOnly,
    sqlite3.SQLITE_PERM: StoreReadOnly,
    sqlite3.SQLITE_BUSY: StoreBusy,
    sqlite3.SQLITE_LOCKED: StoreBusy,
}


def _named(error: sqlite3.Error, path: Path | None) -> StoreError:
    words = f"{path or 'memory'}: {error}"
    kind = _KINDS.get(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF)
    if kind is None and path is not None:
        # SQLite has one word for many errors of the disk; the file system knows more.
        with contextlib.suppress(OSError):
            room = os.statvfs(path.parent)
            if room.f_flag & os.ST_RDONLY:
                kind = StoreReadOnly
            elif room.f_bavail * room.f_frsize < _ROOM:
                kind = StoreFull
    return (kind or StoreFailed)(words)
