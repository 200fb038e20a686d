# SPDX-License-Identifier: GPL-2.0-or-later
"""The appliance itself, to read."""

from flask import Blueprint, render_template

from webui.session import agent

blueprint = Blueprint("system", __name__, url_prefix="/system")


@blueprint.get("")
def index() -> str:
    """Version, links, memory, data partition, connection table, kernel settings."""
    return render_template("system/index.html", system=agent().system())


@blueprint.get("/live")
def fragment() -> str:
    """The part that changes."""
    return render_template("system/live.html", system=agent().system())
