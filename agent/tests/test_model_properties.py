# SPDX-License-Identifier: GPL-2.0-or-later
"""What holds for every document: its text and back, and differences."""

import copy
import hashlib
import json
import random
from ipaddress import ip_address
from operator import itemgetter

import pytest
from any_documents import any_documents
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.model import Codec, Configuration, Invalid, canonical, difference, digest, parse, pointer, validate
from agent.model.types import _address

DOCUMENTS = any_documents(widely=True)
# Each has hundreds of draws.
FEWER = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])


@FEWER
@given(DOCUMENTS)
def test_text_and_back(content):
    config = validate(content)
    assert parse(canonical(config)) == config
    assert parse(json.dumps(content)) == config
    assert canonical(parse(canonical(config))) == canonical(config)
    assert validate(json.loads(canonical(config))) == config
    codec = Codec()
    less = config.model_copy(update={"farms": dict(list(config.farms.items())[1:])})
    for each in (config, less, Configuration(), config, validate(json.loads(canonical(config)))):
        assert codec.canonical(each) == canonical(each)
        read = codec.parse(canonical(each))
        assert read == each
        again = codec.parse(canonical(each))
        assert all(again.farms[name] is farm for name, farm in read.farms.items())
    assert digest(config) == hashlib.sha256(canonical(config)).hexdigest()


@FEWER
@given(DOCUMENTS, st.randoms(use_true_random=False))
def test_the_order_of_names_does_not_matter(content, chance):
    assert canonical(validate(shuffled(content, chance))) == canonical(validate(content))


def shuffled(content, chance: random.Random):
    if isinstance(content, dict):
        items = [(name, shuffled(value, chance)) for name, value in content.items()]
        chance.shuffle(items)
        return dict(items)
    return [shuffled(value, chance) for value in content] if isinstance(content, list) else content


@FEWER
@given(DOCUMENTS)
def test_what_is_left_out_is_the_default(content):
    config = validate(content)
    short = config.model_dump(mode="json", exclude_defaults=True)
    assert validate(short) == config


@FEWER
@given(DOCUMENTS)
def test_a_document_does_not_differ_from_itself(content):
    assert difference(validate(content), validate(copy.deepcopy(content))) == []


@FEWER
@given(DOCUMENTS, DOCUMENTS)
def test_differences_lead_from_one_document_to_the_other_and_back(one, other):
    before, after = validate(one), validate(other)
    assert applied(before, difference(before, after)) == told(after)
    assert applied(after, difference(after, before)) == told(before)
    there = [(change.pointer, change.before, change.after) for change in difference(before, after)]
    back = [(change.pointer, change.after, change.before) for change in difference(after, before)]
    assert sorted(there, key=itemgetter(0)) == sorted(back, key=itemgetter(0))
    assert bool(there) == (told(before) != told(after))


def told(config):
    return unordered(json.loads(canonical(config)))


def unordered(value):
    """As a difference sees it: the networks of a list have no order, and none stands twice."""
    if not isinstance(value, dict):
        return value
    return {name: dict.fromkeys(each) if name == "networks" else unordered(each) for name, each in value.items()}


def applied(config, changes):
    content = told(config)
    for change in changes:
        *path, last = [part.replace("~1", "/").replace("~0", "~") for part in change.pointer.split("/")[1:]]
        place = content
        for part in path:
            place = place[part]
        assert (last in place) == (change.kind != "added")
        if path[-1:] == ["networks"]:
            assert last in (change.before, change.after)
        else:
            assert place.get(last) == unordered(change.before)
        if change.kind == "removed":
            del place[last]
        else:
            place[last] = None if path[-1:] == ["networks"] else unordered(change.after)
    return content


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_anything_is_a_document_or_has_faults(content):
    try:
        config = validate(content)
    except Invalid as invalid:
        assert_told(invalid)
    else:
        assert isinstance(config, Configuration)


@FEWER
@given(DOCUMENTS, st.data())
def test_one_part_replaced_by_anything_is_valid_or_told_there(content, data):
    paths = list(walk(content))
    path = data.draw(st.sampled_from(paths))
    spoilt = copy.deepcopy(content)
    place = spoilt
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = data.draw(json_values)
    try:
        config = validate(spoilt)
    except Invalid as invalid:
        assert_told(invalid)
    else:
        assert parse(canonical(config)) == config


def walk(content, path=()):
    for name, value in content.items() if isinstance(content, dict) else enumerate(content):
        yield (*path, name)
        if isinstance(value, dict | list):
            yield from walk(value, (*path, name))


def assert_told(invalid):
    assert invalid.faults
    for fault in invalid.faults:
        assert fault.pointer == "" or fault.pointer.startswith("/")
        assert fault.message
        assert len(fault.message) < 400
        json.dumps([fault.pointer, fault.message]).encode()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_document_or_have_faults(content):
    try:
        parse(content)
    except Invalid as invalid:
        assert_told(invalid)


@given(st.lists(st.text() | st.integers(0, 99), max_size=4))
def test_pointers_can_be_taken_apart_again(parts):
    text = pointer(*parts)
    found = [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]
    assert found == [str(part) for part in parts]


@FEWER
@given(DOCUMENTS, st.sampled_from([True, 1.0, "1", None, [1]]))
def test_a_codec_sees_what_only_looks_like_the_farm_that_it_knows(content, value):
    codec = Codec()
    farms = content.get("farms", {})
    backends = [backend for farm in farms.values() for backend in farm.get("backends", {}).values()]
    for backend in backends:
        backend["weight"] = 1
    codec.parse(json.dumps(content))
    if backends:
        backends[0]["weight"] = value
        with pytest.raises(Invalid):
            codec.parse(json.dumps(content))


@given(st.ip_addresses(v=4).map(str) | st.text(st.sampled_from("0123456789.:abx \0é"), max_size=20))
def test_addresses_are_read_as_ipaddress_reads_them(text):
    def of(read):
        try:
            return read(text)
        except ValueError:
            return None

    assert of(_address) == of(ip_address)
