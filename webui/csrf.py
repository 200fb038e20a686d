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


def csrf_token() -> str:
    """The browser's token, made when first asked for."""
    if not isinstance(session.get("csrf"), str):
        session["csrf"] = secrets.token_urlsafe(24)
    value: str = session["csrf"]
    return value


class SessionToken(CSRF):  # type: ignore[misc]  # wtforms has no types
    """Compares a form's token with the session's."""

    def generate_csrf_token(self, csrf_token_field: Any) -> str:  # noqa: ARG002  the interface of WTForms
        """The token for a form."""
        return csrf_token()

    def validate_csrf_token(self, form: Any, field: Any) -> None:  # noqa: ARG002
        """Raise ValidationError unless the form's token is the session's."""
        wanted, given = session.get("csrf"), field.data
        if not isinstance(wanted, str) or not hmac.compare_digest(wanted.encode(), str(given or "").encode()):
            raise ValidationError(EXPIRED)


class SafeForm(Form):  # type: ignore[misc]
    """The base of every form of the GUI."""

    class Meta:
        """WTForms' settings."""

        csrf = True
        csrf_class = SessionToken
        csrf_field_name = "csrf"

    def expired(self) -> bool:
        """Whether the form was refused for its token; asked after `validate`."""
        return bool(self["csrf"].errors)
