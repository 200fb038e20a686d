# SPDX-License-Identifier: GPL-2.0-or-later
"""Rates and DSCP values: how they may be written, and what is said of those that are none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import Invalid, canonical, dscp_words, rate_words, validate

FARM = {"addresses": ["192.0.2.10"], "ports": [80]}


def farm(**settings):
    return validate({"version": 1, "farms": {"web": FARM | settings}}).farms["web"]


def faults(**settings):
    with pytest.raises(Invalid) as caught:
        farm(**settings)
    return {fault.pointer: fault.message for fault in caught.value.faults}


@pytest.mark.parametrize(
    ("written", "rate"),
    [(64_000, 64_000), ("64k", 64_000), ("20M", 20_000_000), ("1.5G", 1_500_000_000), ("0.1Gbit/s", 100_000_000)],
)
def test_rates_are_numbers_or_have_units(written, rate):
    assert farm(rate_in=written).rate_in == rate


@pytest.mark.parametrize("written", ["", "fast", "20m", "20 M", "-1M", "1e9", True, 2.5, "1.0001k", [], "M", "1G/s"])
def test_what_is_no_rate_is_told(written):
    assert faults(rate_out=written) == {
        "/farms/web/rate_out": "is not a rate; write bits per second, such as 2000000, 64k, 20M or 1.5G"
    }


@pytest.mark.parametrize("written", [0, -5, 63_999, "63.999k", "101G", 10**30])
def test_rates_have_a_range(written):
    assert faults(rate_in=written)["/farms/web/rate_in"] == "is out of range; write 64k to 100G (bit/s)"


def test_a_links_bandwidth_has_a_range_of_its_own():
    with pytest.raises(Invalid, match="1M to 32G"):
        validate({"version": 1, "links": {"eth0": {"bandwidth": "64k"}}})
    assert validate({"version": 1, "links": {"eth0": {"bandwidth": "1G"}}}).links["eth0"].bandwidth == 10**9


@given(st.integers(64_000, 100_000_000_000))
def test_a_rate_in_words_is_the_same_rate(rate):
    words = rate_words(rate)
    assert farm(rate_in=int(words) if words.isdigit() else words).rate_in == rate


@pytest.mark.parametrize(("written", "value"), [(0, 0), (63, 63), ("ef", 46), ("AF41", 34), ("cs3", 24), ("be", 0)])
def test_dscp_values_have_names(written, value):
    assert farm(dscp_in=written).dscp_in == value
    assert farm(dscp_in=value) == farm(dscp_in=written)


@pytest.mark.parametrize("written", [-1, 64, "64", "gold", True, 3.0, "ef\n", 'ef"; flush ruleset'])
def test_what_is_no_dscp_is_told(written):
    words = "is not a DSCP value; write 0 to 63, or a name such as ef, af41 or cs3"
    assert faults(dscp_out=written) == {"/farms/web/dscp_out": words}


def test_a_document_says_them_as_numbers():
    config = validate({"version": 1, "farms": {"web": FARM | {"rate_in": "1M", "dscp_in": "ef"}}})
    assert b'"rate_in":1000000,' in canonical(config)
    assert (dscp_words(46), dscp_words(5)) == ("46 (EF)", "5")


def test_a_farm_knows_what_needs_every_packet():
    assert farm().packet_features() == ()
    assert farm(dscp_out=0, traffic_class="bulk").packet_features() == ("dscp_out", "traffic_class")
