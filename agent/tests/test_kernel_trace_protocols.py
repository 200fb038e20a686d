# SPDX-License-Identifier: GPL-2.0-or-later
"""Traces of packets that are neither TCP nor UDP, and of how much of a farm a backend has."""

import re
import socket
from collections.abc import Iterator
from struct import Struct

import pytest
from kernel_net import CLIENT, VIRTUAL, Box, backend_address, farm
from kernel_servers import need
from kernel_traces import ended, service, watching

pytestmark = pytest.mark.kernel

_ECHO = Struct("!BBHHH")
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


@pytest.fixture(params=[4, 6])
def family(request) -> int:
    return request.param


@pytest.fixture
def box() -> Iterator[Box]:
    box = Box()
    yield box
    box.close()


def whole(family: int, **settings: object) -> dict[str, object]:
    return farm(1, family=family, ports=("all",), protocols=["all"], **settings)


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total = sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def ping(box: Box, family: int) -> None:
    """Ask the virtual address for an echo; the answer is not waited for."""
    protocol = socket.IPPROTO_ICMP if family == 4 else socket.IPPROTO_ICMPV6
    kind = 8 if family == 4 else 128
    # The kernel writes the checksum of ICMPv6 by itself, since it covers addresses, too.
    sent = _ECHO.pack(kind, 0, checksum(_ECHO.pack(kind, 0, 0, 7, 1)) if family == 4 else 0, 7, 1)
    with box.client.run(socket.socket, _FAMILIES[family], socket.SOCK_RAW, protocol) as sock:
        sock.sendto(sent, (VIRTUAL[family], 0))


@pytest.mark.parametrize("asked", ["", "/icmp"])
def test_a_ping_of_a_farm_of_all_protocols_is_told_there_and_back(box, family, asked):
    box.serve(1, family=family)
    box.apply({"whole": whole(family)})
    with watching(box, f"{VIRTUAL[family]}{asked}", CLIENT[family]) as watch:
        ping(box, family)
        there = watch.packets(1, ended("forwarded"))[0]
        back = watch.packets(1, ended("forwarded", "answer"))[0]
        summary = watch.told().summary
    name = "ICMP" if family == 4 else "ICMPv6"
    assert there.packet == f"{CLIENT[family]} > {VIRTUAL[family]} {name} echo request"
    assert (there.farm, there.backend) == (back.farm, back.backend) == ("whole", "b1")
    assert f"It opens a connection. Farm whole takes it (map whole{family})." in there.words
    assert f"Its destination became {backend_address(1, family)}, backend b1." in there.words
    assert back.words[-1] == f"It left by front as {VIRTUAL[family]} > {CLIENT[family]} {name} echo reply."
    assert "The backend answered, and its answers went on to the client." in summary


@pytest.mark.parametrize(("protocol", "number"), [("gre", 47), ("esp", 50)])
def test_what_has_no_ports_is_told_and_nothing_else_with_it(box, family, protocol, number):
    box.serve(1, family=family)
    box.apply({"whole": whole(family)})
    with (
        watching(box, f"{VIRTUAL[family]}/{protocol}", CLIENT[family]) as watch,
        box.client.run(socket.socket, _FAMILIES[family], socket.SOCK_RAW, number) as leaving,
    ):
        box.ask(family=family)
        leaving.sendto(bytes(16), (VIRTUAL[family], 0))
        packet = watch.packets(1, ended("forwarded"))[0]
        assert all(protocol.upper() in each.packet for each in watch.told().packets)
    assert packet.packet == f"{CLIENT[family]} > {VIRTUAL[family]} {protocol.upper()}"
    assert (packet.farm, packet.backend) == ("whole", "b1")


def test_a_ping_that_no_farm_takes_is_for_the_appliance(box, family):
    box.apply({"web": farm(1, family=family)})
    with watching(box, f"{VIRTUAL[family]}/icmp", CLIENT[family]) as watch:
        ping(box, family)
        packet = watch.packets(1, ended("appliance"))[0]
    assert packet.farm is None


@pytest.mark.parametrize("forwarding", ["dnat", "snat"])
def test_an_sctp_association_is_told_there_and_back(box, family, forwarding):
    need(4, "sctp")
    for number in (1, 2):
        box.serve(number, 8000, family, sctp=True)
    box.apply({"web": farm(1, 2, family=family, ports=(8000,), protocols=["sctp"], forwarding=forwarding)})
    with watching(box, service(8000, "sctp", family), CLIENT[family]) as watch:
        with box.connect(8000, family, protocol=socket.IPPROTO_SCTP) as opened:
            name = {backend_address(1, family): "b1", backend_address(2, family): "b2"}[opened.server]
        there = watch.packets(1, ended("forwarded"))[0]
        back = watch.packets(1, ended("forwarded", "answer"))[0]
        later = watch.packets(2, ended("forwarded"))[1]
    assert there.packet.endswith(" SCTP")
    assert (there.farm, there.backend) == (back.farm, back.backend) == ("web", name)
    words = " ".join(there.words)
    assert f"Farm web takes it (map services{family})." in words
    assert f"backend {name}, which has 1 of the 2 buckets." in words
    assert ("the backend sees the appliance's address" in words) == (forwarding == "snat")
    assert f"It is the answer of backend {name} of farm web." in back.words
    assert any("Its connection is known" in words for words in later.words)


def test_how_many_buckets_the_backend_has_is_told(box):
    for number in (1, 2):
        box.serve(number)
    web = farm(1, 2, protocols=["udp"], scheduler="weighted")
    web["backends"]["b1"]["weight"] = 3
    box.apply({"web": web})
    with watching(box, service(80, "udp")) as watch:
        for _ in range(4):
            box.ask_udp()
        told = watch.packets(4, lambda packet: "opens a connection" in packet.words[1])
    parts = sorted((packet.backend, packet.words[3].rpartition(", ")[2]) for packet in told)
    assert parts == [("b1", "which has 3 of the 4 buckets.")] * 3 + [("b2", "which has 1 of the 4 buckets.")]
    box.apply({"web": farm(1, 2, protocols=["udp"], scheduler="source-hash")})
    with watching(box, service(80, "udp")) as watch:
        box.ask_udp()
        (packet,) = watch.packets(1, lambda packet: "opens a connection" in packet.words[1])
    assert re.search(r", which has (1019|1020) of the 2039 buckets\.$", packet.words[3])
