# SPDX-License-Identifier: GPL-2.0-or-later
"""The application factory."""

from collections.abc import Mapping
from typing import Any

from flask import Flask, Response, send_from_directory

from webui import (
    access,
    dashboard,
    errors,
    farms,
    figures,
    links,
    lists,
    secrets,
    security,
    session,
    settings,
    snapshots,
    system,
    theme,
    trace,
)
from webui.csrf import csrf_token
from webui.describe import words
from webui.prose import prose
from webui.rates import Samples


def create_app(overrides: Mapping[str, Any] | None = None) -> Flask:
    """Make the GUI; `overrides` are Flask settings and AGENT_SOCKET, for tests. Raises settings.NoKey."""
    app = Flask("webui", static_url_path="/static")
    app.config.from_mapping(settings.DEFAULTS)
    app.config.from_mapping(overrides or {})
    if not app.config.get("SECRET_KEY"):
        app.config["SECRET_KEY"] = settings.session_key()
    app.extensions["samples"] = Samples()
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters.update(figures.FILTERS)
    app.jinja_env.filters["prose"] = prose
    app.jinja_env.globals.update(said=words, csrf_token=csrf_token)

    vendor = settings.vendor_folder()

    @app.get("/static/vendor/<path:name>")
    def vendor_file(name: str) -> Response:
        """Bootstrap and htmx where no nginx stands in front (`make dev`)."""
        return send_from_directory(vendor, name, max_age=3600)

    session.install(app)
    security.install(app)
    theme.install(app)
    errors.install(app)
    for part in (access, dashboard, farms, links, lists, secrets, snapshots, system, theme, trace):
        app.register_blueprint(part.blueprint)
    return app
