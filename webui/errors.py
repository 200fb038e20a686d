# SPDX-License-Identifier: GPL-2.0-or-later
"""The one place that turns exceptions into pages."""

from flask import Flask, current_app, render_template, request, session
from werkzeug.exceptions import HTTPException, InternalServerError
from werkzeug.wrappers import Response

from agent.client import AgentDown, Problem
from webui.session import to_login

Answer = tuple[str, int] | tuple[str, int, dict[str, str]] | Response

TITLES = {
    400: "This request can't be understood",
    403: "This is not allowed",
    404: "There is nothing here",
    405: "This page can't be asked that way",
    413: "This is too large",
    429: "Too many tries",
    500: "Something went wrong in the GUI",
    503: "The agent does not answer",
}
TEXTS = {
    404: "The page, farm or snapshot does not exist, or it was removed.",
    405: "Open the page from the navigation instead.",
    413: "Forms larger than 256 kB (network lists: 2 MB) are not read. Use the API for large documents.",
    500: "The fault is in the appliance's journal; traffic keeps flowing. If you were changing something, "
    "the snapshots tell whether it was taken.",
}


def install(app: Flask) -> None:
    """Answer every error in the look of the GUI."""
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Problem, _problem)
    app.register_error_handler(AgentDown, _down)


def _http(error: HTTPException) -> Answer:
    if isinstance(error, InternalServerError) or error.code is None:
        return _page(500, TEXTS[500])
    if error.code < 400:
        return error.get_response()
    ours = error.description if error.description != type(error).description else None
    page, status, headers = _page(error.code, ours or TEXTS.get(error.code, ""))
    allowed = error.get_headers() if error.code == 405 else []
    return page, status, headers | {key: value for key, value in allowed if key == "Allow"}


def _problem(problem: Problem) -> Answer:
    if problem.status == 401:
        session.clear()
        return to_login()
    if problem.status in (403, 404, 413, 429):
        return _page(problem.status, TEXTS.get(problem.status, problem.detail))
    current_app.logger.error("the agent answered %d to %s: %s", problem.status, request.path, problem.detail)
    return _page(max(problem.status, 500), problem.detail)


def _down(error: AgentDown) -> Answer:
    page, status, headers = _page(503, str(error))
    return page, status, headers | {"Retry-After": "5"}


def _page(status: int, text: str) -> tuple[str, int, dict[str, str]]:
    title = TITLES.get(status, "This did not work")
    last_seen = current_app.extensions["samples"].last_seen
    page = render_template("error.html", status=status, title=title, text=text, last_seen=last_seen)
    return page, status, {}
