# SPDX-License-Identifier: GPL-2.0-or-later
"""HTTP with the agent over its Unix socket; nothing but the standard library, so that the CLI starts quickly."""

import http.client
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlencode

if TYPE_CHECKING:
    from agent.model import Fault

DEFAULT_SOCKET = "/run/sluice-api/agent.sock"
"""Where the agent listens on the appliance; the environment variable SLUICE_SOCKET names another."""

PREFIX = "/api/v1"
"""What the path of every endpoint begins with."""

MAX_ANSWER = 128 * 1024 * 1024
"""An answer larger than this (bytes) is not read to its end but is an error."""


class AgentDown(Exception):
    """The agent can't be reached or gave no HTTP answer. The text says why, and is fit to be shown."""


class Problem(Exception):
    """The agent answered with an error, an RFC 9457 problem document.

    `status` is the HTTP status, `title` and `detail` are for people, `extra` has the members that the document bears
    beside them (`current` of a conflict), `retry_after` is in seconds and None where the agent names none.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        *,
        faults: tuple[tuple[str, str], ...] = (),
        extra: Mapping[str, Any] | None = None,
        retry_after: int | None = None,
    ) -> None:
        self.status = status
        self.title = title
        self.detail = detail
        self.faults = faults
        self.extra = dict(extra or {})
        self.retry_after = retry_after
        super().__init__(detail or title)

    @property
    def errors(self) -> "list[Fault]":
        """Every fault that the agent found, with its JSON pointer."""
        from agent.model import Fault  # noqa: PLC0415  the model takes long to import and few calls need it

        return [Fault(where, words) for where, words in self.faults]

    @property
    def current(self) -> int | None:
        """The number of the snapshot in force, where the agent refused a change that was made from another."""
        value = self.extra.get("current")
        return value if isinstance(value, int) else None


@dataclass(frozen=True)
class Answer:
    """A successful HTTP answer. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as parsed JSON. Raises AgentDown when it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise AgentDown("The agent's answer is not JSON.") from None

    @property
    def snapshot(self) -> int:
        """The snapshot's number in the ETag. Raises AgentDown when there is none."""
        tag = self.headers.get("etag", "").strip('"')
        if not (tag.isascii() and tag.isdigit()):
            raise AgentDown("The agent's answer names no snapshot.")
        return int(tag)


class Connection:
    """Sends requests to the agent, each on a connection of its own; safe to share among threads.

    `token` is a session's or an API token; `source` is the address of the person or program for whom the caller asks
    (log-in throttling and the audit log are by it); `timeout` in seconds holds for connecting and each read.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        token: str | None = None,
        source: str | None = None,
        timeout: float = 10.0,
    ) -> None:
        self.path = str(path or os.environ.get("SLUICE_SOCKET") or DEFAULT_SOCKET)
        self.token = token
        self.source = source
        self.timeout = timeout

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int | None] | None = None,
        content: Any = None,
        body: bytes | None = None,
        parent: int | None = None,
    ) -> Answer:
        """Ask for `path` (below /api/v1, quoted as an URL wants it). Raises Problem and AgentDown.

        `content` is sent as JSON, or `body` as it is; `parent` becomes If-Match; of `query`, None is left out.
        """
        headers = {"Host": "sluice", "Accept": "application/json, application/problem+json, text/plain"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        if self.source is not None:
            headers["X-Real-IP"] = self.source
        if parent is not None:
            headers["If-Match"] = f'"{parent}"'
        if content is not None:
            body = json.dumps(content).encode()
        if body is not None:
            headers["Content-Type"] = "application/json"
        given = {key: value for key, value in (query or {}).items() if value is not None}
        target = PREFIX + path + ("?" + urlencode(given) if given else "")
        status, answer_headers, answer = self._send(method, target, body, headers)
        if status >= 400:
            _raise_problem(status, answer_headers, answer)
        return Answer(status, answer_headers, answer)

    def _send(
        self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        connection = _UnixConnection(self.path, self.timeout)
        try:
            connection.request(method, target, body=body, headers=dict(headers))
            answer = connection.getresponse()
            content = answer.read(MAX_ANSWER + 1)
            if len(content) > MAX_ANSWER:
                raise AgentDown("The agent's answer is too large.")
            return answer.status, {key.lower(): value for key, value in answer.getheaders()}, content
        except TimeoutError:
            raise AgentDown(f"The agent did not answer within {self.timeout:g} seconds.") from None
        except FileNotFoundError:
            raise AgentDown(f"The agent is not running: {self.path} does not exist.") from None
        except PermissionError:
            raise AgentDown(f"This user may not talk to the agent: {self.path} is not open to it.") from None
        except ConnectionRefusedError:
            raise AgentDown(f"The agent is not running: nothing listens on {self.path}.") from None
        except (OSError, http.client.HTTPException) as error:
            words = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise AgentDown(f"The agent broke off: {words}.") from None
        finally:
            connection.close()


class _UnixConnection(http.client.HTTPConnection):
    """An HTTP connection whose transport is a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("sluice", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _raise_problem(status: int, headers: Mapping[str, str], body: bytes) -> NoReturn:
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        content = {}
    errors = content.pop("errors", [])
    faults = tuple(
        (str(item.get("pointer", "")), str(item.get("detail", "")))
        for item in (errors if isinstance(errors, list) else [])
        if isinstance(item, dict)
    )
    standard = {key: content.pop(key, None) for key in ("type", "title", "status", "detail")}
    title = str(standard["title"] or http.client.responses.get(status, "Error"))
    delay = headers.get("retry-after", "")
    raise Problem(
        status,
        title,
        str(standard["detail"] or title),
        faults=faults,
        extra=content,
        retry_after=int(delay) if delay.isascii() and delay.isdigit() else None,
    )
