# SPDX-License-Identifier: GPL-2.0-or-later
"""The check that sends and expects, against servers, good and hostile ones."""

import asyncio
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest
from health_probes import SOON, checking

from agent.health import CheckFailed, Target
from agent.health.expect import MOST, ExpectProbe
from agent.model import ExpectCheck


async def ask(port, host="127.0.0.1", **settings):
    check = ExpectCheck.model_validate({"type": "expect", **settings})
    async with asyncio.timeout(SOON):
        return await ExpectProbe().probe(Target(ip_address(host), port, check))


@asynccontextmanager
async def server(talk, host="127.0.0.1"):
    """A server that does `talk(reader, writer)` with each client, and closes when that is over."""

    async def serve(reader, writer):
        try:
            await talk(reader, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, host, 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


def says(*parts, stays=False):
    """Sends these bytes, each when the one before has gone; then closes, or waits until the client does."""

    async def talk(reader, writer):
        for part in parts:
            writer.write(part)
            await writer.drain()
        while stays and await reader.read(MOST):
            pass

    return talk


async def redis(reader, writer):
    """Answers as such a server does, after a banner."""
    writer.write(b"+HELLO\r\n")
    while line := await reader.readline():
        writer.write(b"+PONG\r\n" if line == b"PING\r\n" else b"-ERR unknown command\r\n")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_banner_a_request_and_an_answer(host):
    async with server(redis, host) as port:
        said = {"banner": r"^\+HELLO\r\n", "expect": r"^\+PONG\r\n$"}
        answer = await ask(port, host, send=r"PING\r\n", **said)
        assert answer.latency > 0
        assert answer.words == "as expected"
        await ask(port, host, send="50494e47 0d0a", encoding="hex", **said)
        # Without a banner of its own the banner belongs to the answer.
        await ask(port, host, send=r"PING\r\n", expect=r"^\+HELLO\r\n\+PONG")
        # Without anything to send the banner is the answer.
        await ask(port, host, expect=r"^\+HELLO")


async def test_bytes_are_expected():
    async with server(says(b"\xff\x00\xfe", stays=True)) as port:
        await ask(port, expect=r"^\xff\x00.$")


@pytest.mark.parametrize(
    ("sent", "said", "words"),
    [
        ([], {}, "^the connection was closed, and no answer came$"),
        ([b"no"], {}, "^the answer is not as it should be$"),
        ([], {"banner": "x"}, "^the connection was closed, and no banner came$"),
        ([b"no"], {"banner": "x"}, "^the banner is not as it should be$"),
        ([b"no x"], {"banner": "x"}, "^the connection was closed, and no answer came$"),
        ([b"a" * MOST + b"yes"], {}, "^the answer is not as it should be$"),
        ([b"\x00\xff" * 100], {}, "^the answer is not as it should be$"),
    ],
)
async def test_what_is_not_expected_has_failed(sent, said, words):
    async with server(says(*sent)) as port:
        with pytest.raises(CheckFailed, match=words):
            await ask(port, expect="yes", **said)


async def test_who_refuses_says_so():
    async with server(says()) as port:
        pass
    with pytest.raises(CheckFailed, match=r"^connection refused$"):
        await ask(port, expect="yes")


async def test_an_answer_may_come_in_pieces():
    async with server(says(b"y", b"e", b"s", stays=True)) as port:
        await ask(port, expect="^yes")


async def test_who_never_ends_is_read_to_a_bound():
    async def endless(_reader, writer):
        while True:
            writer.write(b"a" * MOST)
            await writer.drain()

    async with server(endless) as port:
        for pattern in ("b", "(a+)+b"):
            with pytest.raises(CheckFailed, match="not as it should be"):
                await ask(port, expect=pattern)
        await ask(port, expect="a{1000}")


@pytest.mark.parametrize("sent", [b"", b"ye"])
@pytest.mark.parametrize("send", ["", "ping"])
async def test_who_is_silent_or_slow_ends_with_the_timeout(sent, send):
    async with server(says(sent, stays=True)) as port:
        # Paces below what a document may say keep the tests quick.
        pace = {"interval": 0.05, "timeout": 0.05, "fall": 1}
        check = ExpectCheck.model_construct(type="expect", send=send, expect="yes", **pace)
        async with checking([Target(ip_address("127.0.0.1"), port, check)]) as (_, changes):
            _, verdict = await changes.get()
            assert verdict.reason == f"TCP port {port}: no answer within 0.05 s"


async def test_a_drip_of_single_bytes_is_not_waited_for_for_ever():
    async def drip(_reader, writer):
        while True:
            writer.write(b"a")
            await asyncio.sleep(0)  # the other end's turn: each byte is to be a packet

    async with server(drip) as port:
        with pytest.raises(CheckFailed, match="not as it should be"):
            await ask(port, expect="b")
