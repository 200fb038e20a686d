# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is asking: the browser's session, and a client of the agent that acts for it."""

from ipaddress import ip_address

from flask import Flask, current_app, g, redirect, request, session, url_for
from werkzeug.wrappers import Response

from agent.client import Client
from agent.model.answers import Session

OPEN = frozenset(
    {"static", "vendor_file", "access.setup", "access.login", "access.log_in", "access.logout", "theme.choose"}
)
"""The endpoints that need no log-in; every other one does."""


def install(app: Flask) -> None:
    """Ask for a log-in everywhere but at the open endpoints."""

    @app.before_request
    def logged_in() -> Response | None:
        # No endpoint: an unknown path. Its 404 page tells a stranger nothing.
        if request.endpoint is None or request.endpoint in OPEN or token() is not None:
            return None
        return to_login()

    @app.context_processor
    def words() -> dict[str, object]:
        return {"user": session.get("user") if token() else None}


def token() -> str | None:
    """The session token that the agent gave this browser, or None."""
    value = session.get("token")
    return value if isinstance(value, str) else None


def begin(granted: Session) -> None:
    """Begin a browser's session with the one that the agent granted; nothing of an earlier one is kept."""
    session.clear()
    session["token"] = granted.token
    session["user"] = granted.user


def agent() -> Client:
    """The agent, asked in the name of this browser's session."""
    if "agent" not in g:
        g.agent = Client(
            current_app.config["AGENT_SOCKET"],
            token=token(),
            source=_source(),
            timeout=_patience(),
        )
    client: Client = g.agent
    return client


def to_login() -> Response:
    """Send the browser to the log-in page, and back here after it."""
    wanted = request.full_path.rstrip("?") if request.method == "GET" else None
    if request.headers.get("HX-Request"):
        # A live fragment: the page around it is what to come back to, and htmx must load a whole page.
        response = Response(status=401)
        response.headers["HX-Refresh"] = "true"
        return response
    return redirect(url_for("access.login", next=wanted if wanted != "/" else None), 303)


def _patience() -> float:
    kind = "_CHANGE" if request.method == "POST" else "_LIVE" if request.headers.get("HX-Request") else ""
    seconds: float = current_app.config[f"AGENT_TIMEOUT{kind}"]
    return seconds


def _source() -> str | None:
    """The browser's address: nginx sets the header, and overwrites what the browser sent."""
    given = request.headers.get("X-Real-IP") or request.remote_addr or ""
    try:
        return str(ip_address(given))
    except ValueError:
        return None
