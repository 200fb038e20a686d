# SPDX-License-Identifier: GPL-2.0-or-later
"""What the stores on the data partition share: SQLite opened for the worst of disks, and files replaced atomically."""

from agent.storage.errors import StoreBusy, StoreDamaged, StoreError, StoreFailed, StoreFull, StoreReadOnly

__all__ = ["StoreBusy", "StoreDamaged", "StoreError", "StoreFailed", "StoreFull", "StoreReadOnly"]
