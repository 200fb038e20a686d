# SPDX-License-Identifier: GPL-2.0-or-later
"""Access to the appliance, in one object."""

import hmac
import logging
import secrets
import sqlite3
import string
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from agent.access import bearers, throttle
from agent.access.audit import record
from agent.access.errors import (
    AlreadyClaimed,
    SessionNeeded,
    Throttled,
    UnfitSecret,
    WeakPassword,
    WrongCode,
    WrongCredentials,
    WrongPassword,
)
from agent.access.named import NamedSecrets
from agent.access.passwords import Passwords, accept
from agent.access.types import ADMIN, Identity, NewSession
from agent.access.vault import Vault
from agent.model.secret import SecretKind
from agent.model.state import Trouble
from agent.storage import StoreError, plain

log = logging.getLogger(__name__)

CODE_SIGNS = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
"""Without 0 and O, 1 and I; 32 of them, so that 12 make 60 bits."""
PROVISIONED = "provisioned"
"""The name of the API token that the credential `sluice.api-token` sets."""
MIN_TOKEN = 20
"""Characters of a provisioned API token; it has to be random, as it is stored with a quick hash."""


def _now() -> datetime:
    return datetime.now(UTC)


class Access:
    """The administrator's password, sessions, API tokens, claim code, throttle and audit log; and `named` secrets.

    All is synchronous and may be called from any thread. `claim`, `log_in`, `change_password` and `provision` hash
    passwords: 0.1 s of a processor and 32 MiB for each; call them in a thread. `source` is the caller's IP address, or
    "console".
    """

    def __init__(self, directory: Path, clock: Callable[[], datetime]) -> None:
        self._time = clock
        self._vault = Vault(directory, self._clock)
        self._passwords = Passwords()
        self.named = NamedSecrets(self._vault, self._clock)
        self._refused: dict[str, str] = {}

    @classmethod
    def open(cls, directory: Path, *, clock: Callable[[], datetime] = _now) -> Self:
        """Open the secrets in `directory` (SLUICE_DATA). Never fails for a bad disk: see `troubles`.

        Raises StoreBusy only: another agent uses the directory.
        """
        return cls(directory, clock)

    def troubles(self) -> list[Trouble]:
        """What is wrong now.

        Codes: secrets-missing, secrets-read-only, secrets-full, secrets-failed, secrets-newer (at most one of
        these), secrets-damaged, provisioning-password, provisioning-token, provisioning-secret.
        """
        refused = [Trouble(code=code, message=words) for code, words in self._refused.items()]
        return self._vault.troubles() + refused

    def provision(
        self,
        *,
        password: str | None = None,
        api_token: str | None = None,
        named: Mapping[str, tuple[SecretKind, str]] | None = None,
    ) -> None:
        """Take what the systemd credentials say; call it once at start, before `claim_code`. Does not raise.

        The password is set only if there is none. The API token `provisioned` is set or replaced; without a
        credential it stays as it is. `named` are secrets, kind and value by name, which are set or replaced.
        What is not acceptable is not taken, and stands in `troubles`.
        """
        self._refused.clear()
        if password is not None and not self.claimed:
            try:
                self._begin(self._passwords.hash(password), "password set")
            except (WeakPassword, Throttled, StoreError) as error:
                self._refused["provisioning-password"] = f"The credential sluice.admin-password is not used: {error}."
        if api_token is not None:
            try:
                self._provision_token(api_token)
            except (ValueError, StoreError) as error:
                self._refused["provisioning-token"] = f"The credential sluice.api-token is not used: {error}."
        unfit = []
        for name, (kind, value) in (named or {}).items():
            try:
                self.named.put(name, kind, value, actor="provisioning", source="credential")
            except (UnfitSecret, StoreError) as error:
                unfit.append(f"{name}: {error}")
        if unfit:
            words = "; ".join(unfit[:5]) + ("; ..." if len(unfit) > 5 else "")
            self._refused["provisioning-secret"] = f"Of the credential sluice.secrets these are not used: {words}."

    @property
    def claimed(self) -> bool:
        """Whether there is a password."""
        return self._hash(ADMIN) is not None

    @property
    def claim_code(self) -> str | None:
        """The code `XXXX-XXXX-XXXX` to claim the box with, the same until it is used; None once claimed."""

        def work(connection: sqlite3.Connection) -> str | None:
            # Whether it is claimed is looked at here: another thread may be claiming it right now.
            if connection.execute("SELECT 1 FROM users").fetchone() is not None:
                return None
            signs = "".join(secrets.choice(CODE_SIGNS) for _ in range(12))
            code = "-".join((signs[:4], signs[4:8], signs[8:]))
            connection.execute("INSERT OR IGNORE INTO claim VALUES (1, ?)", [code])
            return str(connection.execute("SELECT code FROM claim").fetchone()[0])

        known = self._vault.rows("SELECT code FROM claim")
        if known:
            return str(known[0][0])
        return None if self.claimed else self._vault.change(work)

    def claim(self, code: str, password: str, source: str) -> NewSession:
        """Set the first password, with the code that the console shows, and begin a session.

        Raises AlreadyClaimed, WeakPassword (before the code is looked at; not counted), WrongCode, Throttled,
        StoreError. Case, spaces and hyphens of the code do not matter.
        """
        right = self.claim_code
        if right is None:
            raise AlreadyClaimed
        accept(password)
        # 60 bits cannot be guessed over a network: counting by source is enough, and locks nobody else out.
        self._vault.change(lambda c: throttle.begin(c, source, None, self._clock()))
        if not hmac.compare_digest(_bare(code), _bare(right)):
            log.warning("wrong claim code from %s", plain(source, 64))
            raise WrongCode
        hashed = self._passwords.hash(password)

        def work(connection: sqlite3.Connection) -> NewSession:
            now = self._clock()
            self._first_password(connection, hashed)
            throttle.succeed(connection, source, ADMIN, now)
            self._record(connection, ADMIN, source, "claim", "")
            return bearers.begin_session(connection, ADMIN, plain(source, 64), now)

        return self._vault.change(work, must_last=True)

    def log_in(self, user: str, password: str, source: str) -> NewSession:
        """Begin a session. Raises Throttled, WrongCredentials."""
        hashed = self._verify(user, password, source, "log-in")

        def work(connection: sqlite3.Connection) -> NewSession:
            now = self._clock()
            # What was checked must still be so: the disk may have come back in between, with another password.
            if connection.execute("SELECT hash FROM users WHERE name = ?", [user]).fetchone() != (hashed,):
                raise WrongCredentials
            self._record(connection, user, source, "log-in", "")
            return bearers.begin_session(connection, user, plain(source, 64), now)

        return self._vault.change(work)

    def change_password(self, bearer: str, current: str, new: str, source: str) -> int:
        """Set another password and end every session but that of `bearer`; the number of those that were ended.

        API tokens stay. Raises WrongCredentials (no such session), SessionNeeded (an API token), WeakPassword (before
        `current` is looked at; not counted), WrongPassword, Throttled, StoreError: then nothing has changed.
        """
        if self.authenticate(bearer).kind != "session":
            raise SessionNeeded
        accept(new)
        try:
            # Counted as a log-in is: a session that was stolen must be no way to guess the password.
            known = self._verify(ADMIN, current, source, "change of password")
        except WrongCredentials:
            self.authenticate(bearer)  # another change of the password may just have ended the session
            raise WrongPassword from None
        hashed = self._passwords.hash(new)
        key = bearers.digest(bearer)

        def work(connection: sqlite3.Connection) -> int:
            now = self._clock()
            # Both were looked at some time ago; another session may have changed the password since, and ended this.
            if connection.execute("SELECT 1 FROM sessions WHERE digest = ?", [key]).fetchone() is None:
                raise WrongCredentials
            changed = connection.execute(
                "UPDATE users SET hash = ?, changed = ? WHERE name = ? AND hash = ?", (hashed, now, ADMIN, known)
            ).rowcount
            if changed == 0:
                raise WrongPassword
            ended = connection.execute("DELETE FROM sessions WHERE user = ? AND digest <> ?", (ADMIN, key)).rowcount
            self._record(connection, ADMIN, source, "password", f"password changed, other sessions ended: {ended}")
            return ended

        return self._vault.change(work, must_last=True)

    def log_out(self, bearer: str) -> None:
        """End the session of this token; no error if there is none."""
        key = bearers.digest(bearer)
        self._vault.change(lambda c: c.execute("DELETE FROM sessions WHERE digest = ?", [key]) and None)

    def authenticate(self, bearer: str) -> Identity:
        """Who this session token or API token belongs to. Raises WrongCredentials. Quick: no hash of a password."""
        found = bearers.identify(self._vault, bearer, self._clock())
        if found is None:
            raise WrongCredentials
        return found

    def audit(self, actor: str, source: str, action: str, detail: str = "") -> None:
        """Write a record of a change; the newest 10 000 stay. What this class does itself it records itself."""
        self._vault.change(lambda c: self._record(c, actor, source, action, detail))

    def close(self) -> None:
        """Let go of the database."""
        self._vault.close()

    def _clock(self) -> float:
        return self._time().timestamp()

    def _hash(self, user: str) -> str | None:
        found = self._vault.rows("SELECT hash FROM users WHERE name = ?", [plain(user, 64)])
        return str(found[0][0]) if found else None

    def _verify(self, user: str, password: str, source: str, what: str) -> str:
        # Whatever name is tried counts for the one account, so that made-up names are no way around the count.
        self._vault.change(lambda c: throttle.begin(c, source, ADMIN, self._clock()))
        hashed = self._hash(user)
        if not self._passwords.matches(hashed, password) or hashed is None:
            log.warning("%s failed from %s", what, plain(source, 64))
            raise WrongCredentials
        renewed = self._passwords.hash(password) if self._passwords.outdated(hashed) else hashed

        def work(connection: sqlite3.Connection) -> None:
            throttle.succeed(connection, source, ADMIN, self._clock())
            connection.execute("UPDATE users SET hash = ? WHERE name = ? AND hash = ?", (renewed, user, hashed))

        self._vault.change(work)
        return renewed

    def _begin(self, hashed: str, detail: str) -> None:
        def work(connection: sqlite3.Connection) -> None:
            self._first_password(connection, hashed)
            self._record(connection, "provisioning", "credential", "password", detail)

        self._vault.change(work, must_last=True)

    def _first_password(self, connection: sqlite3.Connection, hashed: str) -> None:
        found = connection.execute(
            "INSERT OR IGNORE INTO users VALUES (?, ?, ?)", (ADMIN, hashed, self._clock())
        ).rowcount
        if found == 0:
            raise AlreadyClaimed
        connection.execute("DELETE FROM claim")

    def _provision_token(self, token: str) -> None:
        if not (MIN_TOKEN <= len(token) <= bearers.MAX_BEARER):
            raise ValueError(f"it needs {MIN_TOKEN} to {bearers.MAX_BEARER} characters, at random")
        if not all("!" <= sign <= "~" for sign in token):
            raise ValueError("it may hold printable ASCII characters only, and no spaces")
        key = bearers.digest(token)
        if self._vault.rows("SELECT 1 FROM tokens WHERE name = ? AND digest = ?", (PROVISIONED, key)):
            return

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM tokens WHERE name = ? OR digest = ?", (PROVISIONED, key))
            connection.execute("INSERT INTO tokens VALUES (?, ?, ?, NULL)", (PROVISIONED, key, self._clock()))
            self._record(connection, "provisioning", "credential", "token", f"{PROVISIONED} set")

        self._vault.change(work, must_last=True)

    def _record(self, connection: sqlite3.Connection, actor: str, source: str, action: str, detail: str) -> None:
        record(connection, self._clock(), actor=actor, source=source, action=action, detail=detail)


def _bare(code: str) -> bytes:
    kept = [sign for sign in code[:64].upper() if sign in string.ascii_uppercase + string.digits]
    return "".join(kept).encode()
