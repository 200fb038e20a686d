# SPDX-License-Identifier: GPL-2.0-or-later
"""Forms that only this browser can send: a random token in the signed session cookie and in each form."""

import hmac
import secrets
from typing import Any

from flask import session
from wtforms import Form
from wtforms.csrf.core import CSRF
from wtforms.validators import ValidationError

EXPIRED = "This page was open for too long, or cookies are off. Nothing was changed; please send it again."


_BYTES = 24


def csrf_token() -> str:
    """The browser's token, made when first asked for.

    It looks different each time: a page that is compressed and also repeats what was asked for would tell a secret that
    always looks the same, little by little, to whoever sees its length (the BREACH attack).
    """
    secret = _secret()
    if secret is None:
        secret = secrets.token_bytes(_BYTES)
        session["csrf"] = secret.hex()
    pad = secrets.token_bytes(_BYTES)
    return (pad + _mixed(pad, secret)).hex()


def _good(token: str) -> bool:
    try:
        given = bytes.fromhex(token)
    except ValueError:
        return False
    secret = _secret()
    if secret is None or len(given) != 2 * _BYTES:
        return False
    return hmac.compare_digest(_mixed(given[:_BYTES], given[_BYTES:]), secret)


def _mixed(pad: bytes, other: bytes) -> bytes:
    return bytes(one ^ two for one, two in zip(pad, other, strict=True))


def _secret() -> bytes | None:
    kept = session.get("csrf")
    return bytes.fromhex(kept) if isinstance(kept, str) and len(kept) == 2 * _BYTES else None


class SessionToken(CSRF):
    """Compares a form's token with the session's."""

    def generate_csrf_token(self, _field: Any) -> str:
        """The token for a form."""
        return csrf_token()

    def validate_csrf_token(self, _form: Any, field: Any) -> None:
        """Raise ValidationError unless the form's token is the session's."""
        if not _good(str(field.data or "")):
            raise ValidationError(EXPIRED)


class SafeForm(Form):
    """The base of every form of the GUI."""

    class Meta:
        """WTForms' settings."""

        csrf = True
        csrf_class = SessionToken
        csrf_field_name = "csrf"

    def expired(self) -> bool:
        """Whether the form was refused for its token; asked after `validate`."""
        return bool(self["csrf"].errors)
