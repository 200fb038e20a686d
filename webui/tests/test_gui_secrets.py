# SPDX-License-Identifier: GPL-2.0-or-later
"""Secrets on the pages: set, replaced, deleted, and never shown."""

from datetime import UTC, datetime, timedelta

from agent.client import Client
from agent.model.answers import SecretInfo
from agent.tests.secret_world import certificate

VALUE = "hush-hush-9f31"


def test_a_text_is_set_replaced_and_deleted(browser, shared_agent):
    assert "There are no secrets yet" in browser.open("/system/secrets").text
    browser.open("/system")
    assert browser.page.one("a", href="/system/secrets")
    page = browser.open("/system/secrets/new/text")
    assert page.one(id="line").attributes["type"] == "password"
    page = browser.fill({"name": "smtp", "line": VALUE})
    assert browser.path == "/system/secrets", page.text
    assert "Secret smtp is set." in page.text
    row = page.one("tr", data_secret="smtp")
    assert row.one("td", data_label="Kind").text == "Text"
    assert row.one("td", data_label="Named by").text == "none"
    browser.open("/system/secrets/edit/smtp")
    page = browser.fill({"line": "another"})
    assert "Secret smtp is replaced." in page.text
    page = browser.open("/system/secrets/delete/smtp")
    assert "The configuration in force does not name it." in page.text
    page = browser.fill({})
    assert "Secret smtp is deleted." in page.text
    assert shared_agent.client().secrets() == {}
    assert browser.open("/system/secrets/edit/smtp") is not None
    assert browser.status == 404


def test_certificates_are_pasted_and_what_they_say_is_shown(browser, shared_agent):
    made, key = certificate(days=10)
    browser.open("/system/secrets/new/certificate")
    page = browser.fill({"name": "client", "pem": made + key})
    assert browser.path == "/system/secrets", page.text
    row = page.one("tr", data_secret="client")
    assert row.one("td", data_label="Certificate").text == "CN=lb1.example.net, O=Example"
    assert row.one("td", data_label="Expires").all("span", class_="sign tone-warn")
    page = browser.open("/system/secrets/edit/client")
    assert "CN=lb1.example.net, O=Example" in page.text
    assert "PRIVATE" not in page.text
    browser.open("/system/secrets/new/authorities")
    page = browser.fill({"name": "ours", "pem": made + certificate("/CN=b", days=90)[0]})
    assert page.one("tr", data_secret="ours").one("td", data_label="Certificate").text == "2 certificates"
    for name in ("client", "ours"):
        shared_agent.client().delete_secret(name)


def test_faults_stand_at_their_fields_and_no_page_has_what_was_typed(browser, shared_agent):
    made, key = certificate()
    _, other = certificate("/CN=other")
    browser.open("/system/secrets/new/certificate")
    page = browser.fill({"name": "Wrong", "pem": VALUE})
    assert list(browser.faults()) == ["name"]
    assert VALUE not in page.text
    browser.fill({"name": "client", "pem": ""})
    assert browser.faults() == {"pem": "Nothing was typed."}
    page = browser.fill({"name": "client", "pem": made + other})
    assert "does not belong to the certificate" in browser.faults()["pem"]
    assert page.one(id="pem").text == ""
    assert page.one(id="name").attributes["value"] == "client"
    browser.fill({"pem": made + key})
    browser.open("/system/secrets/new/text")
    page = browser.fill({"name": "client", "line": VALUE})
    assert "is the name of another secret" in browser.faults()["name"]
    shared_agent.client().delete_secret("client")
    browser.open("/system/secrets/new/other")
    assert browser.status == 404


def test_what_names_a_secret_is_told_before_it_is_deleted(browser, shared_agent, monkeypatch):
    client = shared_agent.client()
    client.put_secret("smtp", "text", VALUE)
    now = datetime.now(UTC)
    expired = {"subject": "", "names": ["a.example"], "begins": now - timedelta(9), "ends": now - timedelta(1)}
    uses = ["/farms/web/checks/0/password", "/alerts/night/password"]
    told = SecretInfo(kind="text", changed=now, used_by=uses, certificates=[])
    dead = SecretInfo(kind="certificate", changed=now, used_by=[], certificates=[expired])
    # No field of the document names a secret yet, so the agent cannot be brought to say this.
    monkeypatch.setattr(Client, "secrets", lambda _: {"dead": dead, "smtp": told})
    page = browser.open("/system/secrets")
    row = page.one("tr", data_secret="smtp")
    assert row.one("td", data_label="Named by").text == "Farm web Checks, alerts night password"
    assert "Expired" in page.one("tr", data_secret="dead").one("td", data_label="Expires").text
    page = browser.open("/system/secrets/delete/smtp")
    assert "fails from then on" in page.text
    assert page.one("button", class_="btn btn-danger").text == "Delete smtp all the same"
    browser.fill({})
    monkeypatch.undo()
    assert client.secrets() == {}
