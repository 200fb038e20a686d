# SPDX-License-Identifier: GPL-2.0-or-later
"""Farms that are forwarded at ingress on the pages: the fields, and how backends are set up."""

from pathlib import Path

from webui.backend_setup import EXAMPLE, backend_setup

DOCS = Path(__file__).parents[2] / "docs/forwarding.md"


def test_a_direct_farm_is_made_and_its_page_says_how_backends_are_set_up(browser, shared_agent):
    page = browser.open("/farms/new")
    assert "open" not in page.one(id="part-flows").attributes
    assert "ip address add 192.0.2.10/32 dev lo" in page.one(id="part-flows").text, "before anything is typed"
    page = browser.fill(
        {"name": "straight", "addresses": "192.0.2.191", "ports": "80", "forwarding": "direct", "flow_timeout": "59"},
        press="save",
    )
    assert set(browser.faults()) == {"flow_timeout"}
    assert "open" in page.one(id="part-flows").attributes
    browser.fill({"flow_timeout": "", "persistence": "address", "limit_rate": "5"}, press="save")
    assert set(browser.faults()) == {"limit_rate"}, "its clients can be remembered, and not limited"
    page = browser.fill({"limit_rate": "", "flow_timeout": "600"}, press="save")
    assert browser.path == "/farms/straight"
    assert "ip address add 192.0.2.191/32 dev lo" in page.one(id="backend-setup").text
    assert "arp_ignore=1" in page.one(id="backend-setup").text
    assert "600 s; UDP 120 s" in page.text
    assert "Direct (layer 2)" in page.text
    kept = shared_agent.client().farm("straight").farm
    assert (kept.flow_timeout, kept.persistence) == (600, "address")
    assert "remembers nobody" not in browser.open("/farms/straight/clients").text


def test_a_tunnel_farm_says_how_the_ends_of_its_tunnels_are_set_up(browser, shared_agent):
    # Not enabled: the kernel that this runs on need not have tunnels.
    far = {"address": "198.51.100.1"}
    farm = {
        "addresses": ["192.0.2.194"],
        "ports": [80],
        "forwarding": "tunnel",
        "enabled": False,
        "backends": {"far": far},
    }
    shared_agent.client().put_farm("far", farm)
    page = browser.open("/farms/far")
    assert "Tunnel (layer 3)" in page.text
    told = page.one(id="backend-setup").text
    assert "ip link set tunl0 up" in told
    assert "ip address add 192.0.2.194/32 dev lo" in told
    assert "ip6tnl0" not in told
    form = browser.open("/farms/far/edit")
    assert "open" in form.one(id="part-flows").attributes
    assert "ip link set ip6tnl0 up" in form.one(id="part-flows").text
    browser.fill({"limit_rate": "5"}, press="save")
    assert "is not possible with" in browser.faults()["limit_rate"]


def test_a_stateless_farm_has_timeouts_and_needs_nothing_of_its_backends(browser, shared_agent):
    farm = {"addresses": ["192.0.2.193"], "ports": [80], "forwarding": "stateless", "flow_timeout": 300}
    shared_agent.client().put_farm("plainly", farm)
    page = browser.open("/farms/plainly")
    assert "300 s; UDP 120 s" in page.text
    assert "Stateless NAT" in page.text
    assert not page.all(id="backend-setup")
    assert "open" in browser.open("/farms/plainly/edit").one(id="part-flows").attributes


def test_other_farms_need_nothing_of_their_backends(browser, shared_agent):
    shared_agent.client().put_farm("usual", {"addresses": ["192.0.2.192"], "ports": [80]})
    assert not browser.open("/farms/usual").all(id="backend-setup")


def test_the_documentation_has_the_same_commands():
    text = DOCS.read_text(encoding="utf-8")
    commands = backend_setup("direct", EXAMPLE)
    assert commands == backend_setup("direct", [])
    assert len(commands) == 4
    assert all(f"    {command}\n" in text for command in commands)
    assert backend_setup("dnat", EXAMPLE) == []
    assert backend_setup("direct", ["2001:db8::1"]) == ["ip address add 2001:db8::1/128 dev lo"]
    tunnel = backend_setup("tunnel", [])
    assert tunnel[-4:] == commands
    assert "\n".join(f"    {command}" for command in tunnel) in text
