# SPDX-License-Identifier: GPL-2.0-or-later
"""Established connections in the flowtable: they pass no rule, are counted and cut; what may not is left out."""

import pytest
from kernel_net import BALANCER, CLIENT, backend_address, farm, serving, until
from kernel_offload import WEB, alive, ask, entries, flowtables, left_out, needed, offloaded, stream

from agent.dataplane import Offered

pytestmark = pytest.mark.kernel


@pytest.fixture
def box():
    with serving(1, 2, families=(4, 6)) as box:
        yield box


@pytest.fixture
def fast(box):
    return needed(box)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("forwarding", ["dnat", "snat"])
def test_established_connections_pass_no_rule_and_are_counted(fast, family, forwarding):
    fast.apply({"web": farm(1, 2, family=family, forwarding=forwarding)})
    with fast.connect(family=family) as connection:
        assert connection.peer == (CLIENT if forwarding == "dnat" else BALANCER)[family]
        assert alive(connection)
        assert offloaded(fast) == 1
        fast.nft('insert rule inet sluice forward counter comment "passed"')
        before = fast.counters()["web", "b1"]
        assert alive(connection, 10)
        after = fast.counters()["web", "b1"]
        assert '"packets": 0' in fast.nft("list chain inet sluice forward")
        assert after.packets_in - before.packets_in >= 10
        assert after.bytes_out - before.bytes_out >= 10 * len("still there?\n")
        assert fast.active() == {("web", "b1"): 1}
    until(lambda: fast.active() == {})
    assert fast.counters()["web", "b1"].bytes_out >= after.bytes_out


@pytest.mark.parametrize("family", [4, 6])
def test_a_udp_flow_is_offloaded_once_it_is_a_stream_and_leaves_a_failed_backend_at_once(fast, family):
    web = {"web": farm(1, 2, family=family, protocols=["udp"])}
    fast.apply(web)
    with fast.datagram(family=family) as short:
        ask(short)
        ask(short)
        assert offloaded(fast) == 0, "a question and its answer are not worth it"
        fast.balancer.run(fast.kernel._forget, set(fast.ruleset.marks()), cut=set())
    with stream(fast, family) as sock:
        first = ask(sock)
        held = {backend_address(1, family): "b1", backend_address(2, family): "b2"}[first]
        fast.apply(web, {"web": {"b1": int(held != "b1"), "b2": int(held != "b2")}})
        assert ask(sock) != first


def test_a_disabled_backends_connections_are_cut_though_they_are_offloaded(fast):
    fast.apply(WEB)
    with fast.connect() as connection:
        assert alive(connection)
        assert offloaded(fast) == 1
        web = farm(1, 2, protocols=["tcp", "udp"])
        web["backends"]["b1"]["state"] = "disabled"
        fast.apply({"web": web}, {"web": {"b2": 1}})
        with pytest.raises(ConnectionResetError):
            connection.alive()


def test_only_farms_that_may_are_offloaded(fast):
    fast.serve(1, 81)
    fast.apply({**WEB, "slow": farm(1, ports=(81,), offload=False)})
    with fast.connect() as quick, fast.connect(81) as slow:
        assert alive(quick)
        assert alive(slow)
        (entry,) = [line for line in entries(fast) if "OFFLOAD]" in line]
        assert "dport=80 " in entry
    assert list(flowtables(fast)) == ["software_some"]
    fast.apply({"slow": farm(1, ports=(81,), offload=False)})
    assert flowtables(fast) == {}, "it goes with the last farm that may use it"
    with fast.connect(81) as slow:
        assert alive(slow)
        assert offloaded(fast) == 0


def test_a_farm_that_is_left_out_later_takes_its_connections_with_it(fast):
    fast.serve(1, 81)
    farms = {**WEB, "other": farm(1, ports=(81,)), "out": farm(1, ports=(82,), offload=False)}
    fast.apply(farms)
    with fast.connect() as connection, fast.connect(81) as other:
        assert alive(connection)
        assert alive(other)
        assert offloaded(fast) == 2
        fast.apply({**farms, "web": left_out()})
        assert alive(connection)
        assert alive(other)
        until(lambda: alive(connection) and alive(other) and offloaded(fast) == 1)
        (entry,) = [line for line in entries(fast) if "OFFLOAD]" in line]
        assert "dport=81 " in entry
        fast.apply(farms)
        until(lambda: alive(connection) and offloaded(fast) == 2)


def test_a_new_agent_adopts_the_flowtable_and_what_is_in_it(fast):
    fast.apply(WEB)
    with fast.connect() as connection:
        assert alive(connection)
        fast.adopt()
        assert fast.balancer.run(fast.kernel._commands, fast.compiled(WEB)) == []
        assert alive(connection)
        assert offloaded(fast) == 1
        fast.apply(WEB)
        assert fast.counters()["web", "b1"].bytes_in > 0


def test_network_cards_that_cannot_are_told_and_the_kernel_does_it(fast):
    fast.kernel._offered = None
    offered = fast.balancer.run(fast.kernel.offer, fast.offered.links, True)
    assert offered.links == fast.offered.links
    assert not offered.hardware
    assert offered.reason.startswith("its network cards refuse it: ")


def test_what_the_kernel_cannot_do_is_not_offered_and_everything_else_goes_on(box):
    box.kernel._offered = None
    offered = box.balancer.run(box.kernel.offer, [("nowhere", 99)], False)
    assert offered.links == frozenset()
    assert offered.reason.startswith("the kernel refuses it: ")
    box.offered = offered
    box.apply(WEB)
    assert flowtables(box) == {}
    with box.connect() as connection:
        assert alive(connection)
    assert box.ruleset.offloading() == ("none", offered.reason)


def test_without_a_link_nothing_is_offered(box):
    assert box.balancer.run(box.kernel.offer, [], False) == Offered()
