# SPDX-License-Identifier: GPL-2.0-or-later
"""Every fault of a farm is at its field, and nothing that was typed is lost."""

import pytest
from gui_agent import FARM
from gui_browser import fields


def test_faults_of_what_is_folded_away_unfold_it(browser):
    typed = {
        "name": "folded",
        "addresses": "192.0.2.41",
        "ports": "80",
        "hash_prefix4": "33",
        "persistence_timeout": "never",
        "persistence_static": "198.51.100.1/24 a\n203.0.113.7 nobody\n203.0.113.7 else",
    }
    page = browser.open("/farms/new")
    page = browser.fill(typed, press="save")
    faults = browser.faults()
    assert set(faults) == {"hash_prefix4", "persistence_timeout", "persistence_static"}
    assert "198.51.100.0/24" in faults["persistence_static"]
    assert "203.0.113.7 stands twice" in faults["persistence_static"]
    assert "open" in page.one(id="part-hash").attributes
    assert "open" in page.one(id="part-persistence").attributes
    assert page.one(id="persistence_static").text.split() == typed["persistence_static"].split()


def test_every_fault_is_at_its_field_and_the_input_is_kept(browser, shared_agent):
    before = shared_agent.client().farms().snapshot
    browser.open("/farms/new")
    typed = {
        "name": "faulty",
        "addresses": "192.0.2.40 nonsense",
        "ports": "80 70000 http",
        "checks-0-interval": "soon",
        "checks-0-rise": "0",
        "backends-0-name": "Web_1",
        "backends-0-address": "10.0.0.256",
        "backends-0-port": "x",
        "backends-0-weight": "257",
        "backends-1-name": "web2",
    }
    page = browser.fill(typed, press="save")
    assert browser.status == 422
    faults = browser.faults()
    assert set(faults) == {
        "addresses",
        "ports",
        "checks-0-interval",
        "checks-0-rise",
        "backends-0-name",
        "backends-0-address",
        "backends-0-port",
        "backends-0-weight",
        "backends-1-address",
    }
    assert "nonsense" in faults["addresses"]
    assert "70000" in faults["ports"]
    assert "http" in faults["ports"]
    assert "10.0.0.256" in faults["backends-0-address"]
    for name, value in typed.items():
        field = page.one(id=name)
        assert (field.text or field.attributes.get("value")) == value, name
    links = {node.attributes["href"].removeprefix("#") for node in page.one(id="faults").all("a")}
    assert links == set(faults), "the summary leads to each"
    assert shared_agent.client().farms().snapshot == before


def test_faults_that_only_the_agent_can_find_are_at_their_fields_too(browser, shared_agent):
    shared_agent.client().put_farm("holder", FARM | {"addresses": ["192.0.2.50"]})
    for name in ("aaa-clash", "zzz-clash"):
        browser.open("/farms/new")
        browser.fill({"name": name, "addresses": "192.0.2.50\n203.0.113.9", "ports": "80"}, press="save")
        assert browser.status == 422
        browser.fill({"addresses": "192.0.2.50"}, press="save")
        assert browser.status == 422, "it clashes with the other farm, whichever the agent tells it of"
        assert "holder" in browser.faults()["addresses"]
        browser.fill({"addresses": "203.0.113.9"}, press="save")
        assert "in no network of a link" in browser.faults()["addresses"]


def test_a_farm_without_name_and_with_other_faults_is_told_all(browser):
    browser.open("/farms/new")
    browser.fill({"name": "", "addresses": "", "ports": ""}, press="save")
    assert set(browser.faults()) == {"name", "addresses", "ports"}
    assert "valid name" in browser.faults()["name"]


@pytest.mark.parametrize("name", ["a/b", "../x", "Web", "-", "a" * 64, "new?x=1", "ü", "a b"])
def test_a_name_that_is_none_is_a_fault_of_the_name(browser, name):
    browser.open("/farms/new")
    browser.fill({"name": name, "addresses": "192.0.2.51", "ports": "80"}, press="save")
    assert browser.status == 422
    assert set(browser.faults()) == {"name"}


def test_creating_never_replaces_a_farm(browser, shared_agent):
    shared_agent.client().put_farm("there", FARM | {"addresses": ["192.0.2.52"]})
    before = shared_agent.client().farms()
    browser.open("/farms/new")
    browser.fill({"name": "there", "addresses": "192.0.2.53", "ports": "99999"}, press="save")
    assert set(browser.faults()) == {"name", "ports"}
    browser.fill({"ports": "80"}, press="save")
    assert browser.faults() == {"name": "there is the name of another farm; choose one that is free"}
    assert shared_agent.client().farms() == before


def test_two_backends_of_one_name_are_a_fault(browser):
    browser.open("/farms/new")
    two = {
        f"backends-{row}-{key}": value
        for row in (0, 1)
        for key, value in (("name", "b"), ("address", f"10.0.0.{row + 1}"))
    }
    browser.fill({"name": "twins", "addresses": "192.0.2.54", "ports": "80"} | two, press="save")
    assert browser.faults() == {"backends-1-name": "b is the name of another backend; each needs its own"}


def test_a_fault_of_two_fields_is_at_one_of_them(browser):
    browser.open("/farms/new")
    browser.fill(
        {
            "name": "mixed",
            "addresses": "192.0.2.55",
            "ports": "80",
            "protocols": ["udp"],
            "checks-0-timeout": "60",
            "backends-0-name": "six",
            "backends-0-address": "2001:db8::1",
            "backends-1-name": "self",
            "backends-1-address": "192.0.2.55",
        },
        press="save",
    )
    assert set(browser.faults()) == {"checks-0-timeout", "checks-0-port", "backends-0-address", "backends-1-address"}


def test_more_backends_than_a_farm_can_have_are_told_so(browser):
    browser.open("/farms/new")
    data = fields(browser.page.one("main").all("form")[-1])
    for name, value in (("name", "crowd"), ("addresses", "192.0.2.56"), ("ports", "80"), ("action", "save")):
        data[name] = value
    for row in range(257):
        data[f"backends-{row}-name"] = f"b{row}"
        data[f"backends-{row}-address"] = f"10.2.{row // 200}.{row % 200 + 1}"
    page = browser.post("/farms/new", data)
    assert browser.status == 422
    assert "Backends: has too many; at most 256" in page.one(id="faults").text
    data["backends-0-name"] = data["backends-0-address"] = ""
    browser.post("/farms/new", data)
    assert browser.path == "/farms/crowd", browser.page.one(id="faults").text
    assert len(browser.page.all("tr", data_health="unknown")) == 256
