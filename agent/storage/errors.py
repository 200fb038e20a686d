# SPDX-License-Identifier: GPL-2.0-or-later
"""How writing to or reading from the data partition fails. Each message is a sentence for a person."""


class StoreError(Exception):
    """The store could not do what was asked; nothing changed."""


class StoreFull(StoreError):
    """No space is left on the data partition."""


class StoreReadOnly(StoreError):
    """The data partition, the directory or the file cannot be written."""


class StoreFailed(StoreError):
    """The disk failed in another way, such as an I/O error."""


class StoreBusy(StoreError):
    """Another process holds the database: two agents were given one data directory."""


class StoreDamaged(StoreError):
    """What was read is not what was written."""
