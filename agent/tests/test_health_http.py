# SPDX-License-Identifier: GPL-2.0-or-later
"""The HTTP check against real servers, good and hostile ones."""

import asyncio
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest
from aiohttp import web
from health_probes import SOON, checking

from agent.health import CheckFailed, Target
from agent.health.http import MOST_BODY, HttpProbe
from agent.model import HttpCheck


def target(port, address="127.0.0.1", **settings):
    return Target(ip_address(address), port, HttpCheck.model_validate({"type": "http", **settings}))


async def ask(port, address="127.0.0.1", **settings):
    async with asyncio.timeout(SOON):
        return (await HttpProbe().probe(target(port, address, **settings))).words


@asynccontextmanager
async def site(answer, host="127.0.0.1"):
    """A web server that keeps the requests it got."""
    seen = []

    async def handle(request):
        seen.append(request)
        return await answer(request)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    at = web.TCPSite(runner, host, 0)
    await at.start()
    try:
        yield runner.addresses[0][1], seen
    finally:
        await runner.cleanup()


@asynccontextmanager
async def hostile(*parts, endless=b"", close=True):
    """A server that sends these bytes whatever it is asked, and then the same again and again."""
    told = asyncio.Event()

    async def serve(reader, writer):
        try:
            await reader.readuntil(b"\r\n\r\n")
            for part in parts:
                writer.write(part)
            while endless:
                writer.write(endless)
                await writer.drain()
            await writer.drain()
            if not close:
                await told.wait()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        told.set()
        server.close()


async def say(_request, status=200, text="all is well, 17 sessions\nthat is all\n"):
    return web.Response(status=status, text=text)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_it_asks_what_the_document_says(host):
    async with site(say, host) as (port, seen):
        assert await ask(port, host) == "status 200"
        assert seen[0].headers["Host"] == (f"[::1]:{port}" if host == "::1" else f"{host}:{port}")
        headers = {"X-Probe": "yes", "User-Agent": "mine"}
        settings = {"method": "HEAD", "path": "/a%2Fb/../c?x=%20y", "host": "www.example.com", "headers": headers}
        assert await ask(port, host, **settings) == "status 200"
        assert (seen[1].method, seen[1].raw_path) == ("HEAD", settings["path"])
        assert seen[1].headers["Host"] == "www.example.com"
        assert (seen[1].headers["X-Probe"], seen[1].headers["User-Agent"]) == ("yes", "mine")
        assert seen[1].version == (1, 1)


async def test_statuses_and_body_decide():
    async with site(lambda request: say(request, int(request.path[1:]))) as (port, _):
        assert await ask(port, path="/302") == "status 302"
        assert await ask(port, path="/503", statuses=["200-299", 503]) == "status 503"
        for path, settings in (("/404", {}), ("/200", {"statuses": ["204"]})):
            with pytest.raises(CheckFailed, match=f"^status {path[1:]}$"):
                await ask(port, path=path, **settings)
        assert await ask(port, path="/200", body=r"^all .* \d+ sessions$") == "status 200"
        with pytest.raises(CheckFailed, match=r"^status 200, and the body is not as it should be$"):
            await ask(port, path="/200", body="maintenance")


async def test_redirects_are_followed_to_the_same_backend_only():
    async def answer(request):
        if request.path == "/end":
            return await say(request)
        raise web.HTTPFound(request.query["to"]) if "to" in request.query else web.HTTPMovedPermanently("/loop")

    follow = {"redirects": "follow", "statuses": ["200"]}
    async with site(answer) as (port, seen):
        assert await ask(port, path="/?to=end", **follow) == "status 200"
        # A redirect to the site's own name goes to the backend, too, whatever its port there.
        assert await ask(port, path="/?to=http://www.example.com/end", host="www.example.com:81", **follow)
        seen.clear()
        with pytest.raises(CheckFailed, match="more than 5 redirects"):
            await ask(port, path="/loop", **follow)
        assert len(seen) == 6
        for there in ("http://192.0.2.1/end", "https://127.0.0.1/end", "//example.com/", "file:///etc/passwd"):
            with pytest.raises(CheckFailed, match=r"^status 302, to another place$"):
                await ask(port, path=f"/?to={there}", **follow)


async def test_who_refuses_says_so(free_port):
    with pytest.raises(CheckFailed, match=r"^connection refused$"):
        await ask(free_port)


@pytest.fixture
async def free_port():
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ([], "closed without an answer"),
        ([b"SSH-2.0-OpenSSH_9.2\r\n"], "not HTTP"),
        ([b"HTTP/1.1 abc\r\n\r\n"], "not HTTP"),
        ([HEAD + b"X: " + b"a" * 100_000 + b"\r\n\r\n"], "not HTTP"),
        ([HEAD + b"Content-Length: 100\r\n\r\nshort"], "broke off"),
        ([HEAD + b"Content-Length: -1\r\n\r\n"], "not HTTP"),
        ([HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"], "not HTTP|broke off"),
        ([b"\x16\x03\x01\x00\xff" * 10], "not HTTP"),
    ],
    ids=["nothing", "ssh", "no status", "huge header", "short", "negative", "chunks", "bytes"],
)
async def test_what_is_no_answer_has_failed(sent, words):
    async with hostile(*sent) as port:
        with pytest.raises(CheckFailed, match=words):
            await ask(port, body="x")


async def test_an_endless_body_is_read_to_a_bound():
    async with hostile(HEAD + b"\r\n", endless=b"a" * 4096) as port:
        assert await ask(port) == "status 200"
        with pytest.raises(CheckFailed, match="body is not"):
            await ask(port, body="b")
        assert await ask(port, body="a{100}$") == "status 200"
    late = b"a" * MOST_BODY + b"b"
    async with hostile(HEAD + b"Content-Length: %d\r\n\r\n" % len(late) + late) as port:
        with pytest.raises(CheckFailed, match="body is not"):
            await ask(port, body="b")


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nX: 1", HEAD + b"Content-Length: 9\r\n\r\nslow"])
async def test_a_slow_backend_ends_with_the_timeout(sent):
    async with hostile(sent, close=False) as port:
        # Paces below what a document may say keep the tests quick.
        pace = {"interval": 0.05, "timeout": 0.05, "fall": 1}
        slow = Target(ip_address("127.0.0.1"), port, HttpCheck.model_construct(type="http", body="x", **pace))
        async with checking([slow]) as (_, changes):
            _, verdict = await changes.get()
            assert verdict.reason == f"HTTP port {port}: no answer within 0.05 s"


async def test_a_pattern_that_would_backtrack_for_ever_takes_no_longer_than_another():
    async with site(lambda request: say(request, text="a" * MOST_BODY)) as (port, _):
        with pytest.raises(CheckFailed, match="body is not"):
            await ask(port, body="(a+)+b")
