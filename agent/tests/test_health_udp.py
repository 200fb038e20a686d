# SPDX-License-Identifier: GPL-2.0-or-later
"""The UDP check against servers, good and hostile ones."""

import asyncio
import socket
from contextlib import ExitStack, asynccontextmanager
from ipaddress import ip_address

import pytest
from health_probes import SOON, checking

from agent.health import CheckFailed, Target
from agent.health.udp import LARGEST, UdpProbe
from agent.model import UdpCheck

HOSTS = pytest.mark.parametrize("host", ["127.0.0.1", "::1"])


def target(port, host="127.0.0.1", **settings):
    return Target(ip_address(host), port, UdpCheck.model_validate({"type": "udp", **settings}))


def quick(port, **settings):
    """A target whose pace is below what a document may say."""
    pace = {"interval": 0.05, "timeout": 0.05, "rise": 1, "fall": 1}
    return Target(ip_address("127.0.0.1"), port, UdpCheck.model_construct(type="udp", **pace, **settings))


async def ask(port, host="127.0.0.1", **settings):
    async with asyncio.timeout(SOON):
        return await UdpProbe().probe(target(port, host, **settings))


@asynccontextmanager
async def server(answer, host="127.0.0.1"):
    """A server that answers a datagram with those of `answer(request)`, and keeps what came.

    An answer is bytes, or an address of this host and bytes that are sent from there by another port.
    """
    seen = []
    with ExitStack() as stack:
        own = stack.enter_context(udp(host))

        def serve():
            request, client = own.recvfrom(LARGEST)
            seen.append(request)
            for each in answer(request):
                if isinstance(each, bytes):
                    own.sendto(each, client)
                else:
                    stack.enter_context(udp(each[0])).sendto(each[1], client)

        loop = asyncio.get_running_loop()
        loop.add_reader(own, serve)
        try:
            yield own.getsockname()[1], seen
        finally:
            loop.remove_reader(own)


def udp(host):
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.bind((host, 0))
    return sock


@pytest.fixture
def free_port():
    with udp("127.0.0.1") as sock:
        return sock.getsockname()[1]


@HOSTS
async def test_what_the_document_says_is_sent_and_expected(host):
    async with server(lambda request: [b"\xff\0 pong " + request], host) as (port, seen):
        answer = await ask(port, host, send=r"ping\r\n", expect=r"^\xff\x00 pong ping\r\n$")
        assert answer.latency > 0
        await ask(port, host, send="00 ff", encoding="hex")
        await ask(port, host)
        assert seen == [b"ping\r\n", b"\0\xff", b""]
        with pytest.raises(CheckFailed, match=r"^the answer is not as it should be$"):
            await ask(port, host, send="ping", expect="^pong")


async def test_any_answer_is_one():
    async with server(lambda _request: [b""]) as (port, _):
        await ask(port)
        with pytest.raises(CheckFailed, match="not as it should be"):
            await ask(port, expect=".")
    async with server(lambda _request: [b"a" * 65_507]) as (port, _):
        await ask(port, expect="a{1000}$")
        with pytest.raises(CheckFailed, match="not as it should be"):
            await ask(port, expect="(a+)+b")


@pytest.mark.parametrize("answer", ["required", "optional"])
async def test_who_refuses_has_failed(free_port, answer):
    with pytest.raises(CheckFailed, match=r"^connection refused$"):
        await ask(free_port, answer=answer)


async def test_silence_is_a_failure_unless_it_is_said_to_be_well():
    async with server(lambda _request: []) as (port, seen):
        async with checking([quick(port, answer="required")]) as (_, changes):
            _, verdict = await changes.get()
            assert (verdict.health, verdict.reason) == ("unhealthy", f"UDP port {port}: no answer within 0.05 s")
        async with checking([quick(port, answer="optional")]) as (_, changes):
            _, verdict = await changes.get()
            assert (verdict.health, verdict.reason) == ("healthy", f"UDP port {port}: no refusal")
            assert verdict.latency_ms is None
        async with checking([quick(port, answer="optional", invert=True)]) as (_, changes):
            _, verdict = await changes.get()
            assert (verdict.health, verdict.reason) == ("unhealthy", f"UDP port {port}: no refusal, and should not")
        assert seen


async def test_who_need_not_answer_may():
    async with server(lambda _request: [b"hello"]) as (port, _):
        answer = await ask(port, answer="optional")
        assert (answer.words, answer.latency is not None) == ("", True)


async def test_only_who_was_asked_answers():
    # Another port of the same address, and another address: before the true answer, and instead of it.
    others = [("127.0.0.1", b"other port"), ("127.0.0.2", b"other address")]
    async with server(lambda _request: [*others, b"true"]) as (port, _):
        await ask(port, expect="^true$")
    async with server(lambda _request: others) as (port, _), checking([quick(port)]) as (_, changes):
        _, verdict = await changes.get()
        assert verdict.reason == f"UDP port {port}: no answer within 0.05 s"


async def test_who_floods_is_read_once():
    async with server(lambda _request: [b"no"] * 100 + [b"yes"]) as (port, _):
        with pytest.raises(CheckFailed, match="not as it should be"):
            await ask(port, expect="yes")
