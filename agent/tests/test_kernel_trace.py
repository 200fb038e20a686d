# SPDX-License-Identifier: GPL-2.0-or-later
"""Traces of real packets: what is told is what happened."""

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kernel_net import BALANCER, CLIENT, VIRTUAL, Box, backend_address, farm, until
from kernel_traces import ended, request, service, tracing_table, watching

from agent.controller.tracing import TraceRunning, Tracing
from agent.dataplane import CannotTrace

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).parents[2]


@pytest.fixture
def box() -> Iterator[Box]:
    box = Box()
    for number in (1, 2):
        for family in (4, 6):
            box.serve(number, family=family)
    yield box
    box.close()


def test_a_limit_is_told(box):
    narrow = farm(1, limit_rate=1, limit_burst=1, limit_connections=9, limit_action="reject")
    box.apply({"web": narrow})
    with watching(box, service(80)) as watch:
        assert box.ask() == backend_address(1)
        assert box.refused()
        refused = watch.packets(1, ended("refused"))[0]
        assert watch.packets(1, ended("forwarded"))
    assert refused.farm == "web"
    assert refused.words[-2:] == [
        "Its source opens more connections a second than the farm lets it (`limit_rate`).",
        "Refused with a TCP reset.",
    ]
    box.apply({"web": narrow | {"limit_connections": 1, "limit_rate": None, "limit_action": "drop"}})
    with watching(box, service(80)) as watch, box.connect(), box.client.socket() as sock:
        sock.setblocking(False)
        sock.connect_ex((VIRTUAL[4], 80))
        dropped = watch.packets(1, ended("dropped"))[0]
    assert dropped.words[-2:] == [
        "Its source has as many connections open as the farm lets it (`limit_connections`).",
        "Dropped by the farm's limits.",
    ]


def test_an_address_of_a_pool_is_told_as_such(box):
    box.apply({"web": farm(1, forwarding="snat", source_pool=[VIRTUAL[4]])})
    with watching(box, service(80)) as watch:
        box.ask()
        there = watch.packets(1, ended("forwarded"))[0]
    assert there.words[-1].startswith(f"It left by back as {VIRTUAL[4]}:")
    assert there.words[-1].endswith("the backend sees an address of the farm's source pool.")


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("forwarding", ["dnat", "snat"])
def test_a_balanced_connection_is_told_there_and_back(box, family, protocol, forwarding):
    box.apply({"web": farm(1, 2, family=family, protocols=["tcp", "udp"], forwarding=forwarding)})
    with watching(box, service(80, protocol, family), CLIENT[family]) as watch:
        server = box.ask(family=family) if protocol == "tcp" else box.ask_udp(family=family)
        name = {backend_address(1, family): "b1", backend_address(2, family): "b2"}[server]
        there = watch.packets(1, ended("forwarded"))[0]
        back = watch.packets(1, ended("forwarded", "answer"))[0]
        trace = watch.told()
    assert (there.farm, there.backend) == (back.farm, back.backend) == ("web", name)
    where = f"{server}:80" if family == 4 else f"[{server}]:80"
    words = " ".join(there.words)
    assert "It came in by front." in words
    assert f"It opens a connection. Farm web takes it (map services{family})." in words
    assert "chose the next in turn of 2 buckets." in words
    assert f"Its destination became {where}, backend {name}, which has 1 of the 2 buckets." in words
    assert "It left by back as " in words
    masked = forwarding == "snat"
    assert ("the backend sees the appliance's address" in words) == masked
    assert ((BALANCER if masked else CLIENT)[family] in there.words[-1]) is True
    assert f"It is the answer of backend {name} of farm web." in back.words
    assert back.words[-1].startswith("It left by front as ")
    assert VIRTUAL[family] in back.words[-1]
    assert f"forwarded to backend {name} of farm web." in trace.summary
    assert "The backend answered, and its answers went on to the client." in trace.summary


def test_a_packet_of_a_known_connection_asks_no_map(box):
    box.apply({"web": farm(2, ports=(80,), offload=False)})
    with box.connect() as connection, watching(box, service(80), f"{CLIENT[4]}:{connection.port}") as watch:
        assert connection.alive()
        packet = watch.packets(1, ended("forwarded"))[0]
    assert (packet.farm, packet.backend) == ("web", "b2")
    words = "Its connection is known: it follows the first packet to backend b2 of farm web, and no map is asked."
    assert words in packet.words
    assert not any("opens a connection" in words for words in packet.words)


def test_a_client_that_is_remembered_goes_where_it_went(box):
    box.apply({"web": farm(1, 2, persistence="address"), "given": farm(1, 2, ports=(81,), **STATIC)})
    told = []
    with watching(box, VIRTUAL[4]) as watch:
        for number in (1, 2):
            box.ask()
            told = watch.packets(number, lambda packet: "opens a connection" in packet.words[1])
        assert box.refused(81)
        told = watch.packets(3, lambda packet: "opens a connection" in packet.words[1])
    first, second, given = [packet.words[2:-2] for packet in told]
    assert first[0] == "Persistence: no usable backend is remembered for the client."
    assert first[1].startswith("Picker turn_2_")
    assert first[2] == "The choice is remembered."
    assert second == ["Persistence: the client is remembered, and goes where it went before."]
    assert given == ["Persistence: a static entry gives its network this backend."]
    assert told[0].backend == told[1].backend
    assert told[2].backend == "b2"


STATIC = {"persistence": "address", "persistence_static": {f"{CLIENT[4]}/32": "b2"}}


def test_only_what_was_asked_for_is_followed(box):
    box.apply({"web": farm(1, ports=(80, 81), protocols=["tcp", "udp"])})
    with watching(box, service(80), f"{CLIENT[4]}:4000") as watch:
        box.ask()
        box.ask_udp()
        sock = box.client.socket()
        sock.bind((CLIENT[4], 4000))
        sock.connect((VIRTUAL[4], 80))
        sock.close()
        watch.packets(2, ended("forwarded"))
        found = watch.told().packets
    assert all(":4000" in packet.packet and "TCP" in packet.packet for packet in found)


def test_a_farm_without_backends_refuses(box):
    box.apply({"web": farm(1)}, {"web": {"b1": 0}})
    with watching(box, service(80)) as watch:
        assert box.refused()
        packet = watch.packets(1, ended("refused"))[0]
        trace = watch.told()
    assert packet.farm == "web"
    assert packet.words[-2:] == ["The farm has no backend that takes connections.", "Refused with a TCP reset."]
    assert trace.summary == "1 packet was refused with a TCP reset."


def test_a_farm_without_backends_drops_or_has_its_sorry_server_answer(box):
    down = {"web": {"b1": 0}, "kind": {"b1": 0}}
    kind = farm(1, ports=(81,), sorry_servers=[{"address": backend_address(2), "port": 80}])
    box.apply({"web": farm(1, protocols=["udp"], when_down="drop"), "kind": kind}, down)
    with watching(box, service(80, "udp")) as watch, box.datagram() as sock:
        sock.send(b"?")
        packet = watch.packets(1, ended("dropped"))[0]
    assert packet.words[-1] == "Dropped: so the farm says (`when_down`) for when no backend takes connections."
    with watching(box, service(81)) as watch:
        assert box.ask(81) == backend_address(2)
        packet = watch.packets(1, ended("forwarded", "answer"))[0]
        summary = watch.told().summary
    assert (packet.farm, packet.backend) == ("kind", "sorry server")
    assert "forwarded to the sorry server of farm kind." in summary


def test_a_port_that_no_farm_has_is_unserved(box):
    box.apply({"web": farm(1)})
    with watching(box, VIRTUAL[4]) as watch:
        assert box.refused(99)
        packet = watch.packets(1, ended("refused"))[0]
    assert packet.farm is None
    assert f"It opens a connection. No farm has {VIRTUAL[4]} TCP port 99." in packet.words
    assert "It is for the appliance: no farm serves TCP port 99 of this virtual address." in packet.words


def test_the_guard_tells_why_it_drops(box):
    box.apply({"web": farm(1, protocols=["udp"])})
    mark = next(iter(box.ruleset.parts.values())).numbers.mark
    box.nft(f"delete element inet sluice buckets {{ {mark} . 0 }}")
    with watching(box, service(80, "udp")) as watch, box.datagram() as sock:
        sock.send(b"?")
        packet = watch.packets(1, ended("dropped"))[0]
    assert packet.farm == "web"
    assert packet.words[-1].startswith("Dropped by the guard: ")


def test_what_is_not_balanced_is_not_forwarded(box):
    box.apply({"web": farm(1)})
    with watching(box, f"{backend_address(1)}:80/udp") as watch:
        sock = box.client.socket(kind=socket.SOCK_DGRAM)
        sock.sendto(b"?", (backend_address(1), 80))
        sock.close()
        packet = watch.packets(1, ended("dropped"))[0]
    assert "Dropped by the policy of chain forward" in packet.words[-1]


def test_another_table_that_drops_is_named(box):
    box.apply({"web": farm(1)})
    box.nft("table ip other { chain wall { type filter hook prerouting priority 0; udp dport 80 drop; }; }")
    with watching(box, service(80, "udp")) as watch, box.datagram() as sock:
        sock.send(b"?")
        packet = watch.packets(1, ended("dropped"))[0]
    assert "in chain wall of table ip other, which is not Sluice's." in packet.words[-1]
    assert packet.events[-1].rule is None


def test_a_backend_without_a_route_is_told(box):
    web = {"addresses": [VIRTUAL[4]], "ports": [80], "backends": {"far": {"address": "198.51.100.9"}}}
    box.apply({"web": {**web, "protocols": ["udp"]}})
    with watching(box, service(80, "udp")) as watch, box.datagram() as sock:
        sock.send(b"?")
        packet = watch.packets(1, lambda packet: packet.events[-1].verdict == "accept" and packet.farm == "web")[0]
    assert packet.outcome == "lost"
    assert "there is no route to its backend" in packet.words[-1]


def test_what_is_for_the_appliance_itself_is_told(box):
    box.apply({"web": farm(1)})
    with watching(box, f"{BALANCER[4]}:7/udp") as watch:
        sock = box.client.socket(kind=socket.SOCK_DGRAM)
        sock.sendto(b"?", (BALANCER[4], 7))
        sock.close()
        packet = watch.packets(1, ended("appliance"))[0]
    assert packet.words[-1] == "The appliance itself has got it."


def test_a_silent_backend_and_a_closed_port_are_told_apart(box):
    box.apply({"web": farm(1, 2, ports=(81,)), "far": {**farm(ports=(82,)), "backends": {"gone": {"address": GONE}}}})
    with watching(box, service(81)) as watch:
        assert box.refused(81)
        watch.packets(1, ended("forwarded", "answer"))
        assert "The backend answered with a TCP reset" in watch.told().summary
    with watching(box, service(82)) as watch:
        sock = box.client.socket()
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sock.connect((VIRTUAL[4], 82))
        watch.packets(1, ended("forwarded"))
        sock.close()
        assert "No answer passed the appliance within 1 s" in watch.told().summary


GONE = "10.30.0.99"
"""An address of the backends' network that nobody has."""


def test_the_own_table_is_as_it_was_and_the_kernel_removes_that_of_a_killed_trace(box):
    box.apply({"web": farm(1)})
    before = box.nft("list chain inet sluice dispatch")
    program = (
        "import sys; from agent.dataplane import Kernel; from agent.model.trace import TraceRequest\n"
        f"r = TraceRequest.model_validate({{'from': '{CLIENT[4]}', 'to': '{service(80)}'}})\n"
        "t = Kernel().tracer(r.client, r.service, 1); print('tracing', flush=True); sys.stdin.read()"
    )
    arguments = [sys.executable, "-c", program]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = box.balancer.run(subprocess.Popen, arguments, cwd=ROOT, text=True, **pipes)
    assert process.stdout.readline() == "tracing\n"
    assert tracing_table(box)
    assert box.nft("list chain inet sluice dispatch") == before
    # Somebody else's trace is told to be in the way.
    asked = request(service(80))
    with pytest.raises(CannotTrace, match="kernel cannot trace"):
        box.balancer.run(box.kernel.tracer, asked.client, asked.service, 1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    until(lambda: not tracing_table(box))


def test_addresses_and_ports_of_every_form_are_taken(box):
    for asked in (
        request(VIRTUAL[4]),
        request(f"{VIRTUAL[4]}:80"),
        request(f"{VIRTUAL[4]}:80/sctp", f"{CLIENT[4]}:9"),
        request(VIRTUAL[6], CLIENT[6]),
        request(f"[{VIRTUAL[6]}]:80", f"[{CLIENT[6]}]:9"),
    ):
        # The second replaces what the first has left.
        for tracer in [box.balancer.run(box.kernel.tracer, asked.client, asked.service, 1) for _ in range(2)]:
            box.balancer.run(tracer.close)


def tracing(box: Box) -> Tracing:
    async def run(function: Callable[..., object], *arguments: object) -> object:
        return await asyncio.to_thread(box.balancer.run, function, *arguments)

    return Tracing(box.kernel, run)


async def test_a_trace_ends_with_the_packets_that_are_enough_and_changes_go_on_meanwhile(box):
    await asyncio.to_thread(box.apply, {"web": farm(1)})
    traces = tracing(box)
    asked = request(service(80), seconds=30, count=2)
    running = asyncio.create_task(traces.follow(asked, lambda: box.ruleset))
    await asyncio.to_thread(until, lambda: tracing_table(box))
    with pytest.raises(TraceRunning) as refused:
        await traces.follow(asked, lambda: box.ruleset)
    assert 1 <= refused.value.retry_after_s <= 30
    await asyncio.to_thread(box.apply, {"web": farm(2), "other": farm(1, ports=(81,))})
    assert await asyncio.to_thread(box.ask) == backend_address(2)
    trace = await running
    assert [packet.outcome for packet in trace.packets] == ["forwarded", "forwarded"]
    assert trace.packets[0].backend == "b2", "as it is at the end of the trace"
    assert not tracing_table(box)


async def test_when_nothing_comes_that_is_told_in_time(box):
    await asyncio.to_thread(box.apply, {"web": farm(1)})
    traces = tracing(box)
    trace = await traces.follow(request(service(80), seconds=1), lambda: box.ruleset)
    assert trace.packets == []
    assert trace.summary.startswith(f"No packet from {CLIENT[4]} to {service(80)} arrived within 1 s.")
    assert "No farm" not in trace.summary
    trace = await traces.follow(request(service(81), seconds=1), lambda: box.ruleset)
    assert trace.summary.endswith(f"No farm that is enabled has {service(81)}.")


async def test_a_trace_that_is_called_off_leaves_nothing(box):
    await asyncio.to_thread(box.apply, {"web": farm(1)})
    traces = tracing(box)
    running = asyncio.create_task(traces.follow(request(service(80), seconds=60), lambda: box.ruleset))
    await asyncio.to_thread(until, lambda: tracing_table(box))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not tracing_table(box)
    assert (await traces.follow(request(service(80), seconds=1), lambda: box.ruleset)).packets == []
