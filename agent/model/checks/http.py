# SPDX-License-Identifier: GPL-2.0-or-later
"""The HTTP check, and the same over TLS."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from agent.model.checks.check import PortCheck
from agent.model.checks.pattern import Pattern
from agent.model.checks.tls import TlsSettings

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
"""A header's name: RFC 9110, 5.1."""
_OURS = {"host", "content-length", "transfer-encoding", "connection", "accept-encoding", "upgrade"}
_PORT = re.compile(r":[0-9]{1,5}$")
_STATUS = re.compile(r"[1-5][0-9][0-9]")


def _path(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(r"/[!-~]*", value):
        raise PydanticCustomError(
            "path", "is not a path; begin with a slash, and write what is not visible ASCII as %20 and so on"
        )
    return value


def _host(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?", value):
        raise PydanticCustomError("host", "is not a host; write it like www.example.com, with :8080 if it has a port")
    return value


def _header_name(value: Any) -> Any:
    if isinstance(value, str) and not _TOKEN.fullmatch(value):
        raise PydanticCustomError("header", "is not the name of a header; write it like X-Probe")
    if isinstance(value, str) and value.lower() in _OURS:
        raise PydanticCustomError("header", "is set by the check itself; for Host there is a field of its own")
    return value


def _header_value(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(r"[ -~]*", value):
        raise PydanticCustomError("header", "has characters that a header cannot have; use printable ASCII")
    return value


def _statuses(value: Any) -> Any:
    text = str(value) if type(value) is int else value
    first, dash, last = text.partition("-") if isinstance(text, str) else ("", "", "")
    if not _STATUS.fullmatch(first) or (dash and not _STATUS.fullmatch(last)):
        raise PydanticCustomError("statuses", 'is no status; write 200, or a range as "200-399"')
    if dash and int(first) > int(last):
        raise PydanticCustomError("statuses", "is upside down; write the lower status first")
    return text


Statuses = Annotated[
    str,
    BeforeValidator(_statuses),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 100, "maximum": 599},
                {"type": "string", "pattern": "^[1-5][0-9]{2}(-[1-5][0-9]{2})?$"},
            ]
        }
    ),
]
"""One status of HTTP, or a range of them."""


class HttpRequest(PortCheck):
    """What is asked by HTTP, and which answers are well."""

    method: Literal["GET", "HEAD", "OPTIONS"] = Field(
        default="GET", title="Method", description="What is asked with; the answer to HEAD has no body."
    )
    path: Annotated[str, BeforeValidator(_path), Field(max_length=1024)] = Field(
        default="/", title="Path", description="What is asked for, with a query if it has one."
    )
    host: Annotated[str, BeforeValidator(_host), Field(max_length=260)] | None = Field(
        default=None, title="Host", description="The site that is asked for; by default the backend's address."
    )
    headers: dict[
        Annotated[str, BeforeValidator(_header_name)],
        Annotated[str, BeforeValidator(_header_value), Field(max_length=1024)],
    ] = Field(default_factory=dict, max_length=16, title="Headers", description="Sent with the request.")
    statuses: list[Statuses] = Field(
        default=["200-399"],
        min_length=1,
        max_length=16,
        title="Statuses",
        description="That are well: single ones and ranges.",
    )
    redirects: Literal["answer", "follow"] = Field(
        default="answer",
        title="Redirects",
        description="`answer`: a redirect is an answer as any. `follow`: up to five are followed, on the same backend.",
    )
    body: Pattern | None = Field(
        default=None,
        title="Body",
        description="A regular expression (RE2) that is to be found in the first 64 KiB of the body; by default any "
        "body is well.",
    )

    def is_well(self, status: int) -> bool:
        """Whether a status is one of those that are well."""
        spans = (each.partition("-") for each in self.statuses)
        return any(int(first) <= status <= int(last or first) for first, _, last in spans)


class HttpCheck(HttpRequest):
    """A backend is well when it answers a request of HTTP/1.1 in time, with a status and a body as said."""

    model_config = ConfigDict(title="HTTP")

    type: Literal["http"] = Field(title="Type", description="The kind of check.")


class HttpsCheck(HttpRequest, TlsSettings):
    """As HttpCheck, over TLS: a backend's certificate must be as said, too."""

    model_config = ConfigDict(title="HTTPS")

    type: Literal["https"] = Field(title="Type", description="The kind of check.")

    @property
    def asked_name(self) -> str | None:
        """The name that is sent: by default that of the site."""
        return self.server_name or (_PORT.sub("", self.host).strip("[]") if self.host else None)
