# SPDX-License-Identifier: GPL-2.0-or-later
"""Elements by raw netlink: what the agent reads is what libnftables reads, and what is written is what was meant."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_namespaces import Namespace
from kernel_net import Box, backend_address, expected, farm
from nft_json import held

from agent.dataplane import KernelRefused, elements, netlink, reweigh
from agent.dataplane.assignment import Side
from agent.dataplane.layout import SETS
from agent.dataplane.script import CHAIN_SETS, OFFLOAD, Command
from agent.dataplane.skeleton import ELEMENT_SETS, SKELETON

pytestmark = pytest.mark.kernel


@pytest.fixture
def box():
    box = Box()
    for number in (1, 2, 3):
        box.serve(number)
    box.serve(1, family=6)
    yield box
    box.close()


@pytest.fixture(scope="module")
def table():
    """The empty table in a namespace."""
    namespace = Namespace()
    yield namespace
    namespace.close()


FARMS = {
    "web": farm(1, 2, 3, scheduler="weighted"),
    "other": farm(1, 2, ports=(81, 82), protocols=["tcp", "udp"], forwarding="snat"),
    "six": farm(1, family=6),
    "idle": farm(ports=(83,)),
    "spans": farm(1, ports=(84, "100-199", "208-223"), protocols=["udp", "sctp"]),
    "spans6": farm(1, family=6, ports=("1024-65535",)),
    "hash": farm(1, 2, ports=(85,), scheduler="source-hash"),
    "sticky-direct": farm(
        1, 2, ports=(87,), forwarding="direct", persistence="address", persistence_static={"10.9.0.0/16": "b1"}
    ),
    "sticky": farm(
        1, 2, ports=(86,), persistence="address", persistence_static={"10.9.0.0/16": "b1", "10.8.7.6": "b2"}
    ),
}
for backend in FARMS["other"]["backends"].values():
    backend["port"] = 80
FARMS["six"]["backends"]["b2"] = {"address": backend_address(2, 6), "port": 8080}


def read_all(keys=None):
    return {name: elements.read(name, keys and keys[name]) for name in ELEMENT_SETS}


def counted(box, set_name, keys):
    """Packets and bytes by key, as the agent reads them."""
    found = box.balancer.run(elements.counters, set_name, keys)
    return {SETS[set_name].unpack_key(key): (packets, octets) for key, packets, octets in found}


@pytest.mark.parametrize("few", [elements.FEW, 0], ids=["by-dump", "by-key"])
def test_every_set_is_read_as_libnftables_reads_it(box, monkeypatch, few):
    box.apply(FARMS)
    box.turn(5)
    box.ask(81)
    box.ask(family=6)
    box.ask_udp(81)
    monkeypatch.setattr(elements, "FEW", few)
    listed = box.elements()
    for set_name in (*CHAIN_SETS.values(), OFFLOAD):
        del listed[set_name]
    keys = {name: list(content) for name, content in listed.items()}
    assert box.balancer.run(read_all) == listed
    assert box.balancer.run(read_all, keys) == listed
    for name in ("hosts4", "hosts6", "backends4", "backends6"):
        figures = {each.key: (each.packets, each.bytes) for each in box.listed(name)}
        assert counted(box, name, keys[name]) == figures
        assert any(packets for packets, _ in figures.values()) or name == "backends6"


def test_keys_that_are_not_there_are_left_out(box, monkeypatch):
    box.apply(FARMS)
    monkeypatch.setattr(elements, "FEW", 0)
    listed = box.elements()["hosts4"]
    absent = [str(mark) for mark in range(5000, 5200)]
    keys = [key for pair in zip(absent, [*listed] * 100, strict=False) for key in pair][:300] + absent
    assert box.balancer.run(elements.read, "hosts4", keys) == listed


def test_where_no_table_is_nothing_is_read():
    namespace = Namespace()
    assert namespace.run(elements.read, "pickers") == {}
    namespace.close()


WORDS = {
    "pickers": (st.integers(1, 0xFFFFFF).map(str), st.sampled_from(["jump turn_2_0", "goto refuse", "jump random_64"])),
    "hosts4": (st.integers(1, 0xFFFFFF).map(str), st.ip_addresses(v=4).map(str)),
    "backends6": (
        st.integers(1, 0xFFFFFF).map(str),
        st.builds("{} . {}".format, st.ip_addresses(v=6), st.integers(1, 65535)),
    ),
    "services4": (
        st.builds("{} . {} . {}".format, st.ip_addresses(v=4), st.sampled_from(["tcp", "udp"]), st.integers(1, 65535)),
        st.integers(1, 0xFFFFFF).map(str),
    ),
    "services6": (
        st.builds("{} . {} . {}".format, st.ip_addresses(v=6), st.sampled_from(["tcp", "udp"]), st.integers(1, 65535)),
        st.integers(1, 0xFFFFFF).map(str),
    ),
    "ranges6": (
        st.builds("{} . udp . {}".format, st.ip_addresses(v=6), st.sampled_from(["1-9", "10-15", "16-31", "32-65535"])),
        st.integers(1, 0xFFFFFF).map(str),
    ),
    "static4": (st.sampled_from(["1 . 10.0.0.0/8", "1 . 192.0.2.0/25", "2 . 10.0.0.1"]), st.just("7")),
    "static6": (st.sampled_from(["1 . fd00::/16", "1 . 2001:db8::/33", "2 . fd00::1"]), st.just("7")),
    "near4": (st.sampled_from(['"br-lan.7" . 10.0.0.0/8', '"x" . 192.0.2.0/25', '"x" . 192.0.2.200']), st.just("")),
    "near6": (st.sampled_from(['"abcdefghij-.@_x" . fd00::/16', '"x" . 2001:db8::1']), st.just("")),
    "arms": (st.integers(1000, 9999).map("{0} . {0}".format), st.just("")),
    "virtual6": (st.ip_addresses(v=6).map(str), st.just("")),
    "usable": (st.integers(1, 0xFFFFFF).map(str), st.just("")),
}
COMMENTS = st.text(st.sampled_from("abcxyz019-/"), max_size=128)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_is_written_is_read_by_both(table, data):
    content = {
        name: dict(data.draw(st.lists(st.tuples(key, st.tuples(value, COMMENTS)), max_size=6), label=name))
        for name, (key, value) in WORDS.items()
    }
    table.run(Box.command, SKELETON)
    commands = [Command("add", name, each, None) for name, each in content.items()]
    assert table.run(lambda: elements.Batch(commands).run(netlink.Transactions(), dry=False)) is None
    for name, each in content.items():
        kind = "map" if SETS[name].value else "set"
        listed = held(json.loads(table.run(Box.command, f"list {kind} inet sluice {name}")))
        assert {found.key: found.element for found in listed} == each
        assert table.run(elements.read, name) == each
    deletions = [Command("delete", name, each, None) for name, each in content.items()]
    assert table.run(lambda: elements.Batch(deletions).run(netlink.Transactions(), dry=False)) is None
    assert not any(table.run(read_all).values())


def test_a_change_while_a_set_is_read_is_noticed_and_it_is_read_again(table):
    table.run(Box.command, SKELETON)
    kernel, many = netlink.Transactions(), {f"{mark} . {mark}": ("", "") for mark in range(1, 20001)}
    table.run(lambda: elements.Batch([Command("add", "arms", many, None)]).run(kernel, dry=False))
    attempts = []

    def read():
        """Reads the set; during the first two readings something is added to it."""
        found = {}
        for key, element in elements._dumped("arms", elements._element_of(SETS["arms"])):
            if not found and len(attempts) < 2:
                attempts.append(1)
                more = {f"{100_000 + len(attempts)} . 1": ("", "")}
                elements.Batch([Command("add", "arms", more, None)]).run(kernel, dry=False)
            found[key] = element
        return found

    assert len(table.run(netlink.steadily, read)) == 20002
    assert len(attempts) == 2


@pytest.mark.parametrize("few", [elements.FEW, 0], ids=["by-dump", "by-key"])
def test_a_large_document_is_adopted_with_nothing_to_change(box, monkeypatch, few):
    monkeypatch.setattr(elements, "FEW", few)
    farms = {f"f{n:03}": farm(1, 2, 3, ports=(1000 + n,)) for n in range(300)}
    box.apply(farms)
    assert {part.numbers.picker.kind for part in box.ruleset.parts.values()} == {"turn", "random"}
    before = box.ruleset.assignment
    box.adopt()
    assert box._adopted == before
    assert box.balancer.run(box.kernel._commands, box.compiled(farms)) == []


def test_what_nobody_else_points_at_is_found_when_it_is_in_the_way(box, monkeypatch, caplog):
    monkeypatch.setattr(elements, "FEW", 0)
    box.apply({"web": farm(1, 2)})
    mark = box.ruleset.assignment.sides[Side("web", 4)].mark
    box.nft(f"add element inet sluice buckets {{ {mark} . 2 : 77 }}")
    box.adopt()
    box.apply({"web": farm(1, 2, 3)})
    assert box.elements() == expected(box.ruleset)
    assert "changed by somebody else" in caplog.text


def test_other_weights_alone_are_in_the_kernel(box):
    box.apply(FARMS)
    for weights in ({"b1": 1, "b2": 5}, {"b3": 1}, {}, {"b1": 1, "b2": 1, "b3": 1}):
        ruleset = reweigh(box.ruleset, {"web": weights})
        box.balancer.run(box.kernel.check, ruleset)
        box.balancer.run(box.kernel.apply, ruleset)
        box.ruleset = ruleset
        assert box.elements() == expected(ruleset)
    assert sorted(box.turn(3)) == [backend_address(number) for number in (1, 2, 3)]


def test_other_roles_alone_cut_what_is_to_be_cut(box):
    box.apply({"web": farm(1, 2), "other": farm(1, 2, ports=(81,))})
    with box.connect() as one, box.connect() as two:
        assert {one.server, two.server} == {backend_address(1), backend_address(2)}
        for role, open_now in (("draining", 2), ("drained", 1)):
            ruleset = reweigh(box.ruleset, {"web": {"b1": 0, "b2": 1}}, {"web": {"b1": role, "b2": "active"}})
            box.balancer.run(box.kernel.apply, ruleset)
            box.ruleset = ruleset
            assert sum(box.active().values()) == open_now
        kept = one if one.server == backend_address(2) else two
        assert kept.alive()
    assert box.elements() == expected(box.ruleset)


def test_a_kernel_that_may_not_be_asked_refuses(box):
    class Deaf(netlink.Transactions):
        def run(self, batch):
            raise OSError(90, "Message too long")

    box.apply({"web": farm(1)})
    box.kernel._transactions = Deaf()
    with pytest.raises(KernelRefused, match="Message too long"):
        box.balancer.run(box.kernel.apply, box.compiled({"web": farm(2)}))
