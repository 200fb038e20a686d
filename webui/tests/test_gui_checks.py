# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks in the farm's form: every kind has its own fields, whatever fields it has."""

from typing import Literal

import pytest
from flask import get_template_attribute
from gui_browser import fields as fields_of
from gui_browser import parse
from pydantic import ConfigDict, Field
from werkzeug.datastructures import MultiDict

from agent.model import CHECKS, Check
from agent.model.types import Name
from agent.tests.secret_world import certificate
from webui import check_form, describe, fields


class Strange(Check):
    """A kind with a field of every sort."""

    model_config = ConfigDict(title="Strange")
    type: Literal["strange"]
    path: str = Field(default="/", title="Path", description="What is asked for.")
    body: str | None = Field(default=None, title="Body", description="Sent.", json_schema_extra={"rows": 3})
    days: int = Field(default=14, ge=0, le=999, title="Days", description="Left.", json_schema_extra={"unit": "d"})
    method: Literal["GET", "HEAD"] = Field(default="GET", title="Method", description="Of the request.")
    mode: Literal["each", "one"] = Field(default="each", title="Mode", description="`each`: each of them. `one`: any.")
    verify: bool = Field(default=True, title="Verify", description="Whether the chain counts.")
    statuses: list[str] = Field(default=["200"], title="Statuses", description="That are well.")
    headers: dict[str, str] = Field(default_factory=dict, title="Headers", description="Sent.")
    password: Name | None = Field(default=None, title="Password", description="Name of a secret.")


SAID = {
    "type": "strange",
    "path": "/health",
    "body": "one\ntwo",
    "days": 7,
    "method": "HEAD",
    "mode": "one",
    "verify": False,
    "statuses": ["200-299", "301"],
    "headers": {"Host": "www.example.com"},
    "password": "probe",
    "interval": 0.5,
    "timeout": 0.25,
    "rise": 3,
    "fall": 4,
    "retry_interval": 0.3,
    "address": "192.0.2.9",
    "invert": True,
}


@pytest.fixture
def strange(monkeypatch):
    """The kind's form, as if it were one of ours."""
    schema = {"$defs": {"Strange": Strange.model_json_schema()}}
    monkeypatch.setattr(describe, "_schema", lambda: schema)
    monkeypatch.setitem(CHECKS, "strange", Strange)
    monkeypatch.setitem(check_form.KINDS, "strange", "Strange")
    return check_form._form(Strange)


def typed(form):
    """What a browser sends for a form."""
    found = MultiDict()
    for field in form:
        if field.data is not False:
            found.add(field.name, "y" if field.data is True else field.data)
    return found


def test_a_field_of_every_sort_goes_there_and_back(strange):
    check = Strange.model_validate(SAID)
    shown = strange(**{"type": "strange"} | fields.shown(strange, check))
    content = strange(typed(shown)).content()
    assert content == SAID
    assert Strange.model_validate(content) == check


def test_what_is_left_alone_is_what_the_model_says(strange):
    content = strange(typed(strange(type="strange"))).content()
    assert Strange.model_validate(content) == Strange(type="strange")


def test_own_fields_come_first_and_each_is_drawn_as_what_it_is(strange, app):
    form = strange(type="strange")
    assert [field.short_name for field in form.drawn][:9] == list(SAID)[1:10]
    form.statuses.errors = ["is wrong"]
    with app.test_request_context():
        draw = get_template_attribute("components/field.html", "any")
        page = parse("".join(draw(field, describe.words("Strange", field.short_name)) for field in form.drawn))
    assert page.one("input", id="path").attributes["value"] == "/"
    assert page.one("textarea", id="body").attributes["rows"] == "3"
    assert page.one("input", id="days").attributes["inputmode"] == "decimal"
    assert page.one(id="days-help").text == "Left. 0 to 999 d."
    assert [option.text for option in page.one("select", id="method").all("option")] == ["GET", "HEAD"]
    assert page.one(id="method-help").text == "Of the request."
    assert page.one(id="mode").text == "Mode each Each of them. one Any."
    assert page.one("input", id="verify").attributes["role"] == "switch"
    assert page.one("textarea", id="statuses").text == "200"
    assert page.one(id="statuses-faults").text == "is wrong"
    assert page.one("textarea", id="headers").text == ""
    assert page.one("input", id="password").attributes["value"] == ""


def test_a_check_in_words_says_what_its_kind_has_and_differs(strange):
    words = check_form.check_words(SAID)
    assert words.startswith("Strange, address 192.0.2.9, body one")
    assert words.endswith("every 0.5 s, timeout 0.25 s; out after 4 failed, back after 3 good")
    assert "days 7 d" in words
    assert "inverted" in words
    assert "verify no" in words
    assert "statuses 200-299, 301" in words
    plain = check_form.check_words(Strange(type="strange").model_dump(mode="json"))
    assert plain == "Strange every 5 s, timeout 2 s; out after 3 failed, back after 2 good"


def test_faults_are_at_the_fields_of_their_kind_and_the_input_is_kept(browser):
    browser.open("/farms/new")
    browser.fill({"name": "pinged", "addresses": "192.0.2.90", "ports": "80"}, press="remove-check:0")
    browser.fill({"check_kind": "icmp"}, press="add-check")
    page = browser.fill({"checks-0-interval": "1", "checks-0-timeout": "never", "checks-0-fall": "0"}, press="save")
    assert set(browser.faults()) == {"checks-0-timeout", "checks-0-fall"}
    assert page.one(id="checks-0-timeout").attributes["value"] == "never"
    assert page.one(id="part-checks").one("legend").text == "ICMP echo"
    assert not page.all(id="checks-0-port")


def test_a_farm_is_pinged(browser, shared_agent):
    browser.open("/farms/new")
    browser.fill({"name": "pinged", "addresses": "192.0.2.90", "ports": "80"}, press="remove-check:0")
    browser.fill({"check_kind": "icmp"}, press="add-check")
    page = browser.fill({"checks-0-interval": "30"}, press="save")
    assert browser.path == "/farms/pinged", page.text
    assert "ICMP echo every 30 s, timeout 2 s; out after 3 failed, back after 2 good" in page.text
    assert [check.type for check in shared_agent.client().farm("pinged").farm.checks] == ["icmp"]
    assert "ICMP echo" in browser.open("/farms").text
    shared_agent.client().delete_farm("pinged")


def test_the_secrets_of_the_kind_that_is_wanted_are_offered(browser, shared_agent):
    client = shared_agent.client()
    pem, key = certificate()
    for name, kind, value in (("ca", "authorities", pem), ("own", "certificate", pem + key), ("word", "text", "x")):
        client.put_secret(name, kind, value)
    browser.open("/farms/new")
    browser.fill({"name": "shaken", "addresses": "192.0.2.91", "ports": "443"}, press="remove-check:0")
    page = browser.fill({"check_kind": "tls"}, press="add-check")
    for field, name in (("authorities", "ca"), ("certificate", "own")):
        listed = page.one("input", id=f"checks-0-{field}").attributes["list"]
        assert [option.attributes["value"] for option in page.one("datalist", id=listed).all("option")] == [name]
    assert "list" not in page.one("input", id="checks-0-server_name").attributes
    browser.fill({"checks-0-authorities": "gone"}, press="save")
    assert "there is no secret gone that holds CA certificates" in browser.faults()["checks-0-authorities"]
    page = browser.fill({"checks-0-authorities": "ca", "checks-0-fail_days": "3"}, press="save")
    assert "TLS handshake, authorities ca, fail 3 days every 5 s" in page.text
    client.delete_farm("shaken")
    for name in ("ca", "own", "word"):
        client.delete_secret(name)


def test_a_kind_that_there_is_not_is_taken_for_the_first(browser):
    browser.open("/farms/new")
    browser.fill({}, press="remove-check:0")
    page = browser.page
    sent = fields_of(page.one("main").all("form")[-1]) | {"action": "add-check", "check_kind": "../nagios"}
    page = browser.post("/farms/new", sent)
    assert page.one(id="part-checks").one("legend").text == "TCP connection"


def test_a_name_that_forms_have_for_something_else_is_refused(strange):
    class Clash(Check):
        type: Literal["clash"] = "clash"
        data: str = "x"

    with pytest.raises(LookupError, match="data"):
        check_form._form(Clash)
