# SPDX-License-Identifier: GPL-2.0-or-later
"""Every configuration that ever was, and which one is in force. docs/snapshots.md tells how it is kept."""

from agent.snapshots.snapshot import (
    MAX_AUTHOR,
    MAX_COMMENT,
    Conflict,
    Entry,
    NotFound,
    NotPending,
    Pending,
    Recovery,
    Snapshot,
)
from agent.snapshots.store import Store
from agent.storage import StoreBusy, StoreDamaged, StoreError, StoreFailed, StoreFull, StoreReadOnly

__all__ = [
    "MAX_AUTHOR",
    "MAX_COMMENT",
    "Conflict",
    "Entry",
    "NotFound",
    "NotPending",
    "Pending",
    "Recovery",
    "Snapshot",
    "Store",
    "StoreBusy",
    "StoreDamaged",
    "StoreError",
    "StoreFailed",
    "StoreFull",
    "StoreReadOnly",
]
