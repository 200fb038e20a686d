# SPDX-License-Identifier: GPL-2.0-or-later
"""Light, dark, or as the system has it: kept in a cookie and put into the page by the server, without a script."""

from flask import Blueprint, Flask, abort, redirect, request
from werkzeug.wrappers import Response

from webui.csrf import SafeForm
from webui.security import local

COOKIE = "__Host-sluice-theme"
THEMES = ("system", "light", "dark")

blueprint = Blueprint("theme", __name__)


def install(app: Flask) -> None:
    """Let templates know the theme."""

    @app.context_processor
    def words() -> dict[str, object]:
        return {"theme": current(), "themes": THEMES, "here": request.full_path.rstrip("?")}


def current() -> str:
    """The theme that this browser chose."""
    chosen = request.cookies.get(COOKIE, "")
    return chosen if chosen in THEMES else "system"


@blueprint.post("/theme")
def choose() -> Response:
    """Keep the choice, and go back to where it was made."""
    if not SafeForm(request.form).validate():
        abort(400, "This page was open for too long, or cookies are off. Go back, reload it and try again.")
    chosen = request.form.get("theme", "")
    if chosen not in THEMES:
        abort(400, "There is no such theme.")
    response = redirect(local(request.form.get("next")), 303)
    response.set_cookie(COOKIE, chosen, max_age=365 * 24 * 3600, secure=True, httponly=True, samesite="Lax", path="/")
    return response
