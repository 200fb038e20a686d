# SPDX-License-Identifier: GPL-2.0-or-later
"""A request whose outer form has been checked, with what the handlers read of it."""

import asyncio
import contextlib
import os
import pwd
import re
import socket
import struct
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeVar

from aiohttp import web
from pydantic import BaseModel
from yarl import URL

from agent.api.problems import SECURITY_HEADERS, Refusal
from agent.api.route import MAX_NUMBER, Route
from agent.model import conform, load

if TYPE_CHECKING:
    from agent.controller import Controller

M = TypeVar("M", bound=BaseModel)

BODY_SECONDS = 60
"""How long a request's body may take to arrive."""

CONSOLE_USER = "sluice-console"
"""The user that the console on the appliance's screen and serial port runs as."""

_TAG = re.compile(r'(?:W/)?"([0-9]{1,15})"')


@dataclass(frozen=True)
class Call:
    """One request on its way to its handler. `author` is the authenticated caller's name, empty on open endpoints."""

    request: web.Request
    route: Route
    controller: "Controller"
    query: dict[str, str]
    author: str = ""
    token: str = ""

    @property
    def source(self) -> str:
        """The address of the one who asks, as nginx or the GUI tell it.

        Only they, the console and the CLI can reach the socket: "console" and "local" stand for those two.
        """
        given = self.request.headers.get("X-Real-IP", "")
        try:
            return str(ip_address(given))
        except ValueError:
            return "console" if peer_uid(self.request) in console_uids() else "local"

    @property
    def comment(self) -> str:
        """The comment of a change, without white space around it."""
        return self.query.get("comment", "").strip()

    def number(self, name: str = "number") -> int:
        """A snapshot's number in the path. Raises Refusal 404: what is no number is no snapshot's."""
        text = self.request.match_info[name]
        if not re.fullmatch(r"[0-9]{1,16}", text) or not 1 <= int(text) <= MAX_NUMBER:
            raise Refusal(404, f"There is no snapshot {shown(text)}; snapshots have whole numbers from 1.")
        return int(text)

    def parent(self) -> int | None:
        """The snapshot that If-Match names, None without one. Raises Refusal 400 for any other form.

        A weak tag is taken for the number in it: proxies that compress answers weaken tags on their way.
        """
        given = self.request.headers.getall("If-Match", [])
        if not given or given == ["*"]:
            return None
        found = _TAG.fullmatch(given[0].strip()) if len(given) == 1 else None
        if found is None:
            raise Refusal(400, 'If-Match must be the ETag of one snapshot, such as "12" with its quotes, or *.')
        return int(found[1])

    async def content(self) -> Any:
        """The body as parsed JSON. Raises Refusal (415, 413, 408, 400) and Invalid."""
        body = await self.body()
        return await asyncio.to_thread(load, body)

    async def read(self, model: type[M]) -> M:
        """The body as a `model`. Raises what `content` does."""
        return conform(model, await self.content())

    async def body(self) -> bytes:
        """The body's bytes, at most the route's limit."""
        if self.request.content_type != "application/json":
            raise Refusal(415, "The body must be JSON: Content-Type: application/json.", headers=_ACCEPT)
        if self.request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Refusal(415, "The body must not be compressed.", headers={"Accept-Encoding": "identity"})
        charset = self.request.charset or "utf-8"
        if charset.lower() not in ("utf-8", "utf8"):
            raise Refusal(415, "The body must be UTF-8.", headers=_ACCEPT)
        limit = self.route.limit
        if (self.request.content_length or 0) > limit:
            raise _too_large(limit)
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for chunk in self.request.content.iter_any():
                    size += len(chunk)
                    if size > limit:
                        raise _too_large(limit)
                    chunks.append(chunk)
        except TimeoutError:
            raise Refusal(408, f"The body did not arrive within {BODY_SECONDS} seconds.") from None
        return b"".join(chunks)


_ACCEPT = {"Accept": "application/json"}


def _too_large(limit: int) -> Refusal:
    return Refusal(413, f"The body is larger than {limit} bytes.", headers={"Connection": "close"})


def check_query(route: Route, url: URL) -> dict[str, str]:
    """The query's parameters. Raises Refusal 400: unknown, given twice, or not of their form."""
    known = {parameter.name: parameter for parameter in route.query}
    found: dict[str, str] = {}
    for name, text in url.query.items():
        if name not in known:
            words = ", ".join(known) or "none"
            raise Refusal(400, f"{shown(name)} is not a parameter of this endpoint; it has {words}.")
        if name in found:
            raise Refusal(400, f"The parameter {name} is given twice.")
        fault = known[name].fault(text)
        if fault is not None:
            raise Refusal(400, f"The parameter {name} {fault}.")
        found[name] = text
    return found


def peer_uid(request: web.BaseRequest) -> int | None:
    """The user of the process at the other end of the Unix socket, as the kernel tells it."""
    transport = request.transport
    end = transport.get_extra_info("socket") if transport is not None else None
    if end is None or end.family != socket.AF_UNIX:
        return None
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(uid)


@cache
def console_uids() -> frozenset[int]:
    """The console's user, root, and the agent's own user (when it is run by hand in development)."""
    uids = {0, os.geteuid()}
    with contextlib.suppress(KeyError):  # there is no such user where this is no appliance
        uids.add(pwd.getpwnam(CONSOLE_USER).pw_uid)
    return frozenset(uids)


def shown(text: str) -> str:
    """A caller's text as it may stand in an answer: short, and quoted so that nothing in it acts."""
    return ascii(text if len(text) <= 40 else text[:37] + "...")


def answer(model: BaseModel, *, status: int = 200, tag: int | None = None, location: str = "") -> web.Response:
    """A JSON answer, with an ETag where `tag` is a snapshot's number."""
    headers = {**SECURITY_HEADERS}
    if tag is not None:
        headers["ETag"] = f'"{tag}"'
    if location:
        headers["Location"] = location
    body = model.model_dump_json(by_alias=True).encode()
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)
