# SPDX-License-Identifier: GPL-2.0-or-later
"""The appliance itself, to read."""

from flask import Blueprint, render_template

from webui.links import rows
from webui.session import agent

blueprint = Blueprint("system", __name__, url_prefix="/system")


@blueprint.get("")
def index() -> str:
    """Version, links, memory, data partition, connection table, kernel settings."""
    return _page("system/index.html")


@blueprint.get("/live")
def fragment() -> str:
    """The part that changes."""
    return _page("system/live.html")


def _page(template: str) -> str:
    system, links = agent().system(), agent().links().links
    return render_template(template, system=system, links=rows(system, links))
