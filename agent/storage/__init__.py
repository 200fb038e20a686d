# SPDX-License-Identifier: GPL-2.0-or-later
"""What the stores on the data partition share: SQLite opened for the worst of disks, and files replaced atomically."""

from agent.storage.database import Database, open_best
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
from agent.storage.files import move_aside, store_error, write_atomically
from agent.storage.text import plain

__all__ = [
    "Database",
    "StoreBusy",
    "StoreDamaged",
    "StoreError",
    "StoreFailed",
    "StoreFull",
    "StoreMissing",
    "StoreNewer",
    "StoreReadOnly",
    "move_aside",
    "open_best",
    "plain",
    "store_error",
    "write_atomically",
]
