# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may do what: the administrator's password, claim code, sessions, API tokens, throttle and audit log."""

from agent.access.access import Access
from agent.access.errors import AccessError, AlreadyClaimed, Throttled, WeakPassword, WrongCode, WrongCredentials
from agent.access.passwords import MAX_PASSWORD_BYTES, MIN_PASSWORD
from agent.access.types import ADMIN, AuditRecord, Identity, NewSession, SessionNow, TokenNow
from agent.storage import StoreError

__all__ = [
    "ADMIN",
    "MAX_PASSWORD_BYTES",
    "MIN_PASSWORD",
    "Access",
    "AccessError",
    "AlreadyClaimed",
    "AuditRecord",
    "Identity",
    "NewSession",
    "SessionNow",
    "StoreError",
    "Throttled",
    "TokenNow",
    "WeakPassword",
    "WrongCode",
    "WrongCredentials",
]
