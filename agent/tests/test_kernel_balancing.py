# SPDX-License-Identifier: GPL-2.0-or-later
"""The data plane with real packets: who gets which connection, and what each side sees of the other."""

import socket
import struct
from collections import Counter
from itertools import pairwise

import pytest
from kernel_namespaces import add_addresses
from kernel_net import BALANCER, CLIENT, FRONT, VIRTUAL, backend_address, expected, farm, names, serving, until
from kernel_peers import PLENTY
from kernel_servers import need

pytestmark = pytest.mark.kernel


@pytest.fixture
def box():
    with serving(1, 2, 3, families=(4, 6)) as box:
        yield box


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("forwarding", ["dnat", "snat"])
def test_round_robin_is_an_exact_turn_and_the_backend_sees_whom_it_should(box, family, forwarding):
    box.apply({"web": farm(1, 2, family=family, forwarding=forwarding, protocols=["tcp", "udp"])})
    assert box.turn(6, family=family) == names(1, 2, family=family) * 3
    assert [box.ask_udp(family=family) for _ in range(6)] == names(1, 2, family=family) * 3
    with box.connect(family=family) as connection:
        assert connection.peer == (CLIENT if forwarding == "dnat" else BALANCER)[family]
        assert connection.alive()
    with box.datagram(family=family) as sock:
        sock.send(b"?")
        assert sock.recv(100).decode().split()[1] == (CLIENT if forwarding == "dnat" else BALANCER)[family]


def test_each_farm_has_its_own_turn_whatever_the_others_do(box):
    box.apply({"one": farm(1, 2), "two": farm(1, 2, ports=(81,)), "three": farm(1, 2, 3, ports=(82,))})
    for number, port in ((1, 81), (2, 81), (1, 82), (2, 82), (3, 82)):
        box.serve(number, port)
    one, three = [], []
    for _ in range(6):
        one.append(box.ask(80))
        box.turn(3, 81)
        three.append(box.ask(82))
    assert one == names(1, 2) * 3
    assert three == names(1, 2, 3) * 2


def test_names_that_are_words_of_nft_are_names(box):
    words = ("drop", "table", "map", "0x1", "ct", "all")
    servers = {"accept": 1, "return": 2, "0": 3}
    backends = {name: {"address": backend_address(number), "port": 80} for name, number in servers.items()}
    farms = {name: {**farm(ports=(80 + place,)), "backends": backends} for place, name in enumerate(words)}
    box.apply(farms)
    for place, _ in enumerate(words):
        assert sorted(box.turn(3, port=80 + place)) == names(1, 2, 3)
    assert set(box.counters()) >= {(name, server) for name in words for server in servers}
    box.adopt()
    box.apply(farms)
    assert box.elements() == expected(box.ruleset)


def test_weights_are_exact_and_interleaved(box):
    weighted = farm(1, 2, scheduler="weighted")
    weighted["backends"]["b1"]["weight"] = 3
    box.apply({"web": weighted})
    sequence = box.turn(16)
    assert Counter(sequence) == {backend_address(1): 12, backend_address(2): 4}
    places = [place for place, who in enumerate(sequence) if who == backend_address(2)]
    assert {after - before for before, after in pairwise(places)} == {4}
    assert box.ruleset.share("web", "b1") == 0.75


def test_several_addresses_ports_and_protocols_share_one_turn(box):
    other = "10.20.0.101"
    box.balancer.run(add_addresses, "front", [other])
    for number in (1, 2):
        box.serve(number, 81)
    web = farm(1, 2, ports=(80, 81), protocols=["tcp", "udp"])
    web["addresses"].append(other)
    box.apply({"web": web})
    sequence = [box.ask(80), box.ask(81), box.ask(80, address=other), box.ask(81, address=other), box.ask_udp(81)]
    assert sequence == names(1, 2, 1, 2, 1)


@pytest.mark.parametrize("family", [4, 6])
def test_a_range_of_ports_is_one_service_beside_single_ports(box, family):
    for number in (1, 2):
        for port in (8000, 8099, 9000):
            box.serve(number, port, family)
    box.apply({"web": farm(1, 2, family=family, ports=("8000-8099", 9000), protocols=["tcp", "udp"])})
    sequence = [box.ask(8000, family), box.ask(8099, family), box.ask(9000, family), box.ask_udp(8099, family)]
    assert sequence == names(1, 2, 1, 2, family=family)
    assert len(box.elements()[f"ranges{family}"]) == 2
    assert box.refused(7999, family)
    assert box.refused(8100, family)


def test_ranges_of_farms_beside_each_other_come_and_go(box):
    for port in (8000, 8010, 8011, 8020):
        box.serve(1, port)
        box.serve(2, port)
    low, high = farm(1, ports=("8000-8010",)), farm(2, ports=("8011-8020",))
    box.apply({"low": low, "high": high})
    assert [box.ask(port) for port in (8000, 8010, 8011, 8020)] == names(1, 1, 2, 2)
    box.apply({"high": high | {"ports": ["8010-8020"]}})
    assert [box.ask(port) for port in (8010, 8011, 8020)] == names(2, 2, 2)
    assert box.refused(8000)


def test_a_range_may_end_at_one_port_of_the_backend(box):
    web = farm(1, ports=("8000-8099",))
    web["backends"]["b1"]["port"] = 80
    box.apply({"web": web})
    assert [box.ask(port) for port in (8000, 8050, 8099)] == names(1, 1, 1)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("forwarding", ["dnat", "snat"])
def test_all_protocols_of_an_address_are_balanced(box, family, forwarding):
    seen = (CLIENT if forwarding == "dnat" else BALANCER)[family]
    box.serve(1, 12345, family)
    box.apply({"whole": farm(1, family=family, ports=("all",), protocols=["all"], forwarding=forwarding)})
    assert box.ask(80, family) == box.ask(12345, family) == box.ask_udp(80, family) == backend_address(1, family)
    with box.connect(12345, family) as connection:
        assert connection.peer == seen
    # A protocol that the kernel's connection tracking knows nothing of (253: RFC 3692, for experiments).
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with (
        box.backends.run(socket.socket, kind, socket.SOCK_RAW, 253) as arriving,
        box.client.run(socket.socket, kind, socket.SOCK_RAW, 253) as leaving,
    ):
        arriving.settimeout(PLENTY)
        leaving.settimeout(PLENTY)
        leaving.sendto(b"hello", (VIRTUAL[family], 0))
        data, peer = arriving.recvfrom(1000)
        assert data.endswith(b"hello")
        assert peer[0] == seen
        with box.backends.run(socket.socket, kind, socket.SOCK_RAW, 253) as answering:
            answering.bind((backend_address(1, family), 0))
            answering.sendto(b"hi", (seen, 0))
        data, peer = leaving.recvfrom(1000)
        assert data.endswith(b"hi")
        assert peer[0] == VIRTUAL[family]


def test_all_protocols_of_a_links_own_address_are_never_taken(box):
    listener = box.balancer.socket()
    listener.bind((FRONT[4], 22))
    listener.listen()
    listener.settimeout(PLENTY)
    captured = farm(1, ports=("all",), protocols=["all"]) | {"addresses": [FRONT[4]]}
    box.apply({"bad": captured}, own=[FRONT[4]])
    with box.client.socket() as plain:
        plain.settimeout(PLENTY)
        plain.connect((FRONT[4], 22))
        accepted, _ = listener.accept()
        accepted.close()
    listener.close()


@pytest.mark.parametrize("forwarding", ["dnat", "snat"])
def test_both_families_of_a_farm_have_their_own_turn(box, forwarding):
    both = farm(1, 2, forwarding=forwarding, protocols=["tcp", "udp"])
    six = farm(1, 2, 3, family=6)
    both["addresses"] += six["addresses"]
    both["backends"] |= {f"six{name}": backend for name, backend in six["backends"].items()}
    box.apply({"web": both})
    mixed = [box.ask(family=family) for family in (4, 6, 6, 4, 6, 4)]
    assert [who for who in mixed if "." in who] == names(1, 2, 1)
    assert [who for who in mixed if ":" in who] == names(1, 2, 3, family=6)
    with box.connect(family=6) as connection:
        assert connection.peer == (CLIENT if forwarding == "dnat" else BALANCER)[6]
    box.apply({"web": both}, {"web": dict.fromkeys(("sixb1", "sixb2"), 1)})
    assert box.refused(family=4), "its IPv4 backends are gone"
    assert box.ask(family=6) in names(1, 2, family=6), "and IPv6 does not care"


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("forwarding", ["dnat", "snat"])
def test_sctp_associations_are_balanced(box, family, forwarding):
    need(4, "sctp")
    for number in (1, 2):
        box.serve(number, 8000, family, sctp=True)
    web = farm(1, 2, family=family, ports=(8000,), protocols=["sctp"], forwarding=forwarding)
    box.apply({"web": web})
    opened = [box.connect(8000, family, protocol=socket.IPPROTO_SCTP) for _ in range(4)]
    assert [each.server for each in opened] == names(1, 2, 1, 2, family=family)
    assert all(each.alive() for each in opened)
    assert opened[0].peer == (CLIENT if forwarding == "dnat" else BALANCER)[family]
    assert box.active() == {("web", "b1"): 2, ("web", "b2"): 2}
    for each in opened:
        each.close()
    box.apply({"web": web}, {"web": {}})
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with box.client.run(socket.socket, kind, socket.SOCK_STREAM, socket.IPPROTO_SCTP) as refused:
        refused.setblocking(False)
        with pytest.raises(BlockingIOError):
            refused.connect((VIRTUAL[family], 8000))
        until(lambda: '"packets": 0' not in box.nft("list counter inet sluice refused"))
        if family == 4:
            # ICMPv6 has no message that ends an association at once (RFC 9260, section 10): there it times out.
            until(lambda: refused.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0)


def test_tcp_and_udp_of_one_address_and_port_can_be_two_farms(box):
    box.apply({"tcp": farm(1), "udp": farm(2, protocols=["udp"])})
    assert box.ask() == backend_address(1)
    assert box.ask_udp() == backend_address(2)


def test_a_backend_may_have_its_own_port(box):
    box.serve(2, 8080)
    web = farm(1, 2, protocols=["tcp", "udp"])
    web["backends"]["b2"]["port"] = 8080
    box.apply({"web": web})
    connections = [box.connect() for _ in range(2)]
    assert [connection.server for connection in connections] == names(1, 2)
    assert all(connection.alive() for connection in connections)
    assert [box.ask_udp() for _ in range(2)] == names(1, 2)
    for connection in connections:
        connection.close()


def test_counters_tell_connections_packets_and_bytes_by_direction(box):
    box.apply({"web": farm(1, 2, protocols=["udp"])})
    with box.datagram() as sock:
        for _ in range(3):
            sock.send(b"12345")
            answer = sock.recv(100)
    first, second = box.counters()["web", "b1"], box.counters()["web", "b2"]
    assert (first.new, first.packets_in, first.packets_out) == (1, 3, 3)
    assert first.bytes_in == 3 * (20 + 8 + 5)
    assert first.bytes_out == 3 * (20 + 8 + len(answer))
    assert second.new == second.packets_in == second.packets_out == 0


def test_active_connections_are_those_that_are_open(box):
    box.apply({"web": farm(1, 2)})
    assert box.active() == {}
    connections = [box.connect() for _ in range(3)]
    assert box.active() == {("web", "b1"): 2, ("web", "b2"): 1}
    for connection in connections:
        connection.close()
    until(lambda: box.active() == {})


@pytest.mark.parametrize("family", [4, 6])
def test_a_farm_without_usable_backend_refuses_at_once(box, family):
    box.apply({"web": farm(1, 2, family=family, protocols=["tcp", "udp"])}, {"web": {"b1": 0}})
    assert box.refused(family=family)
    with box.datagram(family=family) as sock:
        sock.send(b"?")
        with pytest.raises(ConnectionRefusedError):
            sock.recv(100)
    box.apply({"web": farm(1, 2, family=family, protocols=["tcp", "udp"])})
    assert box.turn(2, family=family) == names(1, 2, family=family)


@pytest.mark.parametrize("family", [4, 6])
def test_a_virtual_address_refuses_what_no_farm_serves(box, family):
    box.apply({"web": farm(1, family=family)})
    assert box.refused(81, family)
    with box.datagram(80, family) as sock:
        sock.send(b"?")
        with pytest.raises(ConnectionRefusedError):
            sock.recv(100)
    box.apply({"web": farm(1, family=family, enabled=False), "other": farm(1, family=family, ports=(82,))})
    assert box.refused(80, family)


@pytest.mark.parametrize("family", [4, 6])
def test_the_management_port_of_the_own_address_cannot_be_captured(box, family):
    any_address = {4: "0.0.0.0", 6: "::"}[family]
    listener = box.balancer.socket(socket.AF_INET if family == 4 else socket.AF_INET6)
    listener.bind((any_address, 443))
    listener.listen()
    listener.settimeout(PLENTY)
    # A farm on the appliance's own address, of which the model cannot know (DHCP), and one on a virtual address.
    captured = farm(1, family=family, ports=(80, 443)) | {"addresses": [FRONT[family]]}
    box.apply({"bad": captured, "web": farm(1, family=family)}, own=[FRONT[family]])
    plain = box.client.socket(socket.AF_INET if family == 4 else socket.AF_INET6)
    plain.settimeout(PLENTY)
    plain.connect((FRONT[family], 443))
    accepted, _ = listener.accept()
    accepted.close()
    plain.close()
    # The farm's other port is served, and the GUI does not answer on a virtual address.
    assert box.ask(80, family, FRONT[family]) == backend_address(1, family)
    assert box.refused(443, family)
    listener.close()


def test_a_virtual_address_may_serve_443_itself(box):
    box.serve(1, 443)
    box.apply({"web": farm(1, ports=(443,))}, own=[FRONT[4]])
    assert box.ask(443) == backend_address(1)


def test_only_balanced_connections_are_forwarded(box):
    box.apply({"web": farm(1, protocols=["udp"])})
    with box.client.socket(kind=socket.SOCK_DGRAM) as direct:
        direct.sendto(b"?", (backend_address(1), 80))
    # The balanced one comes after the direct one on the same way.
    assert box.ask_udp() == backend_address(1)
    assert box.servers[backend_address(1)].seen[CLIENT[4]] == 1


def test_what_a_backend_says_about_a_balanced_connection_finds_its_way(box):
    box.apply({"web": farm(4, protocols=["tcp", "udp"])})
    with box.datagram() as datagram:
        datagram.send(b"?")
        with pytest.raises(ConnectionRefusedError):
            datagram.recv(100)
    assert box.refused()


def test_what_is_for_a_farm_but_cannot_be_translated_is_dropped_by_the_guard(box):
    box.apply({"web": farm(1, 2, protocols=["udp"])})
    box.nft("flush map inet sluice buckets")
    with box.datagram() as sock:
        sock.send(b"?")
        until(lambda: '"packets": 1' in box.nft("list counter inet sluice guarded"))
        # Dropped, not refused: a client that tries again finds the table whole.
        assert '"packets": 0' in box.nft("list counter inet sluice unserved")
    box.nft("add element inet sluice buckets { 1 . 0 : 1, 1 . 1 : 2 }")
    assert box.ask_udp() in names(1, 2)


def test_a_segment_out_of_window_is_not_answered_with_a_reset(box):
    box.apply({"web": farm(1)})
    with box.connect() as connection:
        before = box.nft("list counter inet sluice unserved")
        box.client.run(_stray_segment, connection.port)
        assert connection.alive()
        assert box.nft("list counter inet sluice unserved") == before


def _stray_segment(port):
    header = struct.pack("!HHIIBBHHH", port, 80, 0x12345678, 0x9ABCDEF0, 5 << 4, 0x10, 100, 0, 0)
    pseudo = socket.inet_aton(CLIENT[4]) + socket.inet_aton(VIRTUAL[4]) + struct.pack("!BBH", 0, 6, len(header))
    total = sum(struct.unpack(f"!{(len(pseudo) + len(header)) // 2}H", pseudo + header))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
        raw.sendto(header[:16] + struct.pack("!H", checksum) + header[18:], (VIRTUAL[4], 0))
