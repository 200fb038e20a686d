# SPDX-License-Identifier: GPL-2.0-or-later
"""Secrets by name: what documents refer to, such as a client certificate or a mail server's password."""

import sqlite3
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ssl import SSLContext, SSLError

from agent.access import secret_values
from agent.access.audit import record
from agent.access.errors import NoSuchSecret, UnfitSecret
from agent.access.vault import Vault
from agent.model.certificate import CertificateFacts
from agent.model.secret import KIND_WORDS, SecretKind, SecretMissing, SecretReader
from agent.storage import StoreError

MAX_SECRETS = 256
MAX_CHARACTERS = 4 * 1024 * 1024
"""Characters of all values together: they are kept in memory."""


@dataclass(frozen=True)
class Described:
    """A secret without its value. `certificates`: those of a certificate's chain, it first, or the authorities."""

    kind: SecretKind
    changed: datetime
    certificates: tuple[CertificateFacts, ...]


@dataclass(frozen=True)
class _Kept:
    kind: SecretKind
    value: str
    changed: float
    version: object = field(default_factory=object)


class NamedSecrets(SecretReader):
    """The secrets that an administrator has set. Values come out by `SecretReader` only; may be called in any thread.

    Reading is from memory, and so never waits for a disk.
    """

    def __init__(self, vault: Vault, clock: Callable[[], float]) -> None:
        self._vault = vault
        self._clock = clock
        self._changing = threading.Lock()
        self._kept: Mapping[str, _Kept] = self._read()

    @property
    def kinds(self) -> dict[str, SecretKind]:
        """The kind of each secret, by name."""
        return {name: each.kind for name, each in self._kept.items()}

    def described(self) -> dict[str, Described]:
        """What there is, by name."""
        return {
            name: Described(
                each.kind,
                datetime.fromtimestamp(each.changed, UTC),
                tuple(secret_values.facts(each.value)) if each.kind != "text" else (),
            )
            for name, each in sorted(self._kept.items())
        }

    def put(self, name: str, kind: SecretKind, value: str, *, actor: str, source: str) -> bool:
        """Set or replace a secret, and record that; whether it is new. A value that is there already changes nothing.

        Raises UnfitSecret; StoreError when the disk cannot be written.
        """
        kept = secret_values.accept(kind, value)

        with self._changing:
            before = self._kept.get(name)
            if before is not None and (before.kind, before.value) == (kind, kept):
                return False
            fresh = {**self._kept, name: _Kept(kind, kept, self._clock())}
            if len(fresh) > MAX_SECRETS:
                raise UnfitSecret(f"there are {MAX_SECRETS} secrets, the most that are kept; delete one first")
            if sum(len(each.value) for each in fresh.values()) > MAX_CHARACTERS:
                raise UnfitSecret(f"all secrets together have {MAX_CHARACTERS} characters at most; delete some first")

            def work(connection: sqlite3.Connection) -> None:
                now = fresh[name].changed
                connection.execute("INSERT OR REPLACE INTO named VALUES (?, ?, ?, ?)", (name, kind, kept, now))
                verb = "create" if before is None else "replace"
                detail = f"{name}: {KIND_WORDS[kind]}"
                record(connection, now, actor=actor, source=source, action=f"{verb} secret", detail=detail)

            self._vault.change(work, must_last=True)
            self._kept = fresh
            return before is None

    def delete(self, name: str, *, actor: str, source: str) -> None:
        """Erase a secret, and record that. Raises NoSuchSecret; StoreError when the disk cannot be written."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM named WHERE name = ?", [name])
            record(connection, self._clock(), actor=actor, source=source, action="delete secret", detail=name)

        with self._changing:
            if name not in self._kept:
                raise NoSuchSecret("there is no secret of this name")
            self._vault.change(work, must_last=True)
            self._kept = {other: each for other, each in self._kept.items() if other != name}

    def text(self, name: str) -> str:
        """As SecretReader has it."""
        return self._value(name, "text")

    def load_certificate(self, name: str, context: SSLContext) -> None:
        """As SecretReader has it."""
        try:
            secret_values.load(self._value(name, "certificate"), context)
        except SSLError:
            # It was taken once; a newer OpenSSL, or a stricter context, does not take what an older one did.
            raise SecretMissing(f"OpenSSL does not take the certificate {name} any more; replace it") from None

    def version(self, name: str) -> object:
        """As SecretReader has it."""
        found = self._kept.get(name)
        return found and found.version

    def authorities(self, name: str) -> str:
        """As SecretReader has it."""
        return self._value(name, "authorities")

    def _value(self, name: str, kind: SecretKind) -> str:
        found = self._kept.get(name)
        if found is None or found.kind != kind:
            raise SecretMissing(f"the secret {name} ({KIND_WORDS[kind]}) is missing; set it")
        return found.value

    def _read(self) -> dict[str, _Kept]:
        try:
            rows = self._vault.rows("SELECT name, kind, value, changed FROM named")
        except StoreError:
            return {}  # the vault tells
        # Of a kind that only newer firmware has: kept for that.
        return {name: _Kept(kind, value, changed) for name, kind, value, changed in rows if kind in KIND_WORDS}
