# SPDX-License-Identifier: GPL-2.0-or-later
"""The HTTPS check against a real server."""

import asyncio
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest
from aiohttp import web
from health_probes import SOON
from tls_world import NAME, Kept, authority, issued, s_server, server_context

from agent.health import CheckFailed, CheckNotMade, Target
from agent.health.https import HttpsProbe
from agent.health.trust import Contexts
from agent.model import HttpsCheck


@asynccontextmanager
async def site(context):
    """A web server; the names that were asked for by SNI, and the paths."""
    seen = []
    context.sni_callback = lambda _tls, name, _context: seen.append(name)

    async def answer(request):
        seen.append(request.path)
        if request.path == "/there":
            raise web.HTTPFound(request.query.get("to", "/end"))
        return web.Response(text="all is well")

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    at = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await at.start()
    try:
        yield runner.addresses[0][1], seen
    finally:
        await runner.cleanup()


async def ask(port, **settings):
    kept = Kept(
        ours=authority()[0], theirs=authority("theirs")[0], client=issued(name="client"), stranger=issued(by="theirs")
    )
    check = HttpsCheck.model_validate({"type": "https", **settings})
    async with asyncio.timeout(SOON):
        answer = await HttpsProbe(Contexts(kept)).probe(Target(ip_address("127.0.0.1"), port, check))
    assert answer.warning == ("certificate" in answer.words)
    return answer.words


async def test_it_asks_as_http_does():
    async with site(server_context(issued())) as (port, seen):
        assert await ask(port) == "status 200"
        assert await ask(port, authorities="ours", host=f"{NAME}:444", path="/x", body="well$") == "status 200"
        assert await ask(port, authorities="ours", host="a.example.com", server_name=NAME) == "status 200"
        assert seen == [None, "/", NAME, "/x", NAME, "/"]
        for settings, words in (
            ({"statuses": ["404"]}, "^status 200$"),
            ({"body": "maintenance"}, "body is not as it should be"),
            ({"authorities": "theirs"}, "not of these authorities"),
            ({"authorities": "ours", "host": "a.example.com"}, r"^its certificate is not for a\.example\.com$"),
            ({"fail_days": 100, "warn_days": 100}, "^its certificate ends in 90 days$"),
        ):
            with pytest.raises(CheckFailed, match=words):
                await ask(port, **settings)
        assert await ask(port, warn_days=100) == "status 200, its certificate ends in 90 days"
        with pytest.raises(CheckNotMade, match="the secret none is missing"):
            await ask(port, certificate="none")


async def test_who_ends_too_soon_is_not_asked():
    async with site(server_context(issued(days=3))) as (port, seen):
        with pytest.raises(CheckFailed, match="ends in 3 days"):
            await ask(port, fail_days=4)
        assert seen == [None]


async def test_redirects_stay_on_https():
    async with site(server_context(issued())) as (port, seen):
        follow = {"host": NAME, "authorities": "ours", "redirects": "follow", "statuses": ["200"]}
        assert await ask(port, path="/there", **follow) == "status 200"
        assert await ask(port, path=f"/there?to=https://{NAME}/end", **follow) == "status 200"
        assert seen == [NAME, "/there", NAME, "/end"] * 2
        for there in (f"http://{NAME}/end", "https://other.example.com/"):
            with pytest.raises(CheckFailed, match=r"^status 302, to another place$"):
                await ask(port, path=f"/there?to={there}", **follow)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_openssl_gets_the_certificate_that_it_wants(version):
    async with s_server(issued(), version, "-www", "-Verify", "2", "-verify_return_error") as port:
        assert await ask(port, certificate="client", authorities="ours", host=NAME, body="s_server") == "status 200"
        for settings in ({}, {"certificate": "stranger"}):
            with pytest.raises(CheckFailed, match=r"^it refuses: "):
                await ask(port, **settings)
