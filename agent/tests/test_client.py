# SPDX-License-Identifier: GPL-2.0-or-later
"""The client, where what answers is not an agent in good health."""

import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.client import AgentDown, Client, Problem
from agent.client.readable import READABLE, indented


@contextmanager
def answering(path: Path, answer: Callable[[socket.socket], None]) -> Iterator[Client]:
    """A server that gives one caller `answer` and hangs up."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen()
        listening.settimeout(20)

        def serve() -> None:
            caller, _ = listening.accept()
            with caller:
                caller.recv(65536)
                answer(caller)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Client(path, timeout=5)
        finally:
            thread.join(20)


def saying(text: bytes) -> Callable[[socket.socket], None]:
    return lambda caller: caller.sendall(text)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{]}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b'HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{"claimed": "no"',
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    ],
)
def test_an_answer_that_is_none_means_that_the_agent_is_down(tmp_path: Path, text: bytes):
    with answering(tmp_path / "s", saying(text)) as client, pytest.raises(AgentDown) as caught:
        client.claimed()
    assert str(caught.value).endswith(".")


def test_an_agent_that_hangs_is_given_up(tmp_path: Path):
    done = threading.Event()
    with answering(tmp_path / "s", lambda _: done.wait(20) and None) as client:
        client.timeout = 0.2
        with pytest.raises(AgentDown, match="did not answer within"):
            client.state()
        done.set()


def test_a_socket_that_nobody_listens_on(tmp_path: Path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(tmp_path / "s"))
    with pytest.raises(AgentDown, match="nothing listens"):
        Client(tmp_path / "s").state()
    (tmp_path / "file").touch()
    with pytest.raises(AgentDown):
        Client(tmp_path / "file").state()
    assert stat.S_ISREG((tmp_path / "file").stat().st_mode)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"<html>502</html>", "Bad Gateway"),
        (b"[]", "Bad Gateway"),
        (b'{"title": "T"}', "T"),
        (b'{"title": "T", "detail": "D", "errors": 5}', "D"),
        (b'{"detail": "D", "errors": [1, {"pointer": "/a"}], "current": "x"}', "D"),
    ],
)
def test_an_error_of_any_form_is_a_problem(tmp_path: Path, body: bytes, detail: str):
    text = b"HTTP/1.1 502 Bad Gateway\r\nRetry-After: soon\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with answering(tmp_path / "s", saying(text)) as client, pytest.raises(Problem) as caught:
        client.state()
    assert (caught.value.status, caught.value.detail) == (502, detail)
    assert caught.value.retry_after is None
    assert caught.value.current is None
    assert all(fault.pointer == "/a" for fault in caught.value.errors)


def test_what_is_sent(tmp_path: Path):
    seen = []
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            caller, _ = listening.accept()
            with caller:
                seen.append(caller.recv(65536).decode())
                caller.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        client = Client(path, token="t0ken", source="2001:db8::9")
        with pytest.raises(Problem):
            client.delete_farm("a/b?c", comment="x&y=z é", parent=7)
        thread.join(20)
    first, *headers = seen[0].split("\r\n")
    assert first == "DELETE /api/v1/farms/a%2Fb%3Fc?comment=x%26y%3Dz+%C3%A9 HTTP/1.1"
    assert {"Authorization: Bearer t0ken", "X-Real-IP: 2001:db8::9", 'If-Match: "7"'} <= set(headers)


def test_text_that_nobody_can_read_has_no_white_space() -> None:
    assert indented({"a": [1], "b": "\u202e"}) == '{\n  "a": [\n    1\n  ],\n  "b": "\\u202e"\n}'
    large = {"a": ["x" * READABLE, 1]}
    assert indented(large) == '{"a":["' + large["a"][0] + '",1]}'
