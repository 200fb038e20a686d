# SPDX-License-Identifier: GPL-2.0-or-later
"""Access to the appliance, in one object."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self

from agent.model.state import Trouble

ADMIN = "admin"
"""The one user."""
MIN_PASSWORD = 10
"""Characters that a password has at least."""
MAX_PASSWORD_BYTES = 256
"""Bytes (UTF-8) that a password has at most."""


@dataclass(frozen=True)
class Identity:
    """Who a request comes from."""

    name: str
    """The user's or the API token's name."""
    kind: Literal["session", "token"]
    session: str | None
    """The session's id (not its token), for `end_session` and `set_password`; None for an API token."""

    @property
    def author(self) -> str:
        """How snapshots and the audit log call it: `admin`, `token NAME`."""
        return self.name if self.kind == "session" else f"token {self.name}"


@dataclass(frozen=True)
class NewSession:
    """A session that has begun. `token` is told once and stored nowhere."""

    token: str
    user: str
    expires: datetime
    """It ends then (UTC) at the latest, and 12 hours after its last use."""


@dataclass(frozen=True)
class SessionNow:
    """A session as a list shows it."""

    id: str
    user: str
    source: str
    created: datetime
    last_used: datetime
    """To within five minutes."""
    expires: datetime


@dataclass(frozen=True)
class TokenNow:
    """An API token as a list shows it."""

    name: str
    created: datetime
    last_used: datetime | None
    """To within five minutes."""


@dataclass(frozen=True)
class AuditRecord:
    """One line of the audit log."""

    number: int
    time: datetime
    actor: str
    source: str
    action: str
    detail: str


def _now() -> datetime:
    return datetime.now(UTC)


class Access:
    """The administrator's password, sessions, API tokens, claim code, throttle and audit log.

    All is synchronous and may be called from any thread. `claim`, `log_in`, `set_password` and `provision` hash a
    password: 0.1 s of a processor and 32 MiB; call them in a thread. `source` is the caller's IP address, or
    "console".
    """

    @classmethod
    def open(cls, directory: Path, *, clock: Callable[[], datetime] = _now) -> Self:
        """Open the secrets in `directory` (SLUICE_DATA). Never fails for a bad disk: see `troubles`."""
        raise NotImplementedError

    @property
    def lasting(self) -> bool:
        """Whether what is set now outlasts a restart."""
        raise NotImplementedError

    def troubles(self) -> list[Trouble]:
        """What is wrong now: codes secrets-missing, secrets-read-only, secrets-full, secrets-failed,
        secrets-damaged, provisioning-password, provisioning-token.
        """
        raise NotImplementedError

    def provision(self, *, password: str | None = None, api_token: str | None = None) -> None:
        """Take what the systemd credentials say; call it once at start, before `claim_code`. Does not raise.

        The password is set only if there is none. The API token `provisioned` is set or replaced; without a
        credential it stays as it is. What is not acceptable is not taken, and stands in `troubles`.
        """
        raise NotImplementedError

    @property
    def claimed(self) -> bool:
        """Whether there is a password."""
        raise NotImplementedError

    @property
    def claim_code(self) -> str | None:
        """The code `XXXX-XXXX-XXXX` to claim the box with, the same until it is used; None once claimed."""
        raise NotImplementedError

    def claim(self, code: str, password: str, source: str) -> NewSession:
        """Set the first password, with the code that the console shows, and begin a session.

        Raises AlreadyClaimed, WeakPassword (before the code is looked at; not counted), WrongCode, Throttled,
        StoreError. Case, spaces and hyphens of the code do not matter.
        """
        raise NotImplementedError

    def log_in(self, user: str, password: str, source: str) -> NewSession:
        """Begin a session. Raises Throttled, WrongCredentials."""
        raise NotImplementedError

    def log_out(self, bearer: str) -> None:
        """End the session of this token; no error if there is none."""
        raise NotImplementedError

    def authenticate(self, bearer: str) -> Identity:
        """Who this session token or API token belongs to. Raises WrongCredentials. Quick: no hash of a password."""
        raise NotImplementedError

    def set_password(self, password: str, *, actor: str, source: str, keep: str | None = None) -> None:
        """Change the administrator's password; every session but `keep` (an id) ends.

        Raises WeakPassword, StoreError (then the old one holds).
        """
        raise NotImplementedError

    def check_password(self, password: str, source: str) -> None:
        """Ask for the password once more before a dangerous step. Raises WrongCredentials, Throttled."""
        raise NotImplementedError

    def sessions(self) -> list[SessionNow]:
        """Every session that has not ended, the last used first."""
        raise NotImplementedError

    def end_session(self, session: str) -> bool:
        """End a session by its id; whether there was one."""
        raise NotImplementedError

    def tokens(self) -> list[TokenNow]:
        """Every API token by name."""
        raise NotImplementedError

    def remove_token(self, name: str) -> bool:
        """Revoke an API token; whether there was one. Raises StoreError (then it holds still)."""
        raise NotImplementedError

    def audit(self, actor: str, source: str, action: str, detail: str = "") -> None:
        """Write a record of a change. The newest 10 000 are kept. Claims, log-ins and passwords record themselves."""
        raise NotImplementedError

    def audit_log(self, limit: int = 100, before: int | None = None) -> list[AuditRecord]:
        """The newest records first, at most `limit` (1 to 1000) with a number below `before`."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the database."""
        raise NotImplementedError
