# SPDX-License-Identifier: GPL-2.0-or-later
"""Which exception becomes which problem."""

import logging
import secrets
from typing import Any

from aiohttp import web

from agent.access import (
    AlreadyClaimed,
    NoSuchSecret,
    SessionNeeded,
    Throttled,
    UnfitSecret,
    WeakPassword,
    WrongCode,
    WrongCredentials,
    WrongPassword,
)
from agent.api.problems import Refusal
from agent.controller import ApplyFailed, SecretInUse, TraceRunning
from agent.dataplane import CannotTrace
from agent.model import Fault, Invalid
from agent.snapshots import Conflict, NotFound, Pending, StoreDamaged, StoreError

log = logging.getLogger(__name__)

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="sluice"'}
"""What a 401 must bear (RFC 9110, 11.6.1)."""


_STATUSES: dict[type[Exception], int] = {
    WrongCredentials: 401,
    WrongCode: 403,
    # Not 401: the session holds, and whoever sees a 401 takes it for ended.
    WrongPassword: 403,
    SessionNeeded: 403,
    NotFound: 404,
    NoSuchSecret: 404,
    AlreadyClaimed: 409,
    Pending: 409,
    TraceRunning: 409,
    SecretInUse: 409,
    Conflict: 412,
    WeakPassword: 422,
    UnfitSecret: 422,
    Throttled: 429,
    StoreDamaged: 500,
    ApplyFailed: 500,
    CannotTrace: 500,
    StoreError: 507,
}
"""The status of each exception of ours that is meant for the caller; the first that fits counts."""

_POINTERS: dict[type[Exception], str] = {WeakPassword: "/password", WrongPassword: "/current", UnfitSecret: "/value"}
"""Where in the body the fault is that an exception tells of."""


def refusal(error: Exception) -> Refusal:
    """The problem of any exception. What nobody foresaw is logged, and told by an id only."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, Invalid):
        count = len(error.faults)
        words = "1 fault was found" if count == 1 else f"{count} faults were found"
        return Refusal(422, f"{words}; nothing has changed.", faults=error.faults)
    if isinstance(error, web.HTTPException):
        return _of_http(error)
    status = next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), None)
    if status is None:
        return _unforeseen(error)
    if status >= 500:
        log.error("A request failed: %s", error)
    return Refusal(status, _sentence(error), faults=_faults(error), extra=_extra(error), headers=_headers(error))


def _faults(error: Exception) -> list[Fault]:
    if isinstance(error, SecretInUse):
        return error.faults
    pointer = next((place for kind, place in _POINTERS.items() if isinstance(error, kind)), None)
    return [Fault(pointer, str(error))] if pointer is not None else []


def _extra(error: Exception) -> dict[str, Any]:
    return {"current": error.current} if isinstance(error, Conflict) else {}


def _headers(error: Exception) -> dict[str, str]:
    if isinstance(error, WrongCredentials):
        return CHALLENGE
    if isinstance(error, Throttled | TraceRunning):
        return {"Retry-After": str(error.retry_after_s)}
    return {"Retry-After": "1"} if isinstance(error, Pending) else {}


def _of_http(error: web.HTTPException) -> Refusal:
    words = {
        404: "There is nothing at this path; /api/v1/openapi.json lists what there is.",
        405: "This path does not have this method; the header Allow lists those it has.",
        413: "The body is too large.",
        417: "The only expectation that is met is 100-continue.",
    }
    kept = {name: value for name, value in error.headers.items() if name in ("Allow", "Location")}
    return Refusal(error.status, words.get(error.status, error.reason), headers=kept)


def _unforeseen(error: Exception) -> Refusal:
    number = secrets.token_hex(4)
    log.error("Error %s while answering a request", number, exc_info=error)
    return Refusal(500, f"The agent failed in a way nobody foresaw; its journal has the cause as error {number}.")


def _sentence(error: Exception) -> str:
    text = str(error).strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
