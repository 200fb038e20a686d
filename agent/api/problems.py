# SPDX-License-Identifier: GPL-2.0-or-later
"""The one place that turns exceptions into answers: RFC 9457 problem documents."""

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web

from agent.model import Fault

CONTENT_TYPE = "application/problem+json"

SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""On every answer: nothing of the API is kept by caches, guessed at, or shown as a page."""


class Refusal(Exception):
    """A request that is not granted, with the HTTP status and the words of its problem document.

    `extra` are further members of the document, `headers` further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        faults: Iterable[Fault] = (),
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status = status
        self.detail = detail
        self.faults = list(faults)
        self.extra = dict(extra or {})
        self.headers = dict(headers or {})
        super().__init__(detail)

    def answer(self) -> web.Response:
        """The answer that tells the caller."""
        content: dict[str, Any] = {
            "type": "about:blank",
            "title": title(self.status),
            "status": self.status,
            "detail": self.detail,
        }
        if self.faults:
            content["errors"] = [{"pointer": fault.pointer, "detail": fault.message} for fault in self.faults]
        content |= self.extra
        return web.Response(
            status=self.status,
            body=json.dumps(content).encode(),
            content_type=CONTENT_TYPE,
            headers={**SECURITY_HEADERS, **self.headers},
        )


def title(status: int) -> str:
    """The words of an HTTP status, as RFC 9110 has them."""
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        return "Unprocessable Content"
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return "Content Too Large"
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
