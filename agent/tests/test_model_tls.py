# SPDX-License-Identifier: GPL-2.0-or-later
"""What TLS and HTTPS checks may say."""

import pytest
from documents import document, faults

from agent.model import HttpsCheck, TlsCheck, validate
from agent.model.secret import references

SAID = {
    "authorities": "company-ca",
    "server_name": "WWW.example.com",
    "certificate": "client",
    "warn_days": 30,
    "fail_days": 30,
}


@pytest.mark.parametrize("kind", ["tls", "https"])
def test_everything_can_be_said(kind):
    config = validate(document(web={"checks": [{"type": kind} | SAID]}))
    (check,) = config.farms["web"].checks
    assert check.model_dump(mode="json").items() >= SAID.items()
    assert {(each.pointer.rpartition("/")[2], each.name, each.kind) for each in references(config)} == {
        ("authorities", "company-ca", "authorities"),
        ("certificate", "client", "certificate"),
    }


@pytest.mark.parametrize("kind", ["tls", "https"])
@pytest.mark.parametrize(
    ("fields", "place", "words"),
    [
        ({"authorities": "-----BEGIN CERTIFICATE-----"}, "authorities", "never its value"),
        ({"certificate": "A"}, "certificate", "is no name of a secret"),
        ({"server_name": "a b"}, "server_name", "www.example.com"),
        ({"server_name": "https://a"}, "server_name", "neither a host name nor an address"),
        ({"server_name": ""}, "server_name", "neither"),
        ({"warn_days": -1}, "warn_days", "0"),
        ({"warn_days": 3651}, "warn_days", "3650"),
        ({"fail_days": 15}, "fail_days", "15 days is more than the 14 of `warn_days`"),
        ({"timeout": 9.0}, "timeout", "interval"),
    ],
)
def test_what_cannot_be_is_told_at_its_field(kind, fields, place, words):
    ((found, told),) = faults(document(web={"checks": [{"type": kind} | fields]}))
    assert found == f"/farms/web/checks/0/{place}"
    assert words in told


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("www.example.com:8443", "www.example.com"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        (None, None),
    ],
)
def test_the_name_that_is_asked_for_is_that_of_the_site(host, name):
    assert HttpsCheck(type="https", host=host).asked_name == name
    assert HttpsCheck(type="https", host=host, server_name="a").asked_name == "a"
    assert TlsCheck(type="tls", server_name="::1").asked_name == "::1"
