# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel holds or refuses is understood again, without a kernel."""

import json
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nft_json import held
from rulesets import SIX, WEB, compiled, complete, merged

from agent.dataplane import readback
from agent.dataplane.limits import LINES, Limits, Log, Resets, meters_named
from agent.dataplane.pool import HashPicker, picker_of
from agent.dataplane.refusal import FIELDS, plain, refusal, refused
from agent.dataplane.ruleset import Chain, body_of
from agent.dataplane.samples import samples, version
from agent.dataplane.script import Command, delta, text
from agent.dataplane.skeleton import ELEMENT_SETS
from agent.dataplane.tables import TABLE, IngressChain
from agent.model import Farm
from agent.model.types import LOG_PATTERN

LOGS = st.builds(Log, st.sampled_from(LINES), st.integers(1, 1000), st.from_regex(LOG_PATTERN, fullmatch=True))


@settings(deadline=None)
@given(
    st.builds(
        Limits,
        st.sampled_from([4, 6]),
        st.integers(1, 32),
        st.integers(1, 100_000),
        st.integers(1, 100_000),
        st.none() | st.integers(1, 65535),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    )
    | st.builds(Resets, st.sampled_from([4, 6]), st.integers(1, 32), st.integers(1, 100_000), st.booleans())
)
def test_limits_are_known_again_by_the_name_of_their_chain(limits):
    assert type(limits).named(limits.name) == limits
    assert meters_named([limits.name]) == set(limits.meters)
    assert type(limits).named(limits.name + " x") is None
    assert len(limits.name) < 128, "as long as the kernel lets it be"


@settings(deadline=None)
@given(LOGS)
def test_a_chain_of_a_log_says_all_of_it_in_its_name(log):
    _, line, rate, prefix = log.name.split("_", 3)
    assert Log(line, int(rate), prefix) == log
    assert readback.chains({"nftables": [{"chain": {"family": "inet", "table": "sluice", "name": log.name}}]}, TABLE)
    assert len(log.name) < 128


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("prefix", [1, 24, 32])
@pytest.mark.parametrize("port", [False, True])
def test_a_chain_is_known_again_by_its_name(family, prefix, port):
    picker = HashPicker(family, 2039, prefix, port)
    assert picker_of(picker.name) == picker
    assert picker_of(picker.name + "0x") is None


def test_what_the_kernel_holds_is_understood_again():
    listing = {
        "nftables": [
            {"metainfo": {"json_schema_version": 1}},
            {"map": {"name": "backends4", "comment": "x", "elem": [
                [{"elem": {"val": 2, "comment": "web/b", "counter": {"packets": 3, "bytes": 180}}},
                 {"concat": ["10.30.0.12", 8080]}]]}},
        ]
    }  # fmt: skip
    (found,) = held(json.loads(json.dumps(listing)))
    assert (found.key, found.element, found.packets) == ("2", ("10.30.0.12 . 8080", "web/b"), 3)
    assert readback.comment(listing) == "x"


@pytest.mark.parametrize("protocol", ["tcp", 6, "6"])
def test_protocols_are_understood_as_name_and_number(protocol):
    item = [{"concat": ["fd00::1", protocol, 80]}, 7]
    (found,) = held({"nftables": [{"map": {"elem": [item]}}]})
    assert found.key == "fd00::1 . tcp . 80"


def test_numbers_are_read_back_from_the_elements():
    ruleset = compiled({"web": WEB, "six": SIX})
    assert readback.assignment(merged(ruleset) | {"hosts6": {}, "backends6": {}}) is not None
    assert readback.assignment(complete(merged(ruleset))) == ruleset.assignment


@pytest.mark.parametrize(
    "elements",
    [{}, {"pickers": {"x": ("jump turn_2_0", "web/4")}}, {"pickers": {"1": ("", "web/4")}}],
)
def test_elements_of_another_software_are_not_adopted(elements):
    assert readback.assignment(elements) is None


def test_a_refusal_names_the_farm_and_field_of_the_line_that_nft_points_at():
    commands = delta(compiled({}), compiled({"web": WEB}))
    line = next(n for n, command in enumerate(commands, 1) if command.set_name == "backends4")
    told = refusal(f"/proc/self/fd/4:{line}:38-42: Error: Could not process rule: File exists\nadd ...\n", commands, 0)
    assert (told.farm, told.field, told.message) == ("web", "backends", "Could not process rule: File exists")
    other = refusal("netlink: Error: cache initialization failed: Operation not permitted\n", commands, 0)
    assert other.farm is None
    assert "not permitted" in other.message
    assert text(commands).splitlines()[line - 1] == commands[line - 1].text


def test_elements_of_a_farm_in_every_set_are_told_by_a_field():
    of_nobody = {"numbers", "virtual", "arms", "near", "answering", "screened", "screened_own"}
    assert {plain(name) for name in ELEMENT_SETS} == FIELDS.keys() | of_nobody
    assert set(FIELDS.values()) <= Farm.model_fields.keys()


def test_the_direction_of_a_ceiling_or_mark_is_told():
    ways = {"1 . original": ("", "")}, {"1 . reply": ("", "")}
    for name, field in (("ceilings", "rate"), ("markings", "dscp")):
        told = [refused("no", Command("add", name, way, "web")).field for way in ways]
        assert told == [f"{field}_in", f"{field}_out"]


def test_the_version_changes_with_every_kind_of_chain_that_comes_on_demand():
    kinds = {type(each) for each in samples()}
    assert kinds | {IngressChain} == set(get_args(Chain))
    assert all(body_of(each) in version() for each in samples())
