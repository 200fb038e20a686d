# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may do what: the administrator's password, claim code, sessions, API tokens, throttle and audit log."""

from agent.access.access import Access
from agent.access.errors import (
    AlreadyClaimed,
    NoSuchSecret,
    SessionNeeded,
    Throttled,
    UnfitSecret,
    WeakPassword,
    WrongCode,
    WrongCredentials,
    WrongPassword,
)
from agent.access.named import NamedSecrets
from agent.access.types import NewSession

__all__ = [
    "Access",
    "AlreadyClaimed",
    "NamedSecrets",
    "NewSession",
    "NoSuchSecret",
    "SessionNeeded",
    "Throttled",
    "UnfitSecret",
    "WeakPassword",
    "WrongCode",
    "WrongCredentials",
    "WrongPassword",
]
