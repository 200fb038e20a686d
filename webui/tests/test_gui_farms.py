# SPDX-License-Identifier: GPL-2.0-or-later
"""Farms: create, edit, delete, with every fault at its field and nothing that was typed lost."""

import pytest
from gui_browser import Browser, fields

from agent.model import Configuration, PortRange

FARM = {"addresses": ["192.0.2.10"], "ports": [80]}


def rows(browser: Browser) -> list[dict[str, str]]:
    """The rows of backends on the page."""
    data = fields(browser.page.one("main").all("form")[-1])
    indices = sorted({int(key.split("-")[1]) for key in data if key.startswith("backends-")})
    return [{key: data[f"backends-{index}-{key}"] for key in ("name", "address", "port")} for index in indices]


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
        "scheduler": "weighted",
        "hash_port": False,
        "hash_prefix4": 32,
        "hash_prefix6": 128,
        "persistence": "none",
        "flow_timeout": 900,
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
        "checks": [{"type": "tcp", "interval": 2.5, "timeout": 1.0, "rise": 5, "fall": 4, "port": 8000}],
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


def test_a_form_that_nobody_touched_changes_nothing(browser, shared_agent):
    client = shared_agent.client()
    check = {"type": "tcp", "interval": 0.7, "timeout": 0.3, "rise": 1, "fall": 100, "port": 53}
    farm = FARM | {
        "addresses": ["192.0.2.30"],
        "protocols": ["udp"],
        "enabled": False,
        "checks": [check, check | {"port": 54, "interval": 3600}],
        "backends": {f"b{i}": {"address": f"10.1.0.{i}", "weight": i, "port": 1000 + i} for i in range(1, 60)},
    }
    client.put_farm("untouched", farm)
    before = client.farms()
    browser.open("/farms/untouched/edit")
    browser.fill({}, press="save")
    assert browser.path == "/farms/untouched", browser.page.text
    assert "Nothing was changed" in browser.page.text
    after = client.farms()
    assert after.farms["untouched"] == before.farms["untouched"]
    assert after.snapshot == before.snapshot


def test_hashing_and_persistence_are_typed_shown_and_kept(browser, shared_agent):
    backends = {"a": {"address": "10.0.2.1"}, "b": {"address": "10.0.2.2"}}
    shared_agent.client().put_farm("sticky", FARM | {"addresses": ["192.0.2.31"], "backends": backends})
    page = browser.open("/farms/sticky/edit")
    assert "open" not in page.one(id="part-hash").attributes
    assert "open" not in page.one(id="part-persistence").attributes
    typed = {
        "scheduler": "source-hash",
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
    assert (farm["persistence"], farm["persistence_timeout"], farm["persistence_size"]) == ("address", 1800, 5000)
    assert "at most 5000 of each IP family" in browser.page.text
    assert (farm["persistence_prefix4"], farm["persistence_prefix6"]) == (28, 128)
    assert farm["persistence_static"] == {"198.51.100.0/24": "a", "203.0.113.7/32": "b"}
    settings = browser.page.one(class_="facts").text
    assert "the first 24 bits of IPv4 addresses, and the source port" in settings
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


def test_remembered_clients_have_a_page(browser, shared_agent):
    backends = {"a": {"address": "10.0.2.1"}, "b": {"address": "10.0.2.2"}}
    farm = FARM | {"addresses": ["192.0.2.32"], "backends": backends}
    client = shared_agent.client()
    client.put_farm("fans", farm)
    assert "remembers nobody" in browser.open("/farms/fans/clients").text
    client.put_farm("fans", farm | {"persistence": "address"})
    assert browser.open("/farms/fans").one(class_="facts").all("a", href="/farms/fans/clients")
    page = browser.open("/farms/fans/clients")
    assert "Nobody is remembered now" in page.text
    page = browser.open("/farms/fans/clients?client=198.51.100.0/24&backend=b")
    assert "Nobody like that" in page.text
    assert page.one(id="client").attributes["value"] == "198.51.100.0/24"
    page = browser.open("/farms/fans/clients?client=nonsense")
    assert browser.status == 400
    assert "must be an address" in page.text
    browser.open("/farms/fans/clients?backend=nobody")
    assert browser.status == 404
    browser.open("/farms/nothing/clients")
    assert browser.status == 404


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


def test_rows_come_and_go_without_losing_what_was_typed(browser):
    browser.open("/farms/new")
    assert len(rows(browser)) == 2
    browser.fill({"name": "growing", "backends-0-name": "a", "backends-1-name": "b"}, press="add-backend")
    assert browser.status == 200
    assert [row["name"] for row in rows(browser)] == ["a", "b", ""]
    added = next(node for node in browser.page.walk() if "autofocus" in node.attributes)
    assert added.attributes["id"] == "backends-2-name"
    browser.fill({"backends-2-name": "c", "backends-2-address": "nonsense"}, press="remove-backend:1")
    assert [row["name"] for row in rows(browser)] == ["a", "c"]
    assert browser.faults() == {}, "nothing is judged before it is committed"
    browser.fill({}, press="add-backend")
    assert [row["name"] for row in rows(browser)] == ["a", "c", ""]
    browser.fill({}, press="add-check")
    browser.fill({"checks-1-port": "25"}, press="remove-check:0")
    assert browser.page.one(id="checks-1-port").attributes["value"] == "25"
    assert not browser.page.all(id="checks-0-port")
    browser.fill({}, press="remove-check:1")
    assert "every backend counts as well" in browser.page.text
    assert browser.page.one(id="name").attributes["value"] == "growing"
    browser.post("/farms/new", fields(browser.page.one("main").all("form")[-1]) | {"action": "no-such"})
    assert browser.status == 400


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


def test_what_changed_meanwhile_is_shown_and_the_form_goes_on_top_of_it(app, granted, shared_agent):
    client = shared_agent.client()
    client.put_farm("contested", FARM | {"addresses": ["192.0.2.60"]})
    mine, theirs = Browser(app), Browser(app)
    for browser in (mine, theirs):
        browser.resume(granted)
        browser.open("/farms/contested/edit")
    theirs.fill({"ports": "81", "comment": "theirs"}, press="save")
    assert theirs.path == "/farms/contested"

    page = mine.fill({"scheduler": "weighted", "comment": "mine"}, press="save")
    assert mine.status == 409
    conflict = page.one(id="conflict")
    assert "changed while you edited" in conflict.text
    assert [node.text for node in conflict.all("del")] == ["80"]
    assert [node.text for node in conflict.all("ins")] == ["81"]
    assert client.farm("contested").farm.ports == [PortRange(81, 81)], "nothing of mine is in force"

    mine.fill({}, press="save")
    assert mine.path == "/farms/contested"
    farm = client.farm("contested").farm
    assert (farm.scheduler, farm.ports) == ("weighted", [PortRange(80, 80)])
    assert client.snapshots(limit=1).snapshots[0].comment == "mine"


def test_a_farm_is_deleted_after_a_page_that_says_what_it_does(browser, shared_agent):
    client = shared_agent.client()
    client.put_farm("doomed", FARM | {"addresses": ["192.0.2.61"], "backends": {"b": {"address": "10.0.0.9"}}})
    page = browser.open("/farms/doomed/delete")
    number = client.farms().snapshot
    assert "New connections to 192.0.2.61 TCP 80 are refused" in page.text
    assert f"Roll back to snapshot {number}" in page.text

    client.put_farm("bystander", FARM | {"addresses": ["192.0.2.62"]})
    page = browser.fill({"comment": "away"})
    assert browser.status == 409
    assert "Somebody changed the configuration meanwhile" in page.text
    assert "doomed" in client.farms().farms

    browser.fill({"comment": "away"})
    assert browser.path == "/farms"
    assert "doomed" not in client.farms().farms
    assert client.snapshots(limit=1).snapshots[0].comment == "away"
    browser.open("/farms/doomed/delete")
    assert browser.status == 404


def test_a_farm_may_be_named_new(browser, shared_agent):
    browser.open("/farms/new")
    browser.fill({"name": "new", "addresses": "192.0.2.63", "ports": "80"}, press="save")
    assert browser.path == "/farms/new/show"
    assert browser.page.one("h1").text == "new"
    listed = browser.open("/farms").one("tr", data_farm="new")
    browser.open(listed.one("th").one("a").attributes["href"])
    assert browser.page.one("h1").text == "new"
    shared_agent.client().delete_farm("new")


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
