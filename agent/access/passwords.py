# SPDX-License-Identifier: GPL-2.0-or-later
"""Passwords: their rules, and their hashes (argon2id)."""

import base64
import secrets
import threading
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHash, VerificationError

from agent.access.errors import Throttled, WeakPassword
from agent.model.answers import MAX_PASSWORD_BYTES, MIN_PASSWORD

TIME_COST = 3
MEMORY_KIB = 32 * 1024
"""What a hash takes: 32 MiB and about 0.1 s of a processor; above OWASP's minimum (19 MiB, 2 passes)."""
AT_ONCE = 2
"""Hashes that are made at the same time; more would let strangers take the box's memory."""
WAIT_S = 10.0
"""Seconds that a hash waits for its turn before it is refused."""

_TOO_LONG = f"the password may take at most {MAX_PASSWORD_BYTES} bytes"


class Passwords:
    """Hashes and checks passwords; from any thread, two at a time."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=TIME_COST, memory_cost=MEMORY_KIB, parallelism=1)
        self._slots = threading.BoundedSemaphore(AT_ONCE)
        # For a user that does not exist: takes as long as a real one, and nothing matches it.
        salt, tag = (base64.b64encode(secrets.token_bytes(size)).rstrip(b"=").decode() for size in (16, 16))
        self._nobody = f"$argon2id$v=19$m={MEMORY_KIB},t={TIME_COST},p=1${salt}${tag}"

    def hash(self, password: str) -> str:
        """Hash a password that keeps the rules. Raises WeakPassword, Throttled."""
        text = accept(password)
        self._enter()
        try:
            return str(self._hasher.hash(text))
        finally:
            self._slots.release()

    def matches(self, hashed: str | None, password: str) -> bool:
        """Whether the hash is of the password; without a hash False, after the same time. Raises Throttled."""
        try:
            text = accept(password)
        except WeakPassword:
            # It cannot have been set, for anybody: that tells nothing.
            return False
        self._enter()
        try:
            self._hasher.verify(hashed or self._nobody, text)
        except (VerificationError, InvalidHash):
            return False
        finally:
            self._slots.release()
        return hashed is not None

    def outdated(self, hashed: str) -> bool:
        """Whether the hash was made with other costs than today's."""
        return bool(self._hasher.check_needs_rehash(hashed))

    def _enter(self) -> None:
        if not self._slots.acquire(timeout=WAIT_S):
            raise Throttled(int(WAIT_S))


def accept(password: str) -> str:
    """The password in the form that is hashed. Raises WeakPassword with the rule that it breaks."""
    # NFC makes a text shorter at times; not to a quarter.
    if len(password) > 4 * MAX_PASSWORD_BYTES:
        raise WeakPassword(_TOO_LONG)
    if any("\ud800" <= sign <= "\udfff" for sign in password):
        raise WeakPassword("the password holds something that is not a character; type it anew")
    # The same letters, typed on keyboards that compose them in different ways, are the same password.
    text = unicodedata.normalize("NFC", password)
    if len(text) < MIN_PASSWORD:
        raise WeakPassword(f"the password needs at least {MIN_PASSWORD} characters, any you like")
    if len(text.encode()) > MAX_PASSWORD_BYTES:
        raise WeakPassword(_TOO_LONG)
    return text
