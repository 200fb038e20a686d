# SPDX-License-Identifier: GPL-2.0-or-later
"""Limits of each source with real packets: who is turned away, and that nobody else is."""

import os
import re
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest
from kernel_namespaces import add_addresses, add_route
from kernel_net import BALANCER, CLIENT, FRONT, VIRTUAL, Box, backend_address, expected, farm, until
from kernel_packets import ACK, FIN, RST, SYN, Raw
from kernel_peers import PLENTY

from agent.dataplane import screening
from agent.dataplane.limits import COUNTERS

pytestmark = pytest.mark.kernel

OTHERS = {4: "10.20.0.150", 6: "fd00:20:0:1::1"}
"""Another client."""
NEIGHBOURS = {4: "10.20.0.151", 6: "fd00:20:0:1::2"}
"""One in the other's network: of 30 bits, or 64."""


@pytest.fixture(params=[4, 6])
def family(request):
    return request.param


@pytest.fixture
def box():
    box = Box()
    for number in (1, 2):
        for family in (4, 6):
            box.serve(number, family=family)
    box.client.run(add_addresses, "eth0", [each[family] for each in (OTHERS, NEIGHBOURS) for family in (4, 6)])
    box.balancer.run(add_route, "fd00:20::/48", CLIENT[6])
    yield box
    box.close()


def slow(*backends, **settings):
    """A farm whose sources may open three connections, and another in a second; who opens more is told so."""
    return farm(*backends, **{"limit_rate": 1, "limit_burst": 3, "limit_action": "reject"} | settings)


def few(*backends, **settings):
    """A farm whose sources may have two connections open."""
    return farm(*backends, **{"limit_connections": 2, "limit_action": "reject"} | settings)


def served(box, tries, family=4, port=80, source=None):
    """How many of so many connections one after another are served."""
    count = 0
    for _ in range(tries):
        try:
            box.ask(port, family, source=source)
            count += 1
        except ConnectionRefusedError:
            pass
    return count


def turned_away(box):
    return box.balancer.run(box.kernel.turned_away)


def served_of(box):
    return sum(each.new for each in box.counters().values())


def open_up(box, held, tries, family=4, port=80, source=None):
    """Open so many connections and keep them; how many were refused."""
    refused = 0
    for _ in range(tries):
        try:
            held.enter_context(box.connect(port, family, source=source))
        except ConnectionRefusedError:
            refused += 1
    return refused


def test_a_source_opens_its_burst_and_then_at_its_rate(box, family):
    box.apply({"web": slow(1, 2, family=family)})
    # Ten connections take less than a second or two.
    got = served(box, 10, family)
    assert 3 <= got <= 5
    assert turned_away(box) == {"web": {"rate": 10 - got}}
    assert served_of(box) == got
    until(lambda: served(box, 1, family) == 1)


def test_a_source_has_so_many_open_at_a_time(box, family):
    box.apply({"web": few(1, 2, family=family)})
    with ExitStack() as held:
        assert open_up(box, held, 2, family) == 0
        assert [box.refused(family=family) for _ in range(3)] == [True] * 3
        assert turned_away(box) == {"web": {"connections": 3}}
        # What was refused does not count: when one ends there is room for one.
        held.pop_all().close()
    until(lambda: served(box, 1, family) == 1)
    # Connections that are over leave room, though their ends are tracked for a while.
    for _ in range(8):
        until(lambda: served(box, 1, family) == 1)


def test_what_is_dropped_gets_no_answer(box, family):
    box.apply({"web": few(1, 2, family=family, limit_action="drop")})
    with ExitStack() as held:
        assert open_up(box, held, 2, family) == 0
        with box.client.socket(socket.AF_INET if family == 4 else socket.AF_INET6) as sock:
            sock.settimeout(0.3)
            with pytest.raises(TimeoutError):
                sock.connect((VIRTUAL[family], 80))
        assert turned_away(box)["web"]["connections"] >= 1
        held.pop_all().close()
    until(lambda: served(box, 1, family) == 1)


@pytest.mark.parametrize("limits", [slow, few])
def test_nobody_else_is_hit(box, family, limits):
    box.serve(1, 81, family)
    box.serve(2, 82, family)
    farms = {"web": limits(1, 2, family=family), "same": limits(1, family=family, ports=(81,))}
    box.apply({**farms, "free": farm(2, family=family, ports=(82,))})
    with ExitStack() as held:
        assert open_up(box, held, 6, family) >= 2
        # Another source, another farm with the same limits, and a farm without.
        assert open_up(box, held, 2, family, source=OTHERS[family]) == 0
        assert open_up(box, held, 2, family, port=81) == 0
        assert open_up(box, held, 20, family, port=82) == 0
        assert turned_away(box).keys() == {"web", "same"}
        assert turned_away(box)["same"] == dict.fromkeys(turned_away(box)["web"], 0)
        held.pop_all().close()


def test_a_network_counts_as_one_source(box, family):
    box.apply({"web": few(1, 2, family=family, limit_prefix4=30)})
    with ExitStack() as held:
        assert open_up(box, held, 1, family, source=OTHERS[family]) == 0
        assert open_up(box, held, 2, family, source=NEIGHBOURS[family]) == 1
        assert open_up(box, held, 2, family) == 0
        held.pop_all().close()


def test_both_limits_with_persistence_and_source_hash(box):
    settings = {"persistence": "address", "scheduler": "source-hash", "limit_connections": 2}
    box.apply({"web": slow(1, 2, limit_burst=4, **settings)})
    first = box.ask()
    assert box.ask() == first
    until(lambda: not any(box.active().values()))
    with ExitStack() as held:
        assert open_up(box, held, 2) == 0
        assert open_up(box, held, 2, source=OTHERS[4]) == 0
        assert open_up(box, held, 3) == 3
        counted = turned_away(box)["web"]
        assert counted["rate"] + counted["connections"] == 3
        held.pop_all().close()


def test_flows_of_udp_are_limited(box, family):
    box.apply({"web": slow(1, 2, family=family, protocols=["udp"])})
    answers = []
    for _ in range(8):
        with box.datagram(family=family) as sock:
            sock.send(b"?")
            try:
                answers.append(sock.recv(100).decode().split()[0])
            except ConnectionRefusedError:
                answers.append(None)
    assert answers[:3] == [backend_address(1 + number % 2, family) for number in range(3)]
    assert 3 <= sum(answer is not None for answer in answers) <= 5


def test_the_appliance_itself_is_a_source_as_any_other(box):
    box.apply({"web": few(1, 2)})
    with ExitStack() as held:
        for _ in range(2):
            sock = held.enter_context(box.balancer.socket())
            sock.connect((VIRTUAL[4], 80))
            assert sock.recv(100)
        with box.balancer.socket() as sock, pytest.raises(ConnectionRefusedError):
            sock.connect((VIRTUAL[4], 80))


def test_a_new_agent_goes_on_with_what_was_counted(box):
    farms = {"web": few(1, 2), "other": slow(1, ports=(81,), persistence="address")}
    box.apply(farms)
    with ExitStack() as held:
        assert open_up(box, held, 3) == 1
        box.adopt()
        ruleset = box.compiled(farms)
        assert box.balancer.run(box.kernel._commands, ruleset) == []
        box.apply(farms)
        assert turned_away(box) == {"web": {"connections": 1}, "other": {"rate": 0}}
        assert open_up(box, held, 1) == 1
        held.pop_all().close()
    # What is no longer wanted goes, whoever made it: chains, then their sets.
    box.adopt()
    box.apply({"web": farm(1, 2)})
    assert box.elements() == expected(box.ruleset)
    names = box.nft("list sets inet") + box.nft("list chains inet")
    assert not any(word in names for word in ("limit4", "count4", "rate4_"))


def test_counters_of_a_farm_outlive_a_change_of_its_limits_and_of_its_backends(box):
    box.apply({"web": few(1, 2)})
    with ExitStack() as held:
        assert open_up(box, held, 3) == 1
        box.apply({"web": few(1, 2, limit_rate=100)}, {"web": {}})
        assert box.refused()
        box.apply({"web": few(1, limit_rate=100)})
        # The bound on open connections is the same, so those that are open count on.
        assert open_up(box, held, 1) == 1
        assert turned_away(box) == {"web": {"rate": 0, "connections": 2}}
        held.pop_all().close()


def test_what_somebody_else_counts_among_farms_is_nobodys(box):
    box.apply({"web": few(1, 2, deny=["bad"])}, lists={"bad": {"networks": []}})
    for set_name in (*COUNTERS.values(), *screening.FIELDS):
        box.nft(f"add element inet sluice {set_name} {{ 99 counter packets 7 bytes 700 }}")
    assert turned_away(box) == {"web": {"connections": 0}}
    assert box.balancer.run(box.kernel.dropped) == {"web": {"deny": 0}}


def test_no_connection_is_lost_while_limits_come_and_go(box):
    box.apply({"web": farm(1, 2)})
    clients = box.load(8)
    high = {"limit_rate": 100_000, "limit_burst": 100_000, "limit_connections": 60_000}
    for number in range(60):
        settings = [{}, high, high | {"limit_rate": 90_000}, high | {"persistence": "address"}][number % 4]
        box.apply({"web": farm(1, 2, **settings)}, {"web": dict.fromkeys(("b1", "b2")[number % 3 == 0 :], 1)})
    done, failures = clients.stop()
    assert failures == []
    assert done > 60
    assert turned_away(box) == {"web": {"rate": 0, "connections": 0}}


STRICT = {"strict_tcp": True}


@pytest.fixture
def raw(box, family):
    """A client that sends what it likes."""
    # Its own TCP knows of no such connections, and would reset them; its resets have no window, those of Raw have.
    quiet = "type filter hook output priority 0; tcp flags & rst == rst tcp window 0 drop;"
    box.client.run(box.command, f"table inet quiet {{ chain output {{ {quiet} }}; }}")
    raw = box.client.run(Raw, OTHERS[family], VIRTUAL[family])
    yield raw
    raw.close()


def test_strict_tcp_begins_with_a_syn(box, family, raw):
    web = farm(1, 2, family=family)
    box.apply({"web": web})
    raw.send(40001, ACK)
    assert raw.answer(40001) & RST, "taken for the middle of a connection, it comes to a backend, which knows of none"
    assert served_of(box) == 1
    box.apply({"web": web | STRICT})
    raw.send(40002, ACK)
    raw.send(40003, ACK | 0x08)
    raw.send(40004, SYN)
    assert raw.answer(40004) == SYN | ACK
    until(lambda: turned_away(box) == {"web": {"strict": 2}})
    assert served_of(box) == 2
    assert box.ask(family=family)


@pytest.mark.parametrize("flags", [0, SYN | FIN, SYN | RST, FIN | 0x20 | 0x08, 0x3F])
def test_nonsense_of_flags_comes_to_no_backend_of_any_farm(box, family, raw, flags):
    box.apply({"web": farm(1, 2, family=family)})
    raw.send(40001, flags)
    raw.send(40002, SYN)
    assert raw.answer(40002) == SYN | ACK
    assert not raw.answered(40001)
    assert served_of(box) == 1


def test_resets_beyond_the_rate_are_dropped_and_nobody_elses(box, family, raw):
    box.serve(1, 81, family)
    web = farm(1, 2, family=family, limit_resets=2)
    box.apply({"web": web, "other": farm(1, family=family, ports=(81,))})
    for port in range(40001, 40006):
        raw.send(port, SYN)
        assert raw.answer(port) == SYN | ACK
        raw.send(port, ACK, acknowledges=port)
    for port in range(40001, 40006):
        raw.send(port, RST | ACK, acknowledges=port)
    # Those that came through ended their connections; of the others connection tracking has seen nothing.
    until(lambda: turned_away(box) == {"web": {"resets": 3}})
    until(lambda: sum(box.active().values()) == 3)
    for port in (40010, 40011, 40012, 40013):
        raw.send(port, SYN, to=81)
        assert raw.answer(port) == SYN | ACK
        raw.send(port, RST, to=81, acknowledges=port)
    until(lambda: sum(box.active().values()) == 3)
    with box.connect(family=family) as connection:
        assert connection.alive()
    # The agent goes on with it, and it goes without a trace.
    box.adopt()
    box.apply({"web": web})
    assert turned_away(box) == {"web": {"resets": 3}}
    box.adopt()
    box.apply({"web": farm(1, 2, family=family)})
    assert "reset4" not in box.nft("list sets inet")
    assert "resets" not in box.nft("list chains inet")


def test_resets_that_answer_the_appliance_are_no_farms(box, family):
    own = [FRONT[family], BALANCER[family]]
    wide = farm(1, family=family, ports=("1024-65535",), limit_resets=1) | {"addresses": own}
    box.apply({"wide": wide}, own=own)
    for _ in range(4):
        with box.balancer.socket(socket.AF_INET if family == 4 else socket.AF_INET6) as check:
            check.settimeout(PLENTY)
            with pytest.raises(ConnectionRefusedError):
                check.connect((backend_address(2, family), 81))
    assert turned_away(box) == {"wide": {"resets": 0}}


@pytest.fixture
def journal():
    """The kernel's log, of packets in all namespaces."""
    switch = Path("/proc/sys/net/netfilter/nf_log_all_netns")
    before = switch.read_text()
    switch.write_text("1")
    log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    os.lseek(log, 0, os.SEEK_END)
    lines = []

    def read():
        while True:
            try:
                lines.append(os.read(log, 8192).decode())
            except BlockingIOError:
                return [line.partition(";")[2].strip() for line in lines if re.search(r";(web\.shop|mail) ", line)]

    yield read
    os.close(log)
    switch.write_text(before)


def test_new_connections_and_those_that_are_turned_away_are_logged_at_a_rate(box, family, journal):
    box.serve(1, 81, family)
    web = slow(1, 2, family=family, log_prefix="web.shop", log_rate=4, **STRICT)
    box.apply({"web": web, "silent": slow(1, family=family, ports=(81,))})
    served(box, 2, family, port=81)
    got = served(box, 12, family)
    assert turned_away(box)["web"] == {"strict": 0, "rate": 12 - got}
    lines = journal()
    new = [line for line in lines if line.startswith("web.shop new: IN=front ")]
    away = [line for line in lines if line.startswith("web.shop turned away (rate): IN=front ")]
    assert len(new) == got
    assert 4 <= len(away) < 12 - got, "no more than its rate"
    assert len(new) + len(away) == len(lines)
    assert all(" PROTO=TCP " in line and " DPT=80 " in line and " SYN " in line for line in lines)
    box.adopt()
    box.apply({"web": web, "silent": slow(1, family=family, ports=(81,))})
    assert box.elements() == expected(box.ruleset)
    box.apply({})
    assert box.elements() == expected(box.ruleset)


def test_farms_of_one_setting_have_words_of_their_own(box, family, raw, journal):
    box.serve(1, 81, family)
    box.serve(1, 82, family)
    limits = {"limit_resets": 1, **STRICT}
    web = farm(1, 2, family=family, log_prefix="web.shop", **limits)
    mail = farm(1, family=family, ports=(81,), log_prefix="mail", log_rate=4, **limits)
    box.apply({"web": web, "mail": mail, "quiet": farm(1, family=family, ports=(82,), **limits)})
    chains = box.nft("list chains inet")
    assert [chains.count(f'"limit{family}_0_strict{log}"') for log in ("_log", "")] == [1, 1]
    for port in (80, 81, 82):
        raw.send(40001, ACK, to=port)
        box.ask(port, family)
        for source in (40002, 40003):
            raw.send(source, RST, to=port)
    until(lambda: all(each == {"strict": 1, "resets": 1} for each in turned_away(box).values()))
    told = sorted(line.partition(": IN=front ")[0] for line in journal())
    kinds = ("new", "turned away (resets)", "turned away (strict)")
    assert told == [f"{word} {kind}" for word in ("mail", "web.shop") for kind in kinds]
    # Another prefix is an element and a chain: nobody's count begins anew, and the farm's other lines stay.
    box.apply({"web": web | {"log_prefix": "mail"}, "mail": mail})
    assert "web.shop" not in box.nft("list chains inet")
    assert turned_away(box)["web"] == {"strict": 1, "resets": 1}
