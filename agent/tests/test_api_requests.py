# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests of a wrong form: each is refused with a problem document, and nothing changes."""

import gzip
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.tests.api_world import FARM, TOKEN, World, running

BEARER = f"Authorization: Bearer {TOKEN}"
JSON = "Content-Type: application/json"


@dataclass
class Raw:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> Any:
        assert self.headers["content-type"].startswith("application/problem+json"), self
        content = json.loads(self.body)
        assert content["status"] == self.status
        assert content["title"]
        assert content["detail"]
        return content


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory: Path = tmp_path_factory.mktemp("agent")
    with running(directory) as found:
        yield found


@pytest.fixture(autouse=True)
def _nothing_changes(world: World) -> Iterator[None]:
    yield
    assert world.controller.in_force.number == 1


def exchange(world: World, data: bytes) -> Raw:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(20)
        sock.connect(str(world.socket))
        sock.sendall(data)
        with sock.makefile("rb") as stream:
            status = int(stream.readline().split()[1])
            lines = [line.decode().rstrip() for line in iter(stream.readline, b"\r\n")]
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            length = 0 if data.startswith(b"HEAD") else int(headers.get("content-length", 0))
            return Raw(status, headers, stream.read(length))


def ask(world: World, line: str, *headers: str, body: bytes = b"", length: int | None = None) -> Raw:
    size = [f"Content-Length: {len(body) if length is None else length}"] if body or length is not None else []
    head = "\r\n".join([f"{line} HTTP/1.1", "Host: sluice", "Connection: close", *headers, *size]) + "\r\n\r\n"
    return exchange(world, head.encode() + body)


def test_every_answer_forbids_caching_and_guessing(world: World):
    for answer in (
        ask(world, "GET /api/v1/state", BEARER),
        ask(world, "GET /api/v1/claim"),
        ask(world, "GET /api/v1/metrics", BEARER),
        ask(world, "GET /api/v1/openapi.json"),
        ask(world, "GET /api/v1/state"),
        ask(world, "GET /nothing"),
        exchange(world, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"),
    ):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "traceback" not in answer.body.decode().lower()


@pytest.mark.parametrize(
    "header",
    [
        None,
        "Authorization: Bearer",
        "Authorization: Bearer wrong",
        "Authorization: Basic YWRtaW46YWRtaW4=",
        f"Authorization: Bearer {TOKEN}x",
        f"Authorization: Bearer {'x' * 5000}",
        f"Authorization: Bearer {TOKEN}\r\nAuthorization: Bearer {TOKEN}",
        "Authorization: Bearer \u00e9",
        "Authorization: Bearer ' OR 1=1 --",
    ],
)
def test_without_a_valid_token_nothing_is_told(world: World, header: str | None):
    for line in (
        "GET /api/v1/configuration",
        "PUT /api/v1/configuration",
        "PUT /api/v1/password",
        "DELETE /api/v1/sessions/current",
    ):
        answer = ask(world, line, *([header] if header else []))
        assert answer.status == 401
        assert answer.problem
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_what_is_not_there(world: World):
    for path in ("/", "/api", "/api/v1", "/api/v1/", "/api/v1/farms/", "/api/v2/state", "/api/v1/farms/a/b/c"):
        assert ask(world, f"GET {path}", BEARER).status == 404
    assert ask(world, "GET /api/v1/../../etc/passwd", BEARER).status == 404
    for text in ("0", "-1", "x", "1e3", "9" * 30, "1.0", "%00", "%EF%BC%92"):
        answer = ask(world, f"GET /api/v1/snapshots/{text}", BEARER)
        assert answer.status == 404, text
        assert answer.problem


def test_a_wrong_method_says_which_are_right(world: World):
    answer = ask(world, "PATCH /api/v1/configuration", BEARER)
    assert answer.status == 405
    assert answer.problem
    assert set(answer.headers["allow"].split(",")) == {"GET", "HEAD", "PUT"}
    assert ask(world, "GET /api/v1/snapshots/1/rollback", BEARER).headers["allow"] == "POST"


def test_head_is_get_without_the_body(world: World):
    answer = ask(world, "HEAD /api/v1/configuration", BEARER)
    assert answer.status == 200
    assert answer.headers["etag"] == '"1"'
    assert answer.body == b""


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=501",
        "limit=x",
        "limit=-1",
        "limit=",
        "limit=1&limit=2",
        "before=0",
        f"before={'9' * 30}",
        "colour=red",
        "limit=%D9%A1",
        "limit=1%00",
    ],
)
def test_a_wrong_query_is_refused(world: World, query: str):
    answer = ask(world, f"GET /api/v1/snapshots?{query}", BEARER)
    assert answer.status == 400
    assert query.split("=")[0] in answer.problem["detail"]


@pytest.mark.parametrize("comment", ["%00", "a%0Ab", "%1B[31m", "%E2%80%AE", "x" * 2001, "%C2%85"])
def test_a_comment_of_hostile_characters_or_length_is_refused(world: World, comment: str):
    answer = ask(world, f"PUT /api/v1/farms/web?comment={comment}", BEARER, JSON, body=json.dumps(FARM).encode())
    assert answer.status == 400
    assert "comment" in answer.problem["detail"]


@pytest.mark.parametrize("tag", ["1", '"x"', '"1", "2"', "'1'", '""', "W/1", f'"{"1" * 40}"', '"1"\r\nIf-Match: "2"'])
def test_a_wrong_if_match_is_refused(world: World, tag: str):
    answer = ask(
        world, "PUT /api/v1/configuration", BEARER, JSON, f"If-Match: {tag}", body=b'{"system":{"hostname":"x"}}'
    )
    assert answer.status == 400
    assert "If-Match" in answer.problem["detail"]


def test_a_tag_that_a_proxy_weakened_counts(world: World):
    answer = ask(world, "PUT /api/v1/configuration", BEARER, JSON, 'If-Match: W/"7"', body=b"{}")
    assert answer.status == 412
    assert answer.problem["current"] == 1


@pytest.mark.parametrize(
    "headers",
    [
        [],
        ["Content-Type: text/plain"],
        ["Content-Type: application/x-www-form-urlencoded"],
        ["Content-Type: multipart/form-data; boundary=x"],
        ["Content-Type: application/json; charset=utf-16"],
        [JSON, "Content-Encoding: br"],
    ],
)
def test_another_content_type_is_refused(world: World, headers: list[str]):
    answer = ask(world, "PUT /api/v1/farms/web", BEARER, *headers, body=json.dumps(FARM).encode())
    assert answer.status == 415
    assert answer.problem


def test_a_compressed_body_is_never_unpacked(world: World):
    bomb = gzip.compress(b" " * 50_000_000)
    answer = ask(world, "PUT /api/v1/configuration", BEARER, JSON, "Content-Encoding: gzip", body=bomb)
    assert answer.status == 415
    assert answer.problem


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("sessions", 64 * 1024),
        ("claim", 64 * 1024),
        ("password", 64 * 1024),
        ("farms/web", 256 * 1024),
        ("configuration", 32 * 1024 * 1024),
    ],
)
def test_a_body_that_is_too_large_is_refused_before_it_is_read(world: World, path: str, limit: int):
    method = "POST" if path in ("sessions", "claim") else "PUT"
    answer = ask(world, f"{method} /api/v1/{path}", BEARER, JSON, body=b"{", length=limit + 1)
    assert answer.status == 413
    assert str(limit) in answer.problem["detail"]


def test_a_body_without_a_length_is_cut_at_the_limit(world: World):
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    head = f"POST /api/v1/sessions HTTP/1.1\r\nHost: s\r\n{JSON}\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = exchange(world, head.encode() + chunk * 2 + b"0\r\n\r\n")
    assert answer.status == 413


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"\xff\xfe",
        b"\xef\xbb\xbf{}x",
        b'{"farms":{},"farms":{}}',
        b'{"version": NaN}',
        b'{"version": 1e400}',
        b'{"version": 2}',
        b'{"farms": {"web": 5}}',
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b'{"version": ' + b"9" * 10_000 + b"}",
        b'{"__proto__": {}}',
        b'{"farms": {"\\ud800": {}}}',
        b'{"system": {"hostname": "a\\u0000b"}}',
    ],
)
def test_a_body_that_is_no_document_is_refused_with_its_faults(world: World, body: bytes):
    for path in ("PUT /api/v1/configuration", "POST /api/v1/compile"):
        answer = ask(world, path, BEARER, JSON, body=body, length=len(body))
        assert answer.status == 422, answer.body
        assert all(error["pointer"] is not None and error["detail"] for error in answer.problem["errors"])
        assert answer.problem["errors"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/user"),
        ({"user": "admin"}, "/password"),
        ({"user": 1, "password": "x"}, "/user"),
        ({"user": "admin", "password": ["x"]}, "/password"),
        ({"user": "admin", "password": "x", "otp": "1"}, "/otp"),
        ({"user": "x" * 65, "password": "x"}, "/user"),
        ({"user": "admin", "password": "x" * 1025}, "/password"),
    ],
)
def test_a_wrong_log_in_form_is_refused_without_echoing_secrets(world: World, body: Any, pointer: str):
    answer = ask(world, "POST /api/v1/sessions", JSON, body=json.dumps(body).encode())
    assert answer.status == 422
    assert pointer in [error["pointer"] for error in answer.problem["errors"]]
    assert "x" * 30 not in answer.body.decode()


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ([], ""),
        ({"new": "x" * 40}, "/current"),
        ({"current": "x" * 40}, "/new"),
        ({"current": 1, "new": "x" * 40}, "/current"),
        ({"current": "x" * 40, "new": None}, "/new"),
        ({"current": "x" * 40, "new": "x" * 1025}, "/new"),
        ({"current": "x" * 1025, "new": "x" * 40}, "/current"),
        ({"current": "x" * 40, "new": "\ud800" * 10}, "/new"),
        ({"current": "x" * 40, "new": "x" * 40, "user": "admin"}, "/user"),
    ],
)
def test_a_wrong_change_of_password_is_refused_without_echoing_secrets(world: World, body: Any, pointer: str):
    answer = ask(world, "PUT /api/v1/password", BEARER, JSON, body=json.dumps(body).encode())
    assert answer.status == 422
    assert pointer in [error["pointer"] for error in answer.problem["errors"]]
    assert "x" * 30 not in answer.body.decode()


def test_a_body_where_none_belongs_is_refused(world: World):
    assert ask(world, "POST /api/v1/snapshots/1/rollback", BEARER, JSON, body=b"{}").status == 400
    assert ask(world, "GET /api/v1/state", BEARER, body=b"x").status == 400


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /api/v1/claim HTTP/1.1\r\nHost: x\r\nBad Header: x\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40_000 + b"\r\n\r\n",
        b"POST /api/v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/v1/sessions HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_what_is_no_http_gets_a_problem_too(world: World, data: bytes):
    answer = exchange(world, data)
    assert answer.status == 400
    assert answer.problem


def test_an_expectation_that_cannot_be_met(world: World):
    answer = ask(world, "PUT /api/v1/configuration", BEARER, JSON, "Expect: a miracle", body=b"{}")
    assert answer.status == 417
    assert answer.problem


def test_a_body_is_asked_for_where_the_caller_waits_for_that(world: World):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(20)
        sock.connect(str(world.socket))
        head = ["PUT /api/v1/configuration HTTP/1.1", "Host: s", BEARER, JSON, "Content-Length: 2"]
        sock.sendall("\r\n".join([*head, "Expect: 100-continue", "", ""]).encode())
        assert sock.recv(1000).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        sock.sendall(b"{]")
        assert b" 422 " in sock.recv(4000)


def test_a_caller_that_leaves_in_the_middle_disturbs_nobody(world: World):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(str(world.socket))
        sock.sendall(f"PUT /api/v1/farms/web HTTP/1.1\r\nHost: s\r\n{BEARER}\r\n{JSON}\r\n".encode())
        sock.sendall(b"Content-Length: 1000\r\n\r\n{")
    assert ask(world, "GET /api/v1/state", BEARER).status == 200


def test_a_forged_source_is_not_taken_for_an_address(world: World):
    for value in ("x", "127.0.0.1, 1.2.3.4", "<script>", ""):
        ask(
            world,
            "POST /api/v1/sessions",
            JSON,
            f"X-Real-IP: {value}",
            body=b'{"user":"nobody","password":"wrong one"}',
        )
    sources = {source for (source,) in world.stored("SELECT source FROM audit")}
    assert not sources - {"console", "credential"}


@pytest.mark.parametrize("host", [b"a:99999999", b'a b"<>\xff', b"[::", b""])
def test_a_host_that_is_none_does_not_matter(world: World, host: bytes):
    answer = exchange(world, b"GET /api/v1/claim HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert answer.status == 200
    assert json.loads(answer.body) == {"claimed": False}
