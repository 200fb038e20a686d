# SPDX-License-Identifier: GPL-2.0-or-later
"""The page that is left open all day: every farm and backend as it is now."""

from flask import Blueprint, current_app, render_template, request

from agent.client import AgentDown
from webui import live
from webui.session import agent

blueprint = Blueprint("dashboard", __name__)

MAX_SEARCH = 100


@blueprint.get("/")
def index() -> str:
    """The whole page; when the agent does not answer, without figures, and it fills itself when it does again."""
    try:
        known = _known()
    except AgentDown as error:
        return render_template(
            "dashboard/index.html",
            down=str(error),
            last_seen=current_app.extensions["samples"].last_seen,
            **_wanted(),
        )
    return render_template("dashboard/index.html", **known)


@blueprint.get("/live")
def fragment() -> str:
    """The part that changes."""
    return render_template("dashboard/live.html", **_known())


def _known() -> dict[str, object]:
    state, system = agent().state(), agent().system()
    rates = current_app.extensions["samples"].add(state)
    wanted = _wanted()
    rows = live.overview(
        state, rates, search=str(wanted["search"]), status=str(wanted["status"]), page=int(str(wanted["page"]))
    )
    return {"state": state, "system": system, "overview": rows, "signs": live.FARM_SIGNS, **wanted}


def _wanted() -> dict[str, str | int]:
    status = request.args.get("status", "")
    page = request.args.get("page", "1")
    return {
        "search": request.args.get("q", "")[:MAX_SEARCH],
        "status": status if status in live.FARM_SIGNS else "",
        "page": int(page) if page.isascii() and page.isdigit() and len(page) < 6 else 1,
    }
