# SPDX-License-Identifier: GPL-2.0-or-later
"""The form of a farm: everything that is typed is shown and kept, and the model says what it is."""

from gui_agent import FARM

from agent.model import Configuration

ASKED = {"retry_interval": None, "address": None, "invert": False}


def test_a_farm_is_created_with_everything_that_was_typed(browser, shared_agent):
    browser.open("/farms/new")
    browser.fill(
        {
            "name": "web",
            "addresses": "192.0.2.20, 192.0.2.21\n192.0.2.22",
            "ports": "80 8080,8443",
            "protocols": ["tcp", "udp"],
            "scheduler": "weighted",
            "forwarding": "snat",
            "offload": [],
            "checks-0-interval": "2.5",
            "checks-0-timeout": "1",
            "checks-0-fall": "4",
            "checks-0-rise": "5",
            "checks-0-port": "8000",
            "backends-0-name": " web1 ",
            "backends-0-address": " 10.0.0.1 ",
            "backends-0-port": "8080",
            "backends-0-weight": "3",
            "backends-0-max_connections": "500",
            "backends-1-name": "web2",
            "backends-1-address": "10.0.0.2",
            "backends-1-state": "drain",
            "backends-1-tier": "2",
            "minimum_active": "3",
            "on_failure": "cut",
            "when_down": "drop",
            "slow_start": "30",
            "drain_timeout": "86400",
            "rate_in": "20M",
            "rate_out": "1500000000",
            "dscp_in": "EF",
            "dscp_out": "10",
            "traffic_class": "bulk",
            "sorry_servers": " 10.0.0.9   8081 ",
            "comment": "The shop opens",
        },
        press="save",
    )
    assert browser.path == "/farms/web", browser.page.text
    current = shared_agent.client().farm("web")
    assert current.farm.model_dump(mode="json") == {
        "enabled": True,
        "addresses": ["192.0.2.20", "192.0.2.21", "192.0.2.22"],
        "protocols": ["tcp", "udp"],
        "ports": [80, 8080, 8443],
        "forwarding": "snat",
        "offload": False,
        "scheduler": "weighted",
        "hash_port": False,
        "hash_backends": 10,
        "hash_prefix4": 32,
        "hash_prefix6": 128,
        "persistence": "none",
        "flow_timeout": 900,
        "source_pool": [],
        "flow_timeout_udp": 120,
        "persistence_timeout": 300,
        "persistence_prefix4": 32,
        "persistence_prefix6": 128,
        "persistence_size": None,
        "persistence_static": {},
        "minimum_active": 3,
        "on_failure": "cut",
        "slow_start": 30,
        "drain_timeout": 86400,
        "when_down": "drop",
        "allow": [],
        "deny": [],
        "rate_in": 20_000_000,
        "rate_out": 1_500_000_000,
        "dscp_in": 46,
        "dscp_out": 10,
        "traffic_class": "bulk",
        "limit_rate": None,
        "limit_burst": 20,
        "limit_connections": None,
        "limit_prefix4": 32,
        "limit_prefix6": 64,
        "limit_action": "drop",
        "sorry_servers": [{"address": "10.0.0.9", "port": 8081}],
        "limit_resets": None,
        "strict_tcp": False,
        "log_prefix": None,
        "log_rate": 10,
        "checks": [{"type": "tcp", "interval": 2.5, "timeout": 1.0, "rise": 5, "fall": 4, "port": 8000} | ASKED],
        "backends": {
            "web1": {
                "address": "10.0.0.1",
                "port": 8080,
                "weight": 3,
                "tier": 1,
                "max_connections": 500,
                "state": "enabled",
            },
            "web2": {
                "address": "10.0.0.2",
                "port": None,
                "weight": 1,
                "tier": 2,
                "max_connections": None,
                "state": "drain",
            },
        },
    }
    made = shared_agent.client().snapshot(current.snapshot)
    assert (made.author, made.comment) == ("admin", "The shop opens")
    told = browser.page.one(class_="note note-good")
    assert "Farm web is created." in told.text
    assert told.one("a").attributes["href"] == f"/snapshots/{current.snapshot}"


def test_hashing_and_persistence_are_typed_shown_and_kept(browser, shared_agent):
    backends = {"a": {"address": "10.0.2.1"}, "b": {"address": "10.0.2.2"}}
    shared_agent.client().put_farm("sticky", FARM | {"addresses": ["192.0.2.31"], "backends": backends})
    page = browser.open("/farms/sticky/edit")
    assert "open" not in page.one(id="part-hash").attributes
    assert "open" not in page.one(id="part-persistence").attributes
    typed = {
        "scheduler": "source-hash",
        "hash_backends": "4",
        "hash_prefix4": "24",
        "hash_port": ["y"],
        "persistence": "address",
        "persistence_timeout": "1800",
        "persistence_prefix4": "28",
        "persistence_prefix6": "",
        "persistence_size": "5000",
        "persistence_static": "198.51.100.0/24 a\n203.0.113.7   b\n",
    }
    browser.fill(typed, press="save")
    assert browser.path == "/farms/sticky", browser.page.text
    farm = shared_agent.client().farm("sticky").farm.model_dump(mode="json")
    assert (farm["hash_prefix4"], farm["hash_prefix6"], farm["hash_port"]) == (24, 128, True)
    assert farm["hash_backends"] == 4
    assert (farm["persistence"], farm["persistence_timeout"], farm["persistence_size"]) == ("address", 1800, 5000)
    assert "at most 5000 of each IP family" in browser.page.text
    assert (farm["persistence_prefix4"], farm["persistence_prefix6"]) == (28, 128)
    assert farm["persistence_static"] == {"198.51.100.0/24": "a", "203.0.113.7/32": "b"}
    settings = browser.page.one(class_="facts").text
    assert "the first 24 bits of IPv4 addresses, and the source port; there is room for 4 backends" in settings
    assert "198.51.100.0/24 always to a" in settings
    assert "0 clients are remembered, at most 5000 of each IP family." in browser.open("/farms/sticky/clients").text
    page = browser.open("/farms/sticky/edit")
    assert "open" in page.one(id="part-hash").attributes
    assert "open" in page.one(id="part-persistence").attributes
    browser.fill({}, press="save")
    assert "Nothing was changed" in browser.page.text


def test_limits_are_typed_shown_and_kept(browser, shared_agent):
    shared_agent.client().put_farm("narrow", FARM | {"addresses": ["192.0.2.33"]})
    page = browser.open("/farms/narrow/edit")
    assert "open" not in page.one(id="part-limits").attributes
    typed = {"limit_rate": "50", "limit_burst": "", "limit_connections": "8", "limit_prefix4": "24"}
    typed |= {"limit_resets": "3", "strict_tcp": ["y"], "log_prefix": "443", "log_rate": "5"}
    browser.fill(typed | {"limit_action": "reject"}, press="save")
    assert browser.path == "/farms/narrow", browser.page.text
    farm = shared_agent.client().farm("narrow").farm
    assert (farm.limit_rate, farm.limit_burst, farm.limit_connections) == (50, 20, 8)
    assert (farm.limit_prefix4, farm.limit_prefix6, farm.limit_action) == (24, 64, "reject")
    assert (farm.limit_resets, farm.strict_tcp, farm.log_prefix, farm.log_rate) == (3, True, "443", 5)
    settings = browser.page.one(class_="facts").text
    assert "at most 5 lines of a kind a second" in settings
    assert "50 new connections a second after a burst of 20; 8 open connections" in settings
    assert "the first 24 bits of IPv4 are one source; beyond: reject" in settings
    assert "0 of sources that opened too many a second" in browser.page.one(class_="empty-line turned-away").text
    page = browser.open("/farms/narrow/edit")
    assert "open" in page.one(id="part-limits").attributes
    page = browser.fill({"limit_rate": "0", "limit_connections": "many"}, press="save")
    assert set(browser.faults()) == {"limit_rate", "limit_connections"}


def test_labels_help_and_ranges_come_from_the_model(browser):
    page = browser.open("/farms/new")
    schema = Configuration.model_json_schema()["$defs"]
    labels = {node.attributes["for"]: node.text for node in page.all("label") if "for" in node.attributes}
    for field in ("addresses", "ports"):
        assert labels[field] == schema["Farm"]["properties"][field]["title"]
    for field in ("interval", "timeout", "rise", "fall"):
        about = schema["TcpCheck"]["properties"][field]
        assert labels[f"checks-0-{field}"] == about["title"]
        assert page.one(id=f"checks-0-{field}").attributes["value"] == f"{about['default']:g}"
        help_text = page.one(id=f"checks-0-{field}-help").text
        assert about["description"] in help_text
        assert f"{about['minimum']:g} to {about['maximum']:g}" in help_text
    for field in ("scheduler", "forwarding", "on_failure", "when_down"):
        offered = [node.attributes["value"] for node in page.all("input", name=field)]
        assert offered == schema["Farm"]["properties"][field]["enum"]
    assert [node.attributes["value"] for node in page.one(id="backends-0-state").all("option")] == [
        "enabled",
        "drain",
        "disabled",
    ]
    assert "connections that it has are cut at once" in page.one(id="part-backends").text
