# SPDX-License-Identifier: GPL-2.0-or-later
"""The DNS check against dnsmasq, and against hostile servers."""

import asyncio
import shutil
import struct
from contextlib import asynccontextmanager
from ipaddress import ip_address
from time import process_time

import pytest
from documents import document, faults
from health_probes import SOON
from hypothesis import given
from hypothesis import strategies as some

from agent.health import CheckFailed, Target
from agent.health.dns import DnsProbe
from agent.health.dns_message import TYPES, Broken, query, response
from agent.model import DnsCheck

ZONE = [
    "--host-record=www.example.com,192.0.2.1,2001:db8::1",
    "--cname=alias.example.com,www.example.com",
    "--mx-host=example.com,mx.example.com,10",
    "--txt-record=example.com,one,two",
    "--srv-host=_sip._udp.example.com,sip.example.com,5060,1,2",
    "--ptr-record=1.2.0.192.in-addr.arpa,www.example.com",
    "--local=/example.com/",
    *(f"--txt-record=long.example.com,{i:03}-{'x' * 200}" for i in range(9)),
]


async def ask(port, host="127.0.0.1", **settings):
    check = DnsCheck.model_validate({"type": "dns", **settings})
    async with asyncio.timeout(SOON):
        return (await DnsProbe().probe(Target(ip_address(host), port, check))).words


@asynccontextmanager
async def dnsmasq(port, host):
    argv = [shutil.which("dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"]
    argv += [
        "--log-facility=-",
        f"--port={port}",
        f"--listen-address={host}",
        "--bind-interfaces",
        "--user=",
        "--pid-file",
    ]
    process = await asyncio.create_subprocess_exec(*argv, *ZONE, stderr=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(SOON):
            while b"started" not in (line := await process.stderr.readline()):
                assert line, "dnsmasq did not start"
        yield
    finally:
        process.terminate()
        await process.communicate()


@pytest.mark.skipif(shutil.which("dnsmasq") is None, reason="needs dnsmasq, a real server")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_what_a_real_server_says(host, free_port):
    port = free_port
    async with dnsmasq(port, host):
        for name, record, expect in [
            ("www.example.com", "A", r"^192\.0\.2\.1$"),
            ("WWW.Example.com.", "AAAA", "^2001:db8::1$"),
            ("alias.example.com", "A", r"^192\.0\.2\.1$"),
            ("alias.example.com", "CNAME", r"^www\.example\.com$"),
            ("example.com", "MX", r"^10 mx\.example\.com$"),
            ("example.com", "TXT", "^onetwo$"),
            ("_sip._udp.example.com", "SRV", r"^1 2 5060 sip\.example\.com$"),
            ("1.2.0.192.in-addr.arpa", "PTR", r"^www\.example\.com$"),
            ("long.example.com", "TXT", "^008-x{200}$"),  # by TCP
        ]:
            assert await ask(port, host, name=name, record=record, expect=expect) == "NOERROR"
        assert await ask(port, host, name="none.example.com", rcode="NXDOMAIN") == "NXDOMAIN"
        assert await ask(port, host, name="example.net", rcode="REFUSED") == "REFUSED"
        for said, words in [
            ({"name": "none.example.com"}, "^NXDOMAIN$"),
            ({"name": "www.example.com", "record": "MX"}, "^NOERROR, and no MX record$"),
            ({"name": "www.example.com", "expect": "^192.0.2.2$"}, "^no A record is as it should be$"),
            ({"name": "www.example.com", "rcode": "NXDOMAIN"}, "^NOERROR$"),
        ]:
            with pytest.raises(CheckFailed, match=words):
                await ask(port, host, **said)
    with pytest.raises(CheckFailed, match=r"^connection refused$"):
        await ask(port, host, name="www.example.com")


@pytest.fixture
async def free_port():
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


class Server(asyncio.DatagramProtocol):
    """Answers each question with the messages that `answers` makes of it."""

    def __init__(self, answers):
        self._answers = answers

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        for each in self._answers(data):
            self.transport.sendto(each, addr)


@asynccontextmanager
async def serving(answers, port=0):
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Server(answers), ("127.0.0.1", port))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


A = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + bytes([192, 0, 2, 1])


def answer(asked, records=A, count=1, *, flags=0x8180, identifier=None):
    number = struct.unpack_from("!H", asked)[0] if identifier is None else identifier
    return struct.pack("!HHHHHH", number, flags, 1, count, 0, 0) + asked[12:] + records


def wrong(asked):
    number = struct.unpack_from("!H", asked)[0]
    yield answer(asked, identifier=number ^ 1)
    yield asked
    yield answer(asked.replace(b"www", b"wwx"))
    yield answer(asked[:-3] + b"\x1c" + asked[-2:])
    yield answer(asked)[:12]
    yield b""
    yield bytes(range(256))


async def test_only_the_answer_to_the_question_counts():
    async with serving(lambda asked: [*wrong(asked), answer(asked)]) as port:
        assert await ask(port, name="www.example.com", expect=r"^192\.0\.2\.1$") == "NOERROR"
    async with serving(wrong) as port:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask(port, name="www.example.com"), 0.1)
    async with serving(lambda asked: [*wrong(asked)] * 6) as port:
        with pytest.raises(CheckFailed, match=r"^only answers to what was not asked$"):
            await ask(port, name="www.example.com")


@pytest.mark.parametrize(
    ("records", "count"),
    [(b"", 1), (A, 2), (A[:-1], 1), (b"\xc0", 1), (b"\x80" * 20, 1), (A[:10] + b"\xff\xff" + A[12:], 1)],
)
async def test_a_broken_answer_has_failed(records, count):
    async with serving(lambda asked: [answer(asked, records, count)]) as port:
        with pytest.raises(CheckFailed, match=r"^the answer is broken$"):
            await ask(port, name="www.example.com")


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"", "closed without"),
        (b"\x00", "closed without"),
        (b"\x00\x30short", "closed without"),
        (b"\0\0", "not asked"),
    ],
)
async def test_what_comes_by_tcp_may_be_no_answer(sent, words):
    async def talk(reader, writer):
        await reader.readexactly(2 + 33)
        writer.write(sent)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with serving(lambda asked: [answer(asked, flags=0x8380)], port):
        with pytest.raises(CheckFailed, match=words):
            await ask(port, name="www.example.com")
    server.close()


def test_names_that_point_to_long_names_cost_little():
    asked = query(7, "a." * 120, "NS")
    each = b"\xc0\x0c" + struct.pack("!HHIH", 2, 1, 60, 4) + b"\x01b\xc0\x0c"
    found = response(answer(asked, each * 4000, 4000), asked)
    start = process_time()
    for _ in zip(range(64), found.records(), strict=False):
        pass
    assert process_time() - start < 0.05


def test_names_that_point_to_themselves_are_broken():
    asked = query(7, "example.com", "NS")
    loop = b"\xc0\x0c" + struct.pack("!HHIH", 2, 1, 60, 2)
    at = 12 + len(asked) - 12 + len(loop)
    with pytest.raises(Broken):
        list(response(answer(asked, loop + struct.pack("!H", 0xC000 | at)), asked).records())


@given(some.sampled_from(sorted(TYPES)), some.binary(max_size=80), some.integers(0, 9))
def test_whatever_comes_is_records_or_broken(record, data, count):
    asked = query(7, "example.com", record)
    for records in (data, b"\xc0\x0c" + struct.pack("!HHIH", TYPES[record], 1, 60, len(data)) + data):
        found = response(answer(asked, records, count), asked)
        try:
            assert len(list(found.records())) <= count
        except Broken:
            continue  # the other outcome that there may be


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"name": "a b"}, "name"),
        ({"name": "a..b"}, "name"),
        ({"name": "a" * 64}, "name"),
        ({"name": "a." * 128}, "name"),
        ({"record": "AXFR"}, "record"),
        ({"rcode": "YES"}, "rcode"),
        ({"expect": "("}, "expect"),
        ({"expect": "a", "rcode": "NXDOMAIN"}, "expect"),
        ({"port": None}, "port"),
    ],
)
def test_what_cannot_be_said(fields, place):
    check = {"type": "dns", "port": 53, "name": "example.com"} | fields
    assert [where for where, _ in faults(document(web={"checks": [check]}))] == [f"/farms/web/checks/0/{place}"]
