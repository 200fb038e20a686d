# SPDX-License-Identifier: GPL-2.0-or-later
"""The appliance's links on the pages: seen, set up, changed, judged, left alone."""

from collections.abc import Callable

import pytest
from flask import Flask
from gui_agent import PASSWORD, Agent
from gui_browser import Browser


@pytest.fixture
def alone(fresh_agent: Agent, gui: Callable[[Agent], Flask]) -> Browser:
    """A browser at an appliance of its own: where links are configured, farms are held to their networks."""
    browser = Browser(gui(fresh_agent.claimed()))
    browser.log_in(PASSWORD)
    return browser


def test_a_link_is_set_up_from_the_system_page_changed_and_taken_out(alone, fresh_agent):
    client = fresh_agent.client()
    page = alone.open("/system")
    assert "not configured" in page.one(id="link/eth0").text
    assert "None is configured: the first Ethernet link uses DHCP." in page.text
    page = alone.open(page.one(id="link/eth0").all("a")[-1].attributes["href"])
    assert alone.path == "/system/links/eth0"
    assert "You can lock yourself out" in page.one(id="lock-out").text
    assert "Begin with the link that you come in by." in page.one(id="first").text
    assert "checked" in page.one(id="dhcp").attributes, "what has an address has it by DHCP"
    assert "Has now: 192.0.2.1/24" in page.text
    assert page.one("nav").one(aria_current="page").text == "System"
    typed = {"addresses": "192.0.2.1/24, 2001:db8::1/64", "gateways": "192.0.2.254", "bandwidth": "20M"}
    page = alone.fill(typed | {"comment": "A line of its own"})
    assert alone.path == "/system", page.text
    assert "Link eth0 is set up." in page.text
    assert "DHCP, fixed, gateway 192.0.2.254, 20Mbit/s" in page.one(id="link/eth0").text
    link = client.links().links["eth0"]
    assert (link.dhcp, [*map(str, link.addresses)]) == (True, ["192.0.2.1/24", "2001:db8::1/64"])
    assert ([*map(str, link.gateways)], link.bandwidth) == (["192.0.2.254"], 20_000_000)
    assert "A line of its own" in alone.open("/snapshots").text
    # It is there again, as it was typed, and may be left as it is.
    page = alone.open("/system/links/eth0")
    assert not page.all(id="first")
    assert page.one(id="bandwidth").attributes["value"] == "20M"
    assert "Nothing was changed" in alone.fill({}).text
    alone.open("/system/links/eth0")
    assert "Link eth0 is changed." in alone.fill({"bandwidth": "", "gateways": ""}).text
    assert client.links().links["eth0"].bandwidth is None
    # Out of the configuration.
    page = alone.open("/system/links/eth0/delete")
    assert "The link gives up what DHCP gave it." in page.text
    assert "It is the last one of the configuration: then the first Ethernet link uses DHCP." in page.text
    assert "Link eth0 is deleted." in alone.fill({}).text
    assert client.links().links == {}


def test_every_fault_stands_at_its_field(alone):
    alone.open("/system/links/eth0")
    typed = {"addresses": "192.0.2.1/24 192.0.2.0/24 nonsense", "gateways": "127.0.0.1", "bandwidth": "fast"}
    page = alone.fill(typed)
    faults = alone.faults()
    assert set(faults) == {"addresses", "gateways", "bandwidth"}
    assert '"192.0.2.0/24" is the network or broadcast address of its network' in faults["addresses"]
    assert '"nonsense" is not an address with its prefix length' in faults["addresses"]
    assert "127.0.0.1" in faults["gateways"]
    assert "is not a rate" in faults["bandwidth"]
    assert page.one(id="addresses").text == typed["addresses"], "what was typed stays"
    alone.fill({"addresses": "192.0.2.1/24 192.0.2.1/25", "gateways": "203.0.113.1", "bandwidth": ""})
    faults = alone.faults()
    assert "192.0.2.1 is already an address of link eth0" in faults["addresses"]
    assert "203.0.113.1 is in no network of the link" in faults["gateways"]
    alone.fill({"addresses": "192.0.2.1/24", "gateways": "", "bandwidth": "1k"})
    assert "is out of range; write 1M to 32G" in alone.faults()["bandwidth"]


def test_what_a_farm_needs_of_a_link_is_told_by_the_farms_name(alone, fresh_agent):
    client = fresh_agent.client()
    farm = {"addresses": ["192.0.2.10"], "ports": [80], "backends": {"a": {"address": "192.0.2.21"}}}
    links = {"eth0": {"addresses": ["192.0.2.1/24"]}, "eth9": {"addresses": ["198.51.100.1/24"]}}
    client.commit({"version": 1, "farms": {"web": farm}, "links": links})
    page = alone.open("/system")
    assert "Not there" in page.one(id="link/eth9").text, "a link that is only configured is seen as well"
    alone.open("/system/links/eth0")
    page = alone.fill({"addresses": "203.0.113.1/24"})
    assert "farms web addresses 0: 192.0.2.10 is in no network of a link" in page.one(id="faults").text
    page = alone.open("/system/links/eth0/delete")
    assert "The link loses 192.0.2.1/24" in page.text
    assert "Farm web needs it: 192.0.2.10 is in no network of a link" in alone.fill({}).text
    alone.open("/system/links/eth9/delete")
    assert "Link eth9 is deleted." in alone.fill({}).text
    # Whoever was faster is told of, and what was typed stays.
    alone.open("/system/links/eth0")
    client.put_link("eth0", {"addresses": ["192.0.2.1/24"], "bandwidth": "50M"})
    page = alone.fill({"bandwidth": "60M"})
    assert "Somebody changed the configuration meanwhile." in page.text
    alone.fill({})
    assert client.links().links["eth0"].bandwidth == 60_000_000


def test_the_page_knows_by_which_link_it_is_seen(app, granted):
    for host, told in (("sluice.test", False), ("192.0.2.1", True), ("192.0.2.1:8443", True), ("192.0.2.2", False)):
        client, base = app.test_client(), f"https://{host}"
        with client.session_transaction(base_url=base) as session:
            session.update(token=granted.token, user=granted.user)
        page = client.get("/system/links/eth0", base_url=base).text
        assert "You can lock yourself out" in page
        assert ("You have come to 192.0.2.1, an address of this link." in page) == told


def test_what_is_no_links_name_is_not_there(browser):
    for path in ("/system/links/Eth0", "/system/links/-", "/system/links/eth0%20/delete"):
        browser.open(path)
        assert browser.status == 404, path
