# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots: list, one, differences in words, rollback."""

import json

from gui_browser import Browser

from agent.model import Change
from webui.changes import lines, summary

FARM = {"addresses": ["192.0.2.70"], "ports": [80]}


def changed_farm(client, name: str, address: str) -> list[int]:
    """Snapshots that create a farm, change it, and delete it."""
    farm = FARM | {"addresses": [address]}
    numbers = [client.put_farm(name, farm, comment=f"{name} comes").number]
    numbers.append(client.put_farm(name, farm | {"ports": [80, 81], "scheduler": "weighted"}, comment="more").number)
    numbers.append(client.delete_farm(name, comment=f"{name} goes").number)
    return numbers


def test_the_list_says_who_did_what_and_why(browser, shared_agent):
    numbers = changed_farm(shared_agent.client(), "listed", "192.0.2.70")
    page = browser.open("/snapshots")
    told = [page.one("tr", data_snapshot=str(number)) for number in numbers]
    assert "Farm listed added listed comes" in told[0].text
    assert "Farm listed changed more" in told[1].text
    assert "Farm listed removed listed goes" in told[2].text
    assert "In force" in told[2].text
    assert "Roll back" in told[0].text
    assert [row.one("td", data_label="Author").text for row in told] == ["admin"] * 3


def test_old_snapshots_are_on_further_pages(browser, shared_agent):
    client = shared_agent.client()
    while (newest := client.snapshots(limit=1).snapshots[0].number) < 30:
        client.put_farm("paged", FARM | {"addresses": ["192.0.2.71"], "ports": [newest + 1000]})
    seen: list[int] = []
    page = browser.open("/snapshots")
    while True:
        seen += [int(node.attributes["data-snapshot"]) for node in page.all("tr") if "data-snapshot" in node.attributes]
        older = page.all("a", rel="next")
        if not older:
            break
        page = browser.open(older[0].attributes["href"])
    assert seen == [info.number for info in client.snapshots(limit=500).snapshots]
    assert "The first snapshot" in page.text


def test_a_snapshot_shows_what_it_changed_and_what_going_back_would_change(browser, shared_agent):
    numbers = changed_farm(shared_agent.client(), "shown", "192.0.2.72")
    page = browser.open(f"/snapshots/{numbers[1]}")
    changed = page.one("section", aria_labelledby="changed")
    assert [
        (row.one("th").text, row.one("del").text, row.one("ins").text) for row in changed.one("tbody").all("tr")
    ] == [
        ("Ports", "80", "80, 81"),
        ("Scheduler", "Round robin", "Weighted"),
    ]
    back = page.one("section", aria_labelledby="back")
    assert {row.attributes["data-kind"] for row in back.one("tbody").all("tr")} == {"added"}
    assert '"shown"' in page.one("pre").text
    first = browser.open("/snapshots/1")
    assert "nothing: it is the first" in first.text


def test_the_document_can_be_downloaded(browser, shared_agent):
    answer = browser.raw("GET", "/snapshots/1/document.json")
    assert json.loads(answer.data)["version"] == 1
    assert answer.headers["Content-Disposition"] == 'attachment; filename="sluice-1.json"'


def test_rollback_and_rollback_of_the_rollback(browser, shared_agent):
    client = shared_agent.client()
    before = client.farms().snapshot
    client.put_farm("there-and-back", FARM | {"addresses": ["192.0.2.73"]})

    page = browser.open(f"/snapshots/{before}/rollback")
    assert "Farm there-and-back" in page.text
    browser.fill({"comment": "too early"})
    assert browser.path == "/snapshots"
    assert "there-and-back" not in client.farms().farms
    made = client.snapshots(limit=1).snapshots[0]
    assert (made.comment, made.author) == ("too early", "admin")
    told = browser.page.one(class_="note note-good")
    assert f"Snapshot {before} is in force again. This made snapshot {made.number}" in told.text

    browser.open(f"/snapshots/{made.parent}/rollback")
    browser.fill({})
    assert "there-and-back" in client.farms().farms


def test_a_rollback_that_somebody_overtook_shows_what_it_changes_now(app, granted, shared_agent):
    client = shared_agent.client()
    number = client.farms().snapshot
    client.put_farm("first", FARM | {"addresses": ["192.0.2.74"]})
    browser = Browser(app)
    browser.resume(granted)
    browser.open(f"/snapshots/{number}/rollback")
    client.put_farm("second", FARM | {"addresses": ["192.0.2.75"]})
    page = browser.fill({})
    assert browser.status == 409
    assert "Farm second" in page.text
    assert {"first", "second"} <= set(client.farms().farms)
    browser.fill({})
    assert not {"first", "second"} & set(client.farms().farms)


def test_changes_in_words():
    changes = [
        Change("/farms/web/backends/a/weight", "changed", 1, 3),
        Change(
            "/farms/web/backends/b",
            "added",
            None,
            {"address": "2001:db8::2", "port": 80, "weight": 1, "state": "drain"},
        ),
        Change(
            "/farms/web/checks",
            "changed",
            [],
            [{"type": "tcp", "interval": 5.0, "timeout": 2.0, "rise": 2, "fall": 3, "port": None}],
        ),
        Change("/farms/web/enabled", "changed", True, False),
        Change("/links/eth0", "removed", {"dhcp": True, "addresses": []}, None),
        Change("/system/hostname", "changed", "a", "b"),
        Change("/farms/web/sorry_servers", "changed", [], [{"address": "192.0.2.9", "port": 81}]),
        Change("/farms/new", "added", None, {"sorry_servers": [{"address": "192.0.2.9", "port": None}]}),
        Change("/farms/web/novel", "changed", {"x": 1.5}, None),
    ]
    check = "TCP connection every 5 s, timeout 2 s; out after 3 failed, back after 2 good"
    told = [(line.subject, line.field, line.kind, line.before, line.after) for line in lines(changes)]
    assert told == [
        ("Farm web", "Backend a · Weight", "changed", "1", "3"),
        ("Farm web", "Backend b", "added", "", "[2001:db8::2]:80, weight 1, drain"),
        ("Farm web", "Checks", "changed", "none", check),
        ("Farm web", "Enabled", "changed", "yes", "no"),
        ("Link eth0", "DHCP", "removed", "yes", ""),
        ("System", "Host name", "changed", "a", "b"),
        ("Farm web", "Sorry servers", "changed", "none", "192.0.2.9:81"),
        ("Farm new", "Sorry servers", "added", "", "192.0.2.9"),
        ("Farm web", "novel", "changed", "x 1.5", "default"),
    ]
    assert summary(changes) == "Farm web changed, Link eth0 removed, System changed, and 1 more"
    many = [Change(f"/farms/f{i}", "added", None, {}) for i in range(5)]
    assert summary(many) == "Farm f0 added, Farm f1 added, Farm f2 added, and 2 more"
    assert summary([]) == "Nothing changed"
