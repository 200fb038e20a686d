# SPDX-License-Identifier: GPL-2.0-or-later
"""Ends of life on the pages: what is folded away, and what is said of sorry servers and drains."""

from gui_agent import FARM


def test_what_few_farms_need_is_folded_away_until_it_says_something(browser, shared_agent):
    page = browser.open("/farms/new")
    assert "open" not in page.one(id="part-more").attributes
    page = browser.fill({"name": "tucked", "addresses": "192.0.2.64", "ports": "80", "when_down": "drop"}, press="save")
    assert browser.path == "/farms/tucked"
    assert "they get no answer at all" in page.text.lower()
    assert "clients get no answer" in page.text, "it has no backends"
    assert "open" in browser.open("/farms/tucked/edit").one(id="part-more").attributes
    page = browser.fill({"when_down": "nonsense"}, press="save")
    assert set(browser.faults()) == {"when_down"}
    assert "open" in page.one(id="part-more").attributes
    page = browser.fill({"when_down": "reject", "scheduler": "priority", "minimum_active": "2"}, press="save")
    assert "by which one backend takes all" in browser.faults()["minimum_active"]
    typed = {"minimum_active": "", "sorry_servers": "2001:db8::1 x", "drain_timeout": "soon"}
    browser.fill(typed, press="save")
    assert set(browser.faults()) == {"sorry_servers", "drain_timeout"}
    assert "port of 2001:db8::1: must be" in browser.faults()["sorry_servers"]
    page = browser.fill({"sorry_servers": "10.0.0.8\n2001:db8::1", "drain_timeout": ""}, press="save")
    assert "2001:db8::1 is IPv6, and no virtual address" in browser.faults()["sorry_servers"]
    assert "use a server of the farm's family" in browser.faults()["sorry_servers"]
    browser.fill({"sorry_servers": ""}, press="save")
    assert browser.path == "/farms/tucked", "an empty field is the default"


def test_the_page_of_a_farm_says_that_the_sorry_server_answers(browser, shared_agent):
    client = shared_agent.client()
    farm = FARM | {"addresses": ["192.0.2.65"], "sorry_servers": [{"address": "10.0.0.9", "port": 8080}]}
    client.put_farm("sorry", farm | {"backends": {"a": {"address": "10.0.0.1", "state": "disabled"}}})
    told = browser.open("/farms/sorry").one(class_="empty-line sorry")
    assert "Sorry server 10.0.0.9:8080 answers: no backend takes connections." in told.text
    assert browser.page.one("article").attributes["data-status"] == "down"
    assert browser.page.one(data_backend="a").one(class_="word").text == "Disabled"
    client.put_farm("sorry", farm | {"backends": {"a": {"address": "10.0.0.1"}}})
    assert not browser.open("/farms/sorry").all(class_="empty-line sorry")
    assert "10.0.0.9:8080" in browser.page.text, "among the settings"
    client.put_farm("sorry", farm)
    assert "No backends: clients get the sorry server." in browser.open("/farms/sorry").text


def test_a_farm_of_both_families_has_a_sorry_server_for_each(browser, shared_agent):
    client = shared_agent.client()
    client.put_farm("both", FARM | {"addresses": ["192.0.2.67", "2001:db8::67"], "enabled": False})
    browser.open("/farms/both/edit")
    browser.fill({"sorry_servers": "10.0.0.9:8080\n[2001:db8:1::9]:8080\n"}, press="save")
    assert browser.path == "/farms/both", browser.page.text
    kept = [{"address": "10.0.0.9", "port": 8080}, {"address": "2001:db8:1::9", "port": 8080}]
    assert client.farm("both").farm.model_dump(mode="json")["sorry_servers"] == kept
    assert "10.0.0.9:8080 [2001:db8:1::9]:8080" in browser.page.text
    page = browser.open("/farms/both/edit")
    assert page.one(id="sorry_servers").text == "10.0.0.9 8080 2001:db8:1::9 8080", "a line each"
    browser.fill({"sorry_servers": "10.0.0.9\n10.0.0.8"}, press="save")
    assert "second IPv4 sorry server" in browser.faults()["sorry_servers"]
    browser.fill({"sorry_servers": "10.0.0.9 8080\n2001:db8:1::9 8080"}, press="save")
    assert "Nothing was changed" in browser.page.text


def test_the_page_of_a_farm_says_when_what_is_left_of_a_drain_is_cut(browser, shared_agent):
    farm = FARM | {"addresses": ["192.0.2.66"], "drain_timeout": 3600}
    shared_agent.client().put_farm("drained", farm | {"backends": {"a": {"address": "10.0.0.1", "state": "drain"}}})
    ends = shared_agent.client().state().farms["drained"].backends["a"].drain_ends
    assert ends is not None
    told = browser.open("/farms/drained").one(id="farm/drained/a/drain").text
    assert told == f"a 0 connections left; what is left of them at {ends:%Y-%m-%d %H:%M:%S} UTC is cut"
