# SPDX-License-Identifier: GPL-2.0-or-later
"""Files on the data partition: replaced atomically, and moved aside when they are damaged."""

import contextlib
import errno
import os
from datetime import UTC, datetime
from pathlib import Path

from agent.storage.errors import StoreError, StoreFailed, StoreFull, StoreMissing, StoreReadOnly

KEEP_ASIDE = 3
"""So many damaged databases are kept for a person to look at; older ones go."""


def store_error(error: OSError, path: Path) -> StoreError:
    """The StoreError that tells of `error`."""
    words = f"{path}: {os.strerror(error.errno) if error.errno else error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreFull(words)
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return StoreReadOnly(words)
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return StoreMissing(words)
    return StoreFailed(words)


def write_atomically(path: Path, *content: bytes) -> None:
    """Replace a file so that after a power cut it is the old or the new one, whole. Raises StoreError.

    `content` may come in pieces, one after another.
    """
    fresh = path.with_name(path.name + ".new")
    try:
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
                file.writelines(content)
                file.flush()
                os.fsync(descriptor)
            fresh.rename(path)
            _sync_directory(path.parent)
        except OSError:
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise
    except OSError as error:
        raise store_error(error, path) from error


def move_aside(database: Path) -> Path:
    """Move a damaged database with its write-ahead log to `NAME.corrupt-TIME`; the newest three stay.

    Raises StoreError.
    """
    time = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    aside = database.with_name(f"{database.name}.corrupt-{time}")
    try:
        # The database first: should the power go in between, SQLite drops a log that belongs to no database.
        database.rename(aside)
        for suffix in ("-wal", "-shm", "-journal"):
            with contextlib.suppress(FileNotFoundError):
                database.with_name(database.name + suffix).rename(aside.with_name(aside.name + suffix))
        earlier = sorted(
            path
            for path in database.parent.glob(f"{database.name}.corrupt-*")
            if not path.name.endswith(("-wal", "-shm", "-journal"))
        )
        for old in earlier[:-KEEP_ASIDE]:
            for suffix in ("", "-wal", "-shm", "-journal"):
                old.with_name(old.name + suffix).unlink(missing_ok=True)
        _sync_directory(database.parent)
    except OSError as error:
        raise store_error(error, database) from error
    return aside


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
