# SPDX-License-Identifier: GPL-2.0-or-later
"""What an endpoint is: one declaration that serves the router, the checks of a request, and the OpenAPI document."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, Literal

from aiohttp import web
from pydantic import BaseModel

from agent.model import MAX_BYTES

if TYPE_CHECKING:
    from agent.api.call import Call

PREFIX = "/api/v1"

SMALL = 64 * 1024
"""Largest body of a request in bytes, where the endpoint says nothing else."""

FARM = 256 * 1024
"""Largest body of a farm: 256 backends, written with much white space."""

LIST = 1024 * 1024
"""Largest body of a network list: 10 000 networks, written with much white space."""

LARGE = MAX_BYTES
"""Largest body of a configuration."""

MAX_NUMBER = 2**53 - 1
"""Largest snapshot number in a path or query; JSON's readers agree on integers up to here."""

Handler = Callable[["Call"], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Query:
    """A parameter in the query. Integers have bounds, strings a length in characters."""

    name: str
    kind: Literal["integer", "string", "network"]
    description: str
    minimum: int = 1
    maximum: int = MAX_NUMBER

    def schema(self) -> dict[str, Any]:
        """The parameter's JSON schema."""
        if self.kind != "integer":
            return {"type": "string", "maxLength": self.maximum}
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}

    def fault(self, text: str) -> str | None:
        """What is wrong with a value, or None."""
        if self.kind == "network":
            fit = "must be an address, or a network without bits behind its prefix length, such as 192.0.2.0/24"
            return None if _is_network(text) else fit
        if self.kind == "string":
            if len(text) > self.maximum:
                return f"is longer than {self.maximum} characters"
            controls = any(is_control(character) for character in text)
            return "has control characters; write it on one line of plain text" if controls else None
        if not re.fullmatch(r"[0-9]{1,16}", text) or not self.minimum <= int(text) <= self.maximum:
            return f"must be a whole number from {self.minimum} to {self.maximum}"
        return None


@dataclass(frozen=True)
class Reply:
    """A successful answer: what it means, and the model (or the media type and schema) of its body."""

    description: str
    model: type[BaseModel] | None = None
    media: str = "application/json"
    schema: Mapping[str, Any] | None = None
    tagged: bool = False
    """Whether the answer bears an ETag, the number of the snapshot in force."""


@dataclass(frozen=True)
class Route:
    """An endpoint. `path` is below /api/v1 and has its parameters in braces; {name} is a name, others are numbers."""

    method: Literal["GET", "PUT", "POST", "DELETE"]
    path: str
    handler: Handler
    summary: str
    replies: Mapping[int, Reply]
    tag: str
    description: str = ""
    query: tuple[Query, ...] = ()
    body: type[BaseModel] | None = None
    limit: int = SMALL
    is_open: bool = False
    """Whether it is answered without a token."""
    conditional: bool = False
    """Whether it takes If-Match."""
    refusals: Mapping[int, str] = field(default_factory=dict)
    """Errors of this endpoint beside those that every endpoint has."""
    called: str = ""
    """The name of the operation, where several endpoints share a handler's name."""

    @property
    def operation(self) -> str:
        """The name of the operation, unique among all: by default that of its handler."""
        return self.called or str(getattr(self.handler, "__name__", self.path))

    @property
    def parameters(self) -> list[str]:
        """The names of the path's parameters."""
        return re.findall(r"\{(\w+)\}", self.path)


def _is_network(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return False
    return True


def is_control(character: str) -> bool:
    """Whether a character has no place in a line of text: controls, bidirectional overrides, line separators."""
    point = ord(character)
    return (
        point < 0x20
        or 0x7F <= point <= 0x9F
        or 0x202A <= point <= 0x202E
        or 0x2066 <= point <= 0x2069
        or point in (0x2028, 0x2029, 0xFEFF)
        or 0xD800 <= point <= 0xDFFF
    )
