# SPDX-License-Identifier: GPL-2.0-or-later
"""The page that traces, and the preview of a change."""

import pytest
from flask import render_template
from gui_agent import PASSWORD
from gui_browser import Browser, parse

from agent.model import Farm
from agent.model.trace import Trace
from webui.trace import OUTCOMES, TraceForm, first_service

FARM = {"addresses": ["192.0.2.90"], "ports": [80], "backends": {"a": {"address": "192.0.2.91"}}}


@pytest.fixture
def client(shared_agent):
    client = shared_agent.client()
    client.put_farm("traced", FARM)
    return client


def test_a_trace_waits_for_packets_and_says_when_none_came(browser, client):
    before = client.farms().snapshot
    link = browser.open("/farms/traced").one("a", href="/farms/traced/trace")
    assert link.text == "Trace"
    page = browser.open("/farms/traced/trace")
    assert page.one(id="service").attributes["value"] == "192.0.2.90:80/tcp"
    assert page.one("nav").one("a", href="/farms").attributes["aria-current"] == "page"
    page = browser.fill({"client": " 192.0.2.7 ", "seconds": "1"})
    assert browser.status == 200
    words = page.one(id="result").text
    assert "No packet from 192.0.2.7 to 192.0.2.90:80/tcp arrived within 1 s." in words
    assert page.one(id="client").attributes["value"] == " 192.0.2.7 ", "to try again"
    assert client.farms().snapshot == before


def test_faults_stand_at_their_fields(browser, client):
    browser.open("/farms/traced/trace")
    browser.fill({"client": "nobody", "service": "192.0.2.90:80/gre", "seconds": "100"})
    assert browser.status == 422
    faults = browser.faults()
    assert faults.keys() == {"client", "service", "seconds"}
    assert "is not an IP address" in faults["client"]
    assert "has a port, which gre knows nothing of" in faults["service"]
    assert faults["seconds"] == "must be at most 60, not 100"
    browser.fill({"client": "", "service": "", "seconds": "soon"})
    assert browser.faults().keys() == {"client", "service", "seconds"}
    assert not browser.page.all(id="result")


def test_only_farms_are_traced_and_only_by_who_is_logged_in(browser, stranger):
    for path in ("/farms/nowhere/trace", "/farms/NO/trace"):
        browser.open(path)
        assert browser.status == 404
    stranger.open("/farms/traced/trace")
    assert stranger.path == "/login"


def test_without_an_agent_a_trace_says_so(fresh_agent, gui):
    fresh_agent.claimed().client().put_farm("web", FARM)
    browser = Browser(gui(fresh_agent))
    browser.log_in(PASSWORD)
    browser.open("/farms/web/trace")
    fresh_agent.kill()
    browser.fill({"client": "192.0.2.7"})
    assert browser.status == 503


def test_what_became_of_packets_is_told_in_words_and_steps(app):
    event = {
        "table": "inet sluice",
        "chain": "balance4",
        "kind": "rule",
        "handle": 7,
        "rule": "meta mark vmap @pickers",
        "verdict": "jump turn_2_0",
        "mark": 1,
        "packet": None,
        "link_in": None,
        "link_out": None,
    }
    packets = [
        {
            "packet": f"192.0.2.7:{4000 + number} > 192.0.2.90:80 TCP SYN",
            "direction": "answer" if number else "request",
            "outcome": outcome,
            "farm": "web",
            "backend": "a",
            "words": ["It came in by <front>.", "Dropped by `rule`."],
            "events": [event, event | {"rule": None}, event | {"rule": None, "handle": None, "kind": "policy"}],
        }
        for number, outcome in enumerate(OUTCOMES)
    ]
    trace = Trace.model_validate({"summary": "Much happened.", "packets": packets})
    with app.test_request_context("/farms/web/trace"):
        html = render_template("farms/trace.html", name="web", form=TraceForm(), top=[], trace=trace, outcomes=OUTCOMES)
    page = parse(html).one(id="result")
    assert "Much happened." in page.text
    articles = page.all("article")
    assert [article.attributes["data-outcome"] for article in articles] == list(OUTCOMES)
    first = articles[0]
    assert first.one("h3").text == "Forwarded Request 192.0.2.7:4000 > 192.0.2.90:80 TCP SYN"
    assert [node.text for node in first.all("li")] == ["It came in by <front>.", "Dropped by rule ."]
    assert first.one("pre").text.startswith("inet sluice balance4: meta mark vmap @pickers -> jump turn_2_0")
    assert "balance4: rule 7 -> jump" in first.one("pre").text


@pytest.mark.parametrize(
    ("settings", "service"),
    [
        ({}, "192.0.2.90:80/tcp"),
        ({"addresses": ["2001:db8::90"], "backends": {}}, "[2001:db8::90]:80/tcp"),
        ({"ports": ["8000-8099"], "protocols": ["udp", "tcp"]}, "192.0.2.90:8000/udp"),
        ({"ports": ["all"]}, "192.0.2.90"),
        ({"ports": ["all"], "protocols": ["all"]}, "192.0.2.90"),
    ],
)
def test_the_first_service_of_every_kind_of_farm(settings, service):
    assert first_service(Farm.model_validate(FARM | settings)) == service


def test_a_preview_shows_what_a_commit_would_change_and_changes_nothing(browser, client):
    before = client.farms().snapshot
    browser.open("/farms/traced/edit")
    page = browser.fill({"ports": "81", "comment": "later"}, press="preview")
    assert browser.status == 200
    preview = page.one(id="preview")
    assert [node.text for node in preview.all("del")] == ["80"]
    assert [node.text for node in preview.all("ins")] == ["81"]
    assert preview.one("summary").text == "In the kernel: 2 commands"
    kernel = preview.one("pre").text
    assert "delete element inet sluice services4 { 192.0.2.90 . tcp . 80 }" in kernel
    assert "add element inet sluice services4 { 192.0.2.90 . tcp . 81 : " in kernel
    assert client.farms().snapshot == before
    assert page.one(id="comment").attributes["value"] == "later"

    browser.fill({}, press="save")
    assert browser.path == "/farms/traced"
    assert str(client.farm("traced").farm.ports[0]) == "81"
    assert client.snapshots(limit=1).snapshots[0].comment == "later"


def test_a_preview_of_a_new_farm_of_no_change_and_of_faults(browser, client):
    browser.open("/farms/traced/edit")
    page = browser.fill({}, press="preview")
    assert "Nothing: the configuration in force is the same." in page.one(id="preview").text
    assert page.one(id="preview").one("summary").text == "In the kernel: nothing"

    browser.open("/farms/new")
    page = browser.fill({"name": "foreseen", "addresses": "192.0.2.92", "ports": "80"}, press="preview")
    assert "Farm foreseen" in page.one(id="preview").text
    assert "foreseen" not in client.farms().farms

    page = browser.fill({"ports": "0"}, press="preview")
    assert browser.status == 422
    assert "is out of range; ports are 1 to 65535" in browser.faults()["ports"]
    assert not page.all(id="preview")
