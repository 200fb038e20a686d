# SPDX-License-Identifier: GPL-2.0-or-later
"""What is known of the document before saves time and changes nothing."""

import json

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from agent.model import Codec, Configuration, Invalid, canonical, validate

# So few that they get in each other's way, in a farm and between farms and links.
ADDRESSES = st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.255", "10.1.0.1", "2001:db8::1"])
NAMES = st.sampled_from(["a", "b", "c"])
FARMS = st.fixed_dictionaries(
    {
        "addresses": st.lists(ADDRESSES, min_size=1, max_size=2, unique=True),
        "ports": st.sampled_from([[80], ["80-90"]]),
    },
    optional={
        "enabled": st.booleans(),
        "forwarding": st.sampled_from(["snat", "stateless", "tunnel"]),
        "source_pool": st.just(["10.0.0.9"]),
        "allow": st.just(["known"]),
        "limit_resets": st.just(1),
        "backends": st.dictionaries(NAMES, st.fixed_dictionaries({"address": ADDRESSES}), max_size=2),
    },
)
LINKS = st.fixed_dictionaries({"addresses": st.sampled_from([[], ["10.0.0.1/24"], ["10.1.0.2/16", "10.0.0.7/24"]])})
DOCUMENTS = st.fixed_dictionaries(
    {"version": st.just(1), "farms": st.dictionaries(NAMES, FARMS, max_size=3)},
    optional={
        "links": st.dictionaries(st.just("eth0"), LINKS),
        "network_lists": st.just({"known": {"networks": ["192.0.2.0/24"]}}),
    },
)


def faults_of(read):
    try:
        read()
    except Invalid as invalid:
        return sorted((fault.pointer, fault.message) for fault in invalid.faults)
    return []


@given(st.lists(DOCUMENTS, min_size=1, max_size=4), st.data())
def test_a_document_is_what_it_is_whatever_was_before(contents, data):
    before, codec = Configuration(), Codec()
    for content in contents:
        held = {name: each for name, each in before.farms.items() if data.draw(st.booleans())}
        # As the API has a farm that is put: beside those of the document in force as they are.
        mixed = {**content, "farms": content["farms"] | held}
        plain = json.loads(json.dumps(mixed, default=lambda farm: farm.model_dump(mode="json")))
        told = faults_of(lambda plain=plain: validate(plain))
        event("refused" if told else "valid")
        assert faults_of(lambda mixed=mixed, before=before: validate(mixed, before)) == told
        assert faults_of(lambda plain=plain, before=before: codec.parse(json.dumps(plain), before)) == told
        if not told:
            config = validate(mixed, before)
            assert config == validate(plain) == codec.parse(json.dumps(plain), before)
            assert codec.canonical(config) == canonical(config)
            assert all(
                config.farms[name] is farm for name, farm in before.farms.items() if config.farms.get(name) == farm
            )
            before = config


def test_a_server_of_a_farm_that_stays_may_become_a_virtual_address():
    web = {"addresses": ["10.0.0.1"], "ports": [80], "backends": {"a": {"address": "10.0.0.2"}}}
    before = validate({"version": 1, "farms": {"web": web}})
    with pytest.raises(Invalid) as invalid:
        validate({"version": 1, "farms": {**before.farms, "new": {"addresses": ["10.0.0.2"], "ports": [80]}}}, before)
    assert [fault.pointer for fault in invalid.value.faults] == ["/farms/web/backends/a/address"]
