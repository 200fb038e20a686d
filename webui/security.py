# SPDX-License-Identifier: GPL-2.0-or-later
"""What every answer bears and every change is asked for: headers, the origin of a POST, local redirects."""

import hashlib
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask, Response, abort, current_app, request, url_for

_POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",  # data: for the small pictures in Bootstrap's style sheet
    "font-src 'self'",
    "connect-src 'self'",
    "form-action 'self'",
    "frame-ancestors 'none'",
    "base-uri 'none'",
)

HEADERS = {
    "Content-Security-Policy": "; ".join(_POLICY),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def install(app: Flask) -> None:
    """Have every answer bear the headers, and every POST come from the GUI's own pages."""

    @app.before_request
    def own_pages_only() -> None:
        # A second lock beside the CSRF token; browsers send this header, other programs use the API.
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        if request.method == "POST" and site not in ("same-origin", "none"):
            abort(403, "This form was sent from another site.")

    @app.after_request
    def headers(response: Response) -> Response:
        response.headers.update(HEADERS)
        if request.endpoint not in ("static", "vendor_file"):
            response.headers["Cache-Control"] = "no-store"
        return response

    app.jinja_env.globals["asset"] = asset


def local(target: str | None, fallback: str = "/") -> str:
    """`target` if it is a path of this site, else `fallback`: no link that looks like ours leads elsewhere."""
    if not target or not target.startswith("/") or len(target) > 500:
        return fallback
    # Browsers read \ as /, and drop tabs and line ends, so that /\host and /<tab>/host lead to another site.
    if target[1:2] in ("/", "\\") or not target.isprintable() or "\\" in target:
        return fallback
    parts = urlsplit(target)
    return fallback if parts.scheme or parts.netloc else target


def asset(name: str) -> str:
    """The address of a static file, with a mark that changes when the file does: no cache serves an old one."""
    return url_for("static", filename=name, v=_mark(Path(str(current_app.static_folder)) / name))


@cache
def _mark(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:10]
