# SPDX-License-Identifier: GPL-2.0-or-later
"""TLS and HTTPS checks against servers that mean ill: they fail with a reason, and delay nobody."""

import asyncio
import select
from contextlib import contextmanager, suppress
from functools import cache
from ipaddress import ip_address
from queue import Queue
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread
from time import sleep, thread_time

import pytest
from health_probes import SOON, checking
from tls_world import Kept, authority, issued, s_server, server_context

from agent.health import CheckFailed, Target, probes
from agent.model import HttpsCheck, TlsCheck

KINDS = {"tls": TlsCheck, "https": HttpsCheck}
PROBES = probes(Kept(ours=authority()[0]))
LATE = 0.05
"""Processor seconds by which no other check may be delayed."""


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def target(kind, port, **settings):
    # Paces below what a document may say keep the tests quick.
    made = KINDS[kind].model_construct(type=kind, **{"interval": 0.05, "timeout": 0.2, "rise": 1, "fall": 1} | settings)
    return Target(ip_address("127.0.0.1"), port, made)


@contextmanager
def server(serve):
    """A server that does with each connection what `serve` does, in threads of its own; its port."""

    class Handler(BaseRequestHandler):
        def handle(self):
            self.request.settimeout(SOON)
            with suppress(OSError):
                serve(self.request)

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as listening:
        thread = Thread(target=listening.serve_forever, args=[0.01])
        thread.start()
        try:
            yield listening.server_address[1]
        finally:
            listening.shutdown()
            thread.join()


def silent(sock):
    while sock.recv(4096):
        pass


def plain(sock):
    sock.recv(4096)
    sock.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


def hangs_up(sock):
    sock.recv(4096)


def drips(sock):
    # A handshake record whose bytes come one by one.
    sock.sendall(b"\x16\x03\x03\x40\x00")
    while True:
        sock.sendall(b"\x02")
        sleep(0.001)  # the drip itself is what is tested


def floods(sock):
    # HelloRequest again and again: of no effect, and allowed at any time (RFC 5246, 7.4.1.1).
    while True:
        sock.sendall(b"\x16\x03\x03\x00\x04\x00\x00\x00\x00" * 1000)


async def fails(kind, port, **settings):
    with pytest.raises(CheckFailed) as failed:
        async with asyncio.timeout(SOON):
            await PROBES[kind].probe(target(kind, port, **settings))
    return str(failed.value)


async def test_who_does_not_speak_tls_has_failed(kind):
    with server(plain) as port:
        assert await fails(kind, port) == "the answer is not TLS"
    with server(hangs_up) as port:
        assert await fails(kind, port) in ("the connection was closed in the handshake", "connection reset")


@cache
def huge():
    """A certificate of more than OpenSSL takes, which is 100 KiB."""
    return issued(more=f"1.2.3.4.5=ASN1:UTF8String:{'a' * 120_000}")


async def test_certificates_that_are_too_large_are_refused(kind):
    async with s_server(huge()) as port:
        assert await fails(kind, port) == "its certificates are too large"


async def test_a_large_certificate_is_taken_as_any(kind):
    check = {"authorities": "ours", "timeout": SOON}
    async with s_server(issued(more=f"1.2.3.4.5=ASN1:UTF8String:{'a' * 90_000}"), "-www") as port:
        async with asyncio.timeout(SOON):
            assert await PROBES[kind].probe(target(kind, port, **check))


async def turns_until(changes, count):
    """Wait for so many changes; processor seconds of the longest turn of the loop meanwhile."""
    longest = 0.0
    async with asyncio.timeout(3 * SOON):
        for _ in range(count):
            while changes.empty():
                # Of this thread only: neither the servers nor what else runs here is counted.
                begun = thread_time()
                await asyncio.sleep(0)  # one turn of the loop, which is what is measured
                longest = max(longest, thread_time() - begun)
            _, verdict = changes.get_nowait()
            assert verdict.health == "unhealthy"
    return longest


@pytest.mark.parametrize("serve", [silent, drips, floods])
async def test_who_means_ill_delays_no_other(kind, serve):
    with server(serve) as port:
        asked = [target(kind, port, interval=1 + i / 1000) for i in range(10)]
        async with checking(asked, PROBES) as (_, changes):
            assert await turns_until(changes, len(asked)) < LATE


async def test_huge_certificates_delay_no_other(kind):
    async with s_server(huge()) as port, checking([target(kind, port, timeout=SOON)], PROBES) as (_, changes):
        assert await turns_until(changes, 1) < LATE


async def test_who_never_parts_is_left_alone(kind):
    """A server that reads nothing more and does not close keeps no connection of ours open."""
    context, over = server_context(issued()), Queue()

    def serve(sock):
        with context.wrap_socket(sock, server_side=True, suppress_ragged_eofs=True) as tls:
            if kind == "https":
                # Who has the headers may be gone before all of the body is sent.
                with suppress(OSError):
                    tls.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * 100_000)
            # Looked at, not read: what we send is never taken.
            poll = select.poll()
            poll.register(tls.fileno(), select.POLLRDHUP)
            over.put(poll.poll(SOON * 1000))

    with server(serve) as port:
        async with asyncio.timeout(SOON):
            assert await PROBES[kind].probe(target(kind, port, timeout=SOON))
        assert await asyncio.to_thread(over.get, timeout=2 * SOON)
