# SPDX-License-Identifier: GPL-2.0-or-later
"""The store of snapshots: one SQLite database, and a checked copy of the last one that came into force."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from agent.model import Configuration
from agent.model.state import Trouble
from agent.snapshots.snapshot import Entry, Recovery, Snapshot


def _now() -> datetime:
    return datetime.now(UTC)


class Store:
    """Snapshots and which one is in force.

    A commit is `prepare`, then whatever makes it real, then `confirm`, or `abandon` when that failed. All is
    synchronous and may be called from any thread, one at a time (a lock sees to it).
    """

    @classmethod
    def open(cls, directory: Path, *, software: str, clock: Callable[[], datetime] = _now) -> Self:
        """Open the store in `directory` (SLUICE_DATA). Never fails for a bad disk: `troubles` says what is wrong.

        missing directory, or a new store on a full disk: kept in memory, `lasting` is False; not writable: read only,
        writes raise StoreReadOnly; damaged: moved aside, begun anew from `last-good.json`. Raises StoreBusy only.
        """
        raise NotImplementedError

    @property
    def lasting(self) -> bool:
        """Whether a commit outlasts a restart."""
        raise NotImplementedError

    def troubles(self) -> list[Trouble]:
        """What is wrong with the store now: codes data-missing, data-read-only, data-full, data-failed,
        snapshots-damaged, snapshots-newer.
        """
        raise NotImplementedError

    def recover(self) -> Recovery:
        """To be called once at start: abandons what was pending. Does not raise."""
        raise NotImplementedError

    def prepare(self, config: Configuration, *, author: str, comment: str = "", parent: int | None = None) -> Snapshot:
        """Write a snapshot that waits for `confirm` or `abandon`.

        `parent`: the snapshot that was edited; None: whatever is in force. Raises Conflict if another is in force,
        Pending, StoreError. `author` and `comment` lose control characters and what is longer than MAX_*.
        """
        raise NotImplementedError

    def confirm(self, number: int) -> Snapshot:
        """The pending snapshot is in force. Raises NotPending, StoreError (then it is pending still)."""
        raise NotImplementedError

    def abandon(self, number: int) -> None:
        """The pending snapshot never comes into force; its row stays, marked. Raises NotPending.

        A disk that cannot be written does not stop it: then it is abandoned in memory, and again at the next start.
        """
        raise NotImplementedError

    def in_force(self) -> Snapshot | None:
        """The snapshot in force; None before the first commit."""
        raise NotImplementedError

    def get(self, number: int) -> Snapshot:
        """Any snapshot, whatever its outcome. Raises NotFound, StoreDamaged (its digest does not fit)."""
        raise NotImplementedError

    def list(self, limit: int = 50, before: int | None = None, *, abandoned: bool = False) -> list[Entry]:
        """The newest first, at most `limit` (1 to 1000) with a number below `before`; `abandoned` ones on request."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the database."""
        raise NotImplementedError
