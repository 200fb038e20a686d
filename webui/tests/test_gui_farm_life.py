# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows come and go; a farm is changed by two, looked at and deleted."""

from gui_agent import FARM
from gui_browser import Browser, fields

from agent.model import PortRange


def rows(browser: Browser) -> list[dict[str, str]]:
    """The rows of backends on the page."""
    data = fields(browser.page.one("main").all("form")[-1])
    indices = sorted({int(key.split("-")[1]) for key in data if key.startswith("backends-")})
    return [{key: data[f"backends-{index}-{key}"] for key in ("name", "address", "port")} for index in indices]


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
    browser.fill({"check_kind": "icmp"}, press="add-check")
    assert [node.text for node in browser.page.one(id="part-checks").all("legend")] == ["TCP connection", "ICMP echo"]
    browser.fill({}, press="remove-check:1")
    browser.fill({}, press="remove-check:0")
    assert "every backend counts as well" in browser.page.text
    assert browser.page.one(id="name").attributes["value"] == "growing"
    browser.post("/farms/new", fields(browser.page.one("main").all("form")[-1]) | {"action": "no-such"})
    assert browser.status == 400


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
