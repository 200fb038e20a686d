# SPDX-License-Identifier: GPL-2.0-or-later
"""The store of snapshots: one SQLite database, and a checked copy of the last one that came into force."""

import hashlib
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from agent.model import Configuration, canonical
from agent.model.state import Trouble
from agent.snapshots import last_good, rows
from agent.snapshots.opening import Opened, open_store
from agent.snapshots.snapshot import (
    MAX_AUTHOR,
    MAX_COMMENT,
    Conflict,
    Entry,
    NotPending,
    Pending,
    Recovery,
    Snapshot,
)
from agent.storage import StoreError, StoreReadOnly, plain

HISTORY_BYTES = 256 << 20
"""Compressed documents may take this much, and no more than a quarter of the file system; then the oldest go."""

HISTORY_LEAST = 100
"""So many of the newest snapshots are kept whatever they take."""

_WORDS = {
    "data-missing": "There is no data partition: what is committed now is lost at the next start. "
    "Check the disk, then restart.",
    "data-read-only": "The data partition cannot be written: nothing can be committed. Check the disk, then restart.",
    "data-full": "The data partition is full: what is changed now does not last. Make the disk larger, then restart.",
    "data-failed": "The data partition fails: what is changed now may not last. Check the disk, then restart.",
    "data-damaged": "The database of snapshots is damaged. Restart: it is then begun anew from the last good copy.",
    "data-newer": "The snapshots were written by newer firmware: the last good configuration runs, and what is "
    "committed now is lost at the next start. Start the newer firmware again.",
}


def _now() -> datetime:
    return datetime.now(UTC)


class Store:
    """Snapshots and which one is in force.

    A commit is `prepare`, then whatever makes it real, then `confirm`, or `abandon` when that failed. All is
    synchronous and may be called from any thread, one at a time (a lock sees to it).
    """

    def __init__(
        self, directory: Path, opened: Opened, software: str, clock: Callable[[], datetime], history_bytes: int
    ) -> None:
        self._directory = directory
        self._database = opened.database
        self._in_force = opened.in_force
        self._reason = opened.reason
        self._damage = opened.damage
        self._write_error: StoreError | None = None
        self._copy_error: StoreError | None = None
        self._software = software
        self._clock = clock
        self._history_bytes = history_bytes
        self._lock = threading.RLock()
        # A pending snapshot that could not be marked as abandoned on the disk: it is, as far as anybody asks.
        self._forgotten: int | None = None
        # What was prepared last: one copy of a document is enough.
        self._prepared: Snapshot | None = None

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        software: str,
        clock: Callable[[], datetime] = _now,
        history_bytes: int = HISTORY_BYTES,
    ) -> Self:
        """Open the store in `directory` (SLUICE_DATA). Never fails for a bad disk: `troubles` says what is wrong.

        missing directory, or a new store on a full disk: kept in memory, `lasting` is False; not writable: read only,
        writes raise StoreReadOnly; damaged: moved aside, begun anew from `last-good.json`. Raises StoreBusy only.
        """
        return cls(directory, open_store(directory), software, clock, history_bytes)

    @property
    def lasting(self) -> bool:
        """Whether a commit outlasts a restart."""
        return self._database.mode == "disk"

    def troubles(self) -> list[Trouble]:
        """What is wrong with the store now.

        Codes: data-missing, data-read-only, data-full, data-failed, data-damaged, data-newer (at most one of these),
        snapshots-damaged, snapshots-copy.
        """
        with self._lock:
            found = []
            error = self._reason or self._write_error
            if error is not None:
                code = f"data-{error.word}"
                found.append(Trouble(code=code, message=_WORDS.get(code, _WORDS["data-failed"])))
            if self._damage is not None:
                found.append(Trouble(code="snapshots-damaged", message=self._damage))
            if error is None and self._copy_error is not None:
                words = f"The copy of the configuration could not be written ({self._copy_error}). Check the disk."
                found.append(Trouble(code="snapshots-copy", message=words))
            return found

    def recover(self) -> Recovery:
        """To be called once at start: abandons what was pending. Does not raise."""
        with self._lock:
            pending = None
            try:
                _, pending = rows.current(self._database)
                if pending is not None:
                    self.abandon(pending)
            except StoreError as error:
                self._write_error = error
            if self._in_force is not None and self.lasting and last_good.read(self._directory) != self._in_force:
                self._copy(self._in_force)
            return Recovery(self._in_force, pending)

    def prepare(
        self,
        config: Configuration,
        *,
        author: str,
        comment: str = "",
        parent: int | None = None,
        document: bytes | None = None,
    ) -> Snapshot:
        """Write a snapshot that waits for `confirm` or `abandon`.

        `document` is the canonical form of `config`, where the caller has it already.
        `parent`: the snapshot that was edited; None: whatever is in force. Raises Conflict if another is in force,
        Pending, StoreError. `author` and `comment` lose control characters and what is longer than MAX_*.
        """
        with self._lock:
            self._must_be_writable()
            in_force = None if self._in_force is None else self._in_force.number
            if parent is not None and parent != in_force:
                raise Conflict(in_force)
            waiting = self._waiting()
            if waiting is not None:
                raise Pending(waiting)
            document = canonical(config) if document is None else document
            entry = Entry(
                number=0,
                parent=in_force,
                digest=hashlib.sha256(document).hexdigest(),
                author=plain(author, MAX_AUTHOR),
                comment=plain(comment, MAX_COMMENT),
                time=self._clock().astimezone(UTC),
                version=config.version,
                software=self._software,
                outcome="pending",
            )
            try:
                with self._database.transaction() as connection:
                    if self._forgotten is not None:
                        connection.execute("INSERT OR IGNORE INTO abandoned VALUES (?)", [self._forgotten])
                    number = rows.insert(connection, entry, document, numbered=False)
                    connection.execute("UPDATE current SET pending = ?", [number])
                    rows.prune(connection, room=self._room(), least=HISTORY_LEAST)
            except StoreError as error:
                self._write_error = error
                raise
            self._write_error = None
            self._forgotten = None
            self._prepared = Snapshot(**(vars(entry) | {"number": number, "document": document}))
            return self._prepared

    def confirm(self, number: int) -> Snapshot:
        """The pending snapshot is in force. Raises NotPending, StoreError (then it is pending still)."""
        with self._lock:
            self._must_be_writable()
            if self._waiting() != number:
                raise NotPending(number)
            try:
                # What was written is read back, so that a disk that lies is found out before it counts.
                found = rows.snapshot(self._database, number)
                with self._database.transaction() as connection:
                    connection.execute("UPDATE current SET in_force = ?, pending = NULL", [number])
            except StoreError as error:
                self._write_error = error
                raise
            self._write_error = None
            whole = self._prepared if found == self._prepared else found
            self._in_force, self._prepared = rows.with_document(whole, whole.document, "committed"), None
            # The database alone then holds it, without its log.
            self._database.checkpoint()
            if self.lasting:
                self._copy(self._in_force)
            return self._in_force

    def abandon(self, number: int) -> None:
        """The pending snapshot never comes into force; its row stays, marked. Raises NotPending.

        A disk that cannot be read or written does not stop it: it is abandoned in memory then, and again at the
        next start.
        """
        with self._lock:
            try:
                if self._waiting() != number:
                    raise NotPending(number)
                with self._database.transaction() as connection:
                    connection.execute("UPDATE current SET pending = NULL")
                    connection.execute("INSERT INTO abandoned VALUES (?)", [number])
            except StoreError as error:
                self._forgotten = number
                self._write_error = error

    def in_force(self) -> Snapshot | None:
        """The snapshot in force; None before the first commit."""
        return self._in_force

    def get(self, number: int) -> Snapshot:
        """Any snapshot, whatever its outcome. Raises NotFound, StoreDamaged (its digest does not fit)."""
        with self._lock:
            if self._in_force is not None and number == self._in_force.number:
                return self._in_force
            found = rows.snapshot(self._database, number)
            if number == self._forgotten:
                return rows.with_document(found, found.document, "abandoned")
            return found

    def list(self, limit: int = 50, before: int | None = None, *, abandoned: bool = False) -> list[Entry]:
        """The newest first, at most `limit` (1 to 1000) with a number below `before`; `abandoned` ones on request.

        Raises StoreError.
        """
        if not 1 <= limit <= 1000:
            raise ValueError(f"limit {limit} is not between 1 and 1000")
        with self._lock:
            return rows.entries(self._database, limit, before, abandoned=abandoned, forgotten=self._forgotten)

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def _must_be_writable(self) -> None:
        if isinstance(self._reason, StoreReadOnly):
            raise StoreReadOnly(str(self._reason))

    def _waiting(self) -> int | None:
        _, pending = rows.current(self._database)
        return None if pending == self._forgotten else pending

    def _room(self) -> int:
        try:
            system = os.statvfs(self._directory)
        except OSError:
            return self._history_bytes
        return min(self._history_bytes, system.f_blocks * system.f_frsize // 4)

    def _copy(self, snapshot: Snapshot) -> None:
        try:
            last_good.write(self._directory, snapshot)
            self._copy_error = None
        except StoreError as error:
            self._copy_error = error
