# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's end and return: what the kernel holds goes on, and the script says the same as the agent does."""

import json
import subprocess

import pytest
from kernel_namespaces import Namespace
from kernel_net import Box, backend_address, expected, farm
from nftables import Nftables

from agent.dataplane import Kernel, compile_ruleset, script
from agent.dataplane.skeleton import VERSION
from agent.model import validate

pytestmark = pytest.mark.kernel


@pytest.fixture
def box():
    box = Box()
    for number in (1, 2, 3):
        box.serve(number)
    yield box
    box.close()


FARMS = {"web": farm(1, 2, 3), "other": farm(1, 2, ports=(81,), protocols=["tcp", "udp"], forwarding="snat")}


def test_a_new_agent_goes_on_with_turns_counters_and_connections(box):
    box.apply(FARMS)
    first = box.turn(4)
    with box.connect() as connection:
        before = box.counters()
        box.adopt()
        ruleset = box.compiled(FARMS)
        assert box.balancer.run(box.kernel._commands, ruleset) == []
        box.apply(FARMS)
        after = box.counters()
        assert {who: counted.new for who, counted in after.items()} == {
            who: counted.new for who, counted in before.items()
        }
        # The end of a closed connection may still be under way; what began anew would have counted less.
        assert all(after[who].bytes_in >= counted.bytes_in for who, counted in before.items())
        assert box.active()["web", "b2"] >= 1
        assert connection.alive()
        assert [*first, connection.server, *box.turn(4)] == [backend_address(1 + n % 3) for n in range(9)]


def test_a_new_agent_changes_only_what_has_changed(box):
    box.apply(FARMS)
    box.turn(3)
    box.adopt()
    box.apply({**FARMS, "web": farm(1, 2)})
    assert box.elements() == expected(box.ruleset)
    assert box.counters()["web", "b1"].new == 1
    box.adopt()
    box.apply({"third": farm(1, ports=(82,))})
    assert box.elements() == expected(box.ruleset)


def test_marks_that_were_given_before_the_restart_are_not_given_again(box):
    box.apply(FARMS)
    old = set(box.ruleset.marks())
    box.apply({})
    box.adopt()
    box.apply(FARMS)
    assert not old & set(box.ruleset.marks())


def test_udp_flows_of_a_backend_that_left_while_no_agent_ran_are_forgotten(box):
    box.apply({"web": farm(1, 2, protocols=["udp"])})
    with box.datagram() as sock:
        sock.send(b"?")
        assert sock.recv(100).decode().split()[0] == backend_address(1)
        box.adopt()
        box.apply({"web": farm(2, protocols=["udp"])})
        sock.send(b"?")
        assert sock.recv(100).decode().split()[0] == backend_address(2)


def test_an_empty_kernel_has_nothing_to_adopt():
    namespace = Namespace()
    assert namespace.run(Kernel().adopt) is None
    namespace.close()


@pytest.mark.parametrize(
    "table", ["chain x { counter; }", "map numbers { type mark : mark; }", "set numbers { type mark; }"]
)
def test_a_table_of_our_name_that_is_none_of_ours_is_replaced(box, table):
    box.nft(f"table inet sluice {{ {table}; }}")
    box.adopt()
    box.apply(FARMS)
    assert box.elements() == expected(box.ruleset)


def test_the_table_of_another_version_is_replaced_with_its_numbers_kept(box):
    box.apply(FARMS)
    marks = dict(box.ruleset.marks())
    with box.connect() as connection:
        box.nft(script(box.ruleset).replace(VERSION, "an older one"))
        box.adopt()
        box.apply(FARMS)
        assert VERSION in box.nft("list map inet sluice numbers")
        assert dict(box.ruleset.marks()) == marks
        assert connection.alive()
        assert ("web", "b1") in box.active()


def test_the_script_makes_what_the_agent_makes(box, tmp_path):
    config = validate({"version": 1, "farms": FARMS})
    weights = {name: dict.fromkeys(each.backends, 1) for name, each in config.farms.items()}
    ruleset = compile_ruleset(config, weights)
    box.balancer.run(box.kernel.apply, ruleset)
    file = tmp_path / "sluice.nft"
    file.write_text(script(ruleset))
    fresh = Namespace()
    try:
        for _ in range(2):  # loading it again changes nothing
            fresh.run(_load_file, str(file))
            assert fresh.run(_listing) == box.balancer.run(_listing)
    finally:
        fresh.close()


def _load_file(path):
    try:
        subprocess.run(["nft", "-f", path], check=True, capture_output=True)
    except FileNotFoundError:  # the image has the library only; it is the same parser
        code, _, error = Nftables().cmd_from_file(path)
        assert code == 0, error


def _listing():
    """The table as JSON, without the handles, which tell only the order of making."""
    context = Nftables()
    context.set_json_output(True)
    code, output, error = context.cmd("list table inet sluice")
    assert code == 0, error

    def clean(value):
        if isinstance(value, dict):
            return {key: clean(item) for key, item in value.items() if key != "handle"}
        if isinstance(value, list):
            return sorted((clean(item) for item in value), key=json.dumps)
        return value

    return clean(json.loads(output))
