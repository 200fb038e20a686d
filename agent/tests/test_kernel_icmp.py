# SPDX-License-Identifier: GPL-2.0-or-later
"""The ICMP check with real sockets: backends that answer, that do not, and that answer what was not asked."""

import asyncio
import socket
import struct
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_address

import pytest
from kernel_namespaces import Namespace, add_addresses, add_cable, set_sysctl
from kernel_peers import PLENTY

from agent.health import Answer, Checker, CheckFailed, CheckNotMade, Target
from agent.health.icmp import IcmpProbe
from agent.model import IcmpCheck

pytestmark = pytest.mark.kernel

OURS = {4: "10.41.0.1", 6: "fd00:41::1"}
THEIRS = {4: "10.41.0.2", 6: "fd00:41::2"}
OTHER = {4: "10.41.0.3", 6: "fd00:41::3"}
NOBODY = {4: "10.41.0.99", 6: "fd00:41::99"}
ECHO = {4: "net/ipv4/icmp_echo_ignore_all", 6: "net/ipv6/icmp/echo_ignore_all"}
STOP = b"s"
"""A type of ICMP message that nobody has: it ends a thread."""
FAMILIES = pytest.mark.parametrize("family", [4, 6])


class Lan:
    """The appliance and a backend with two addresses."""

    def __init__(self):
        self.ours, self.theirs = Namespace(), Namespace()
        self.ours.run(add_cable, "lan0", self.theirs.descriptor)
        self.ours.run(add_addresses, "lan0", [*OURS.values()])
        self.theirs.run(add_addresses, "eth0", [*THEIRS.values(), *OTHER.values()])
        self.ours.run(set_sysctl, "net/ipv4/ping_group_range", "0 2147483647")

    def ask(self, address, timeout=PLENTY):
        """One try."""

        async def story():
            async with asyncio.timeout(timeout):
                return await IcmpProbe().probe(target(address))

        return self.ours.run(asyncio.run, story())

    @contextmanager
    def answering(self, family, answers):
        """Requests are answered by `answers(request)`: pairs of source and message."""
        self.theirs.run(set_sysctl, ECHO[family], "1")
        kind, protocol = (socket.AF_INET, 1) if family == 4 else (socket.AF_INET6, 58)
        raw = self.theirs.run(socket.socket, kind, socket.SOCK_RAW, protocol)
        senders = {}
        for source in (THEIRS[family], OTHER[family]):
            senders[source] = self.theirs.run(socket.socket, kind, socket.SOCK_RAW, protocol)
            senders[source].bind((source, 0))

        def serve():
            while True:
                data, peer = raw.recvfrom(4096)
                request = data[20:] if family == 4 else data
                if request[:1] == STOP:
                    return
                if request[0] == {4: 8, 6: 128}[family]:
                    for source, message in answers(request):
                        senders[source].sendto(message, (peer[0], 0))

        thread = self.theirs.spawn(serve)
        try:
            yield
        finally:
            senders[THEIRS[family]].sendto(summed(STOP + bytes(7)), (THEIRS[family], 0))
            thread.join()
            for each in (raw, *senders.values()):
                each.close()

    def close(self):
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def lan():
    made = Lan()
    yield made
    made.close()


def target(address, **pace):
    return Target(ip_address(address), None, IcmpCheck.model_construct(type="icmp", **pace))


def summed(message):
    """With the checksum of ICMP; that of ICMPv6 is the kernel's work."""
    words = struct.unpack(f"!{len(message + bytes(len(message) % 2)) // 2}H", message + bytes(len(message) % 2))
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return message[:2] + struct.pack("!H", ~total & 0xFFFF) + message[4:]


def reply(request, family, *, sequence=None, data=None, kind=None):
    """The answer to a request, or what is like it."""
    identifier, number = struct.unpack_from("!HH", request, 4)
    head = struct.pack("!BBHHH", kind or {4: 0, 6: 129}[family], 0, 0, identifier, sequence or number)
    message = head + (request[8:] if data is None else data)
    return summed(message) if family == 4 else message


@FAMILIES
def test_a_backend_answers(lan, family):
    answer = lan.ask(THEIRS[family])
    assert isinstance(answer, Answer)
    assert 0 < answer.latency < PLENTY


@FAMILIES
def test_nobody_has_the_address(lan, family):
    with pytest.raises(CheckFailed, match="no route to host"):
        lan.ask(NOBODY[family])


@FAMILIES
def test_a_backend_that_does_not_answer_pings_is_silent(lan, family):
    lan.theirs.run(set_sysctl, ECHO[family], "1")
    with pytest.raises(TimeoutError):
        lan.ask(THEIRS[family], timeout=0.3)


@FAMILIES
def test_no_way_there(lan, family):
    with pytest.raises(CheckFailed, match="network is unreachable"):
        lan.ask({4: "198.51.100.1", 6: "2001:db8::1"}[family])


@FAMILIES
def test_only_the_answer_to_the_request_counts(lan, family):
    def wrong(request):
        here, other = THEIRS[family], OTHER[family]
        number = struct.unpack_from("!H", request, 6)[0]
        yield other, reply(request, family)
        yield here, reply(request, family, sequence=(number + 1) % 0x10000 or 1)
        yield here, reply(request, family, data=bytes(16))
        yield here, reply(request, family, data=request[8:] + b"more")
        yield here, reply(request, family, data=request[8:-1])
        yield here, reply(request, family, data=b"")

    with lan.answering(family, wrong), pytest.raises(TimeoutError):
        lan.ask(THEIRS[family], timeout=0.3)
    with lan.answering(family, lambda request: [*wrong(request), (THEIRS[family], reply(request, family))]):
        assert lan.ask(THEIRS[family]).latency > 0


@FAMILIES
def test_who_floods_with_answers_fails(lan, family):
    def flood(request):
        return [(THEIRS[family], reply(request, family, data=bytes(16)))] * 100

    with lan.answering(family, flood), pytest.raises(CheckFailed, match="only answers to what was not asked"):
        lan.ask(THEIRS[family])


def test_without_ping_sockets_nothing_is_said_of_the_backend(lan):
    lan.ours.run(set_sysctl, "net/ipv4/ping_group_range", "1 0")
    with pytest.raises(CheckNotMade, match="no socket: Permission denied"):
        lan.ask(THEIRS[4])


@FAMILIES
def test_a_backend_that_goes_and_comes_back(lan, family):
    asked = target(THEIRS[family], interval=0.02, timeout=0.02, rise=1, fall=2)

    async def story():
        loop, told = asyncio.get_running_loop(), asyncio.Queue()
        checker = Checker(lambda _target, verdict: told.put_nowait(verdict))
        checker.update([asked])
        async with asyncio.timeout(PLENTY):
            first = await told.get()
            await loop.run_in_executor(None, partial(lan.theirs.run, set_sysctl, ECHO[family], "1"))
            second = await told.get()
            await loop.run_in_executor(None, partial(lan.theirs.run, set_sysctl, ECHO[family], "0"))
            third = await told.get()
        await checker.stop()
        return [(verdict.health, verdict.reason) for verdict in (first, second, third)]

    assert lan.ours.run(asyncio.run, story()) == [
        ("healthy", "ICMP echo answers"),
        ("unhealthy", "ICMP echo: no answer within 0.02 s"),
        ("healthy", "ICMP echo answers"),
    ]
