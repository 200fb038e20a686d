# SPDX-License-Identifier: GPL-2.0-or-later
"""Ends of life on the pages: what is folded away, and what is said of sorry servers and drains."""

FARM = {"addresses": ["192.0.2.10"], "ports": [80]}


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
    browser.fill(
        {"minimum_active": "", "sorry_address": "2001:db8::1", "sorry_port": "x", "drain_timeout": "soon"}, press="save"
    )
    assert set(browser.faults()) == {"sorry_port", "drain_timeout"}
    page = browser.fill({"sorry_port": "", "drain_timeout": ""}, press="save")
    assert "use a server of the farm's family" in browser.faults()["sorry_address"]
    browser.fill({"sorry_address": ""}, press="save")
    assert browser.path == "/farms/tucked", "an empty field is the default"


def test_the_page_of_a_farm_says_that_the_sorry_server_answers(browser, shared_agent):
    client = shared_agent.client()
    farm = FARM | {"addresses": ["192.0.2.65"], "sorry_server": {"address": "10.0.0.9", "port": 8080}}
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


def test_the_page_of_a_farm_says_when_what_is_left_of_a_drain_is_cut(browser, shared_agent):
    farm = FARM | {"addresses": ["192.0.2.66"], "drain_timeout": 3600}
    shared_agent.client().put_farm("drained", farm | {"backends": {"a": {"address": "10.0.0.1", "state": "drain"}}})
    ends = shared_agent.client().state().farms["drained"].backends["a"].drain_ends
    assert ends is not None
    told = browser.open("/farms/drained").one(id="farm/drained/a/drain").text
    assert told == f"a 0 connections left; what is left of them at {ends:%Y-%m-%d %H:%M:%S} UTC is cut"
