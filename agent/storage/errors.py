# SPDX-License-Identifier: GPL-2.0-or-later
"""How writing to or reading from the data partition fails. Each message is a sentence for a person."""

from typing import ClassVar


class StoreError(Exception):
    """The store could not do what was asked; nothing changed."""

    word: ClassVar[str] = "failed"
    """The end of the trouble's code, such as `full` of `data-full`."""


class StoreFull(StoreError):
    """No space is left on the data partition."""

    word = "full"


class StoreReadOnly(StoreError):
    """The data partition, the directory or the file cannot be written."""

    word = "read-only"


class StoreMissing(StoreError):
    """There is no data directory."""

    word = "missing"


class StoreFailed(StoreError):
    """The disk failed in another way, such as an I/O error."""


class StoreNewer(StoreError):
    """The database was written by newer software, in a form that this software does not know."""

    word = "newer"


class StoreBusy(StoreError):
    """Another process holds the database: two agents were given one data directory."""

    word = "busy"


class StoreDamaged(StoreError):
    """What was read is not what was written."""

    word = "damaged"
