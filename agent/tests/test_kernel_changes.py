# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes of the data plane under real connections: nobody loses one, and what is refused changes nothing."""

import itertools
import random
from dataclasses import replace

import pytest
from kernel_far import has_tunnels
from kernel_net import Box, backend_address, expected, farm

from agent.dataplane import KernelRefused, compile_ruleset, script
from agent.dataplane.assignment import Side
from agent.model import Configuration

pytestmark = pytest.mark.kernel


CLIENTS = 8
UPDATES = 210


@pytest.fixture
def box():
    box = Box()
    for number in (1, 2, 3):
        box.serve(number)
    yield box
    box.close()


def test_the_difference_is_what_a_change_would_do_and_does_nothing(box):
    box.apply({"web": farm(1, 2)})
    held = box.elements()
    same, other = box.compiled({"web": farm(1, 2)}), box.compiled({"web": farm(1, 2, ports=(81,))})
    assert box.balancer.run(box.kernel.difference, same) == ""
    lines = box.balancer.run(box.kernel.difference, other).splitlines()
    assert [line.partition(" {")[0] for line in lines] == [
        "delete element inet sluice services4",
        "add element inet sluice services4",
    ]
    assert box.elements() == held
    # Somebody who runs these commands has what the agent makes.
    box.nft("\n".join(lines))
    assert box.elements() == expected(other)


def test_no_connection_is_lost_in_hundreds_of_changes(box):
    web, three = farm(1, 2), farm(1, 2, 3)
    box.apply({"web": web})
    clients = box.load(CLIENTS)
    changes = itertools.cycle(
        [
            ({"web": web}, {"web": {"b1": 3, "b2": 1}}),
            ({"web": web}, {"web": {"b1": 1, "b2": 2}}),
            ({"web": web, "other": farm(1, ports=(81,))}, {"web": {"b1": 1, "b2": 1}, "other": {"b1": 1}}),
            ({"web": three}, {"web": {"b1": 1, "b2": 1, "b3": 1}}),
            ({"web": three}, {"web": {"b2": 1, "b3": 1}}),
            ({"web": {**three, "forwarding": "snat"}}, {"web": {"b1": 1, "b2": 1, "b3": 5}}),
            ({"web": web}, {"web": {"b2": 1}}),
            ({"web": {**web, "offload": False}}, {"web": {"b1": 1, "b2": 1}}),
            ({"web": {**three, "scheduler": "source-hash"}}, {"web": {"b1": 1, "b2": 1, "b3": 1}}),
            ({"web": {**three, "scheduler": "source-hash"}}, {"web": {"b1": 1, "b3": 1}}),
            ({"web": {**web, "scheduler": "source-hash", "hash_port": True}}, {"web": {"b1": 1, "b2": 1}}),
        ]
    )
    for _ in range(UPDATES):
        box.apply(*next(changes))
    served, failures = clients.stop()
    assert failures == []
    assert served > UPDATES


def test_established_connections_survive_every_change(box, opened):
    box.apply({"web": farm(1, 2)})
    connections = [opened.enter_context(box.connect()) for _ in range(4)]
    steps = {
        "weights": lambda: box.apply({"web": farm(1, 2)}, {"web": {"b1": 1, "b2": 7}}),
        "backend failed": lambda: box.apply({"web": farm(1, 2)}, {"web": {"b2": 1}}),
        "backend removed": lambda: box.apply({"web": farm(2)}),
        "no backend usable": lambda: box.apply({"web": farm(2)}, {}),
        "another forwarding": lambda: box.apply({"web": farm(2, forwarding="snat")}),
        "all packets by the rules": lambda: box.apply({"web": farm(2, offload=False)}),
        "offloaded again, beside one that is not": lambda: box.apply(
            {"web": farm(2), "other": farm(1, ports=(81,), offload=False)}
        ),
        "not enabled": lambda: box.apply({"web": farm(2, enabled=False)}),
        "farm removed": lambda: box.apply({}),
        "table replaced as a whole": lambda: box.nft(script(box.compiled({"web": farm(1, 2)}))),
    }
    for step, change in steps.items():
        change()
        assert all(connection.alive() for connection in connections), step


def test_a_removed_backend_gets_no_new_connection_and_a_removed_farm_refuses(box):
    box.apply({"web": farm(1, 2), "other": farm(1, ports=(81,))})
    box.apply({"web": farm(2), "other": farm(1, ports=(81,))})
    assert set(box.turn(4)) == {backend_address(2)}
    box.apply({"other": farm(1, ports=(81,))})
    assert box.refused()


def says(sock):
    sock.send(b"?")
    return sock.recv(100).decode().split()[0]


@pytest.mark.parametrize("reason", ["failed", "removed", "moved"])
def test_udp_flows_of_a_backend_that_is_gone_go_to_another_at_once(box, reason):
    udp = {"protocols": ["udp"]}
    box.apply({"web": farm(1, 2, **udp)})
    with box.datagram() as sock:
        assert [says(sock) for _ in range(3)] == [backend_address(1)] * 3
        if reason == "failed":
            box.apply({"web": farm(1, 2, **udp)}, {"web": {"b2": 1}})
        elif reason == "removed":
            box.apply({"web": farm(2, **udp)})
        else:
            moved = farm(1, 2, **udp)
            moved["backends"]["b1"]["address"] = backend_address(3)
            box.apply({"web": moved})
        assert says(sock) in (backend_address(2), backend_address(3))


def overlapping():
    """Two farms on one address and port, past the model's rules: what only the kernel finds."""
    return Configuration.model_validate({"version": 1, "farms": {"first": farm(1), "second": farm(2)}})


def test_what_the_kernel_refuses_changes_nothing_and_names_farm_and_field(box):
    box.apply({"web": farm(1, 2, ports=(80, 81))})
    before = box.elements()
    bad = compile_ruleset(overlapping(), {"first": {"b1": 1}, "second": {"b2": 1}}, (), box.ruleset)
    for method in (box.kernel.check, box.kernel.apply):
        with pytest.raises(KernelRefused, match="exists") as refusal:
            box.balancer.run(method, bad)
        assert (refusal.value.farm, refusal.value.field) == ("second", "addresses")
        assert box.elements() == before
    assert box.turn(2) == [backend_address(1), backend_address(2)]
    box.apply({"web": farm(2)})
    assert box.elements() == expected(box.ruleset)


def test_what_is_refused_at_the_first_load_leaves_the_table_away(box):
    bad = compile_ruleset(overlapping(), {"first": {"b1": 1}, "second": {"b2": 1}})
    for method in (box.kernel.check, box.kernel.apply):
        with pytest.raises(KernelRefused) as refusal:
            box.balancer.run(method, bad)
        assert refusal.value.farm == "second"
        assert "sluice" not in box.nft("list tables")


def test_a_check_changes_nothing(box):
    box.apply({"web": farm(1, 2)})
    before = box.elements()
    box.balancer.run(box.kernel.check, box.compiled({"web": farm(3), "more": farm(1, ports=(81,))}))
    assert box.elements() == before


def test_rulesets_that_nft_cannot_read_are_refused_with_the_farm(box):
    box.apply({"web": farm(1, 2)})
    ruleset = box.compiled({"web": farm(1, 2, 3)})
    part = ruleset.parts[Side("web", 4)]
    broken = replace(part, elements={**part.elements, "hosts4": {"3": ("not an address", "web/b3")}})
    with pytest.raises(KernelRefused) as refusal:
        box.balancer.run(box.kernel.check, replace(ruleset, parts={Side("web", 4): broken}))
    assert (refusal.value.farm, refusal.value.field) == ("web", "backends")


@pytest.mark.parametrize(
    ("stranger", "settings", "field"),
    [
        ("set inet sluice rate4_32_5_20", {"limit_rate": 5}, "limit_rate"),
        ("set inet sluice net4_bad", {"deny": ["bad"]}, "deny"),
        ("map inet sluice sticky4_MARK_500", {"persistence": "address", "persistence_size": 500}, "persistence"),
    ],
)
def test_what_comes_on_demand_and_is_refused_is_told_by_farm_and_field(box, stranger, settings, field):
    box.apply({"other": farm(1, ports=(81,)), "web": farm(1, 2)})
    mark = box.ruleset.parts[Side("web", 4)].numbers.mark
    # Somebody else has something of this name, of another kind.
    kind = "type inet_service : mark" if stranger.startswith("map") else "type inet_service"
    box.nft(f"add {stranger.replace('MARK', str(mark))} {{ {kind}; }}")
    lists = {"bad": {"networks": ["10.9.0.0/16"]}}
    wanted = box.compiled({"other": farm(1, ports=(81,)), "web": farm(1, 2, **settings)}, lists=lists)
    for method in (box.kernel.check, box.kernel.apply):
        with pytest.raises(KernelRefused) as refusal:
            box.balancer.run(method, wanted)
        assert (refusal.value.farm, refusal.value.field) == ("web", field)
    assert box.turn(2) == [backend_address(1), backend_address(2)]


def test_foreign_tables_are_untouched(box):
    box.nft(
        "add table ip other; add chain ip other c { type filter hook forward priority 10; policy accept; };"
        "add rule ip other c counter accept; add set ip other s { type ipv4_addr; }; add element ip other s { 1.2.3.4 }"
    )
    before = box.nft("list table ip other")
    box.apply({"web": farm(1, 2)})
    box.apply({"web": farm(2)})
    box.nft("delete table inet sluice")
    box.apply({"web": farm(1)})
    box.apply({})
    assert box.nft("list table ip other") == before


def test_what_somebody_else_removed_is_mended_by_the_next_change(box, caplog):
    box.apply({"web": farm(1, 2)})
    box.nft("flush map inet sluice buckets")
    ruleset = box.compiled({"web": farm(1, 2)}, {"web": {"b2": 1}})
    box.balancer.run(box.kernel.apply, ruleset)
    assert box.elements() == expected(ruleset)
    assert "changed by somebody else" in caplog.text


def test_random_changes_leave_the_kernel_equal_to_a_fresh_load(box):
    dice = random.Random(20261122)
    ways = ["dnat", "snat", "direct", "stateless", *["tunnel"] * has_tunnels()]
    for _ in range(25):
        farms, weights = {}, {}
        for name, port in (("a", 80), ("b", 81), ("c", 82)):
            if dice.random() < 0.8:
                numbers = dice.sample([1, 2, 3, 4], dice.randint(0, 4))
                settings = {
                    "enabled": dice.random() < 0.8,
                    "forwarding": dice.choice(ways),
                    "protocols": dice.choice([["tcp"], ["udp"], ["tcp", "udp"]]),
                }
                farms[name] = farm(*numbers, ports=(port, port + dice.choice([100, 200])), **settings)
                if numbers and settings["forwarding"] in ("dnat", "snat") and dice.random() < 0.5:
                    farms[name]["backends"][f"b{numbers[0]}"]["port"] = dice.choice([8080, 8081])
                weights[name] = {f"b{number}": dice.randint(0, 4) for number in numbers}
        box.apply(farms, weights)
        assert box.elements() == expected(box.ruleset)


def test_the_longest_names_are_taken(box):
    web = farm(1)
    web["backends"] = {"b" * 63: web["backends"]["b1"]}
    box.apply({"f" * 63: web})
    assert box.ask() == backend_address(1)
    assert box.counters()["f" * 63, "b" * 63].new == 1


def test_a_large_farm_is_balanced_exactly_and_quickly_changed(box):
    many = farm()
    many["backends"] = {
        f"b{n:03}": {"address": f"10.30.{1 + n // 200}.{n % 200 + 1}", "weight": 1 + n % 7} for n in range(256)
    }
    box.apply({"web": many | {"scheduler": "weighted"}})
    assert box.elements() == expected(box.ruleset)
    assert sum(box.ruleset.share("web", name) for name in many["backends"]) == pytest.approx(1)
