# SPDX-License-Identifier: GPL-2.0-or-later
"""Where documents name secrets, what is told when they are not there, and what certificates say."""

import contextlib
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from secret_world import Document, certificate, openssl

from agent.model import Configuration, Fault, Invalid, conform
from agent.model.certificate import read_certificate
from agent.model.secret import Reference, faults, references

NAMING = {
    "checks": [
        {"type": "mail", "password": "smtp"},
        {"type": "web", "certificate": "client", "authorities": "ours", "tokens": ["one", "two"]},
        {"type": "mail"},
    ],
    "alerts": {"night": {"type": "mail", "password": "smtp"}},
}


def test_every_place_that_names_a_secret_is_found():
    assert list(references(conform(Document, NAMING))) == [
        Reference("/checks/0/password", "smtp", "text"),
        Reference("/checks/1/certificate", "client", "certificate"),
        Reference("/checks/1/authorities", "ours", "authorities"),
        Reference("/checks/1/tokens/0", "one", "text"),
        Reference("/checks/1/tokens/1", "two", "text"),
        Reference("/alerts/night/password", "smtp", "text"),
    ]


def test_a_document_without_any_has_none():
    assert list(references(Document())) == []
    assert list(references(Configuration())) == []


def test_what_is_missing_or_of_another_kind_is_told_by_name_with_the_remedy():
    there = {"smtp": "text", "client": "text", "ours": "authorities", "one": "text"}
    found = list(faults(conform(Document, NAMING), there))
    assert found == [
        Fault(
            "/checks/1/certificate",
            "the secret client holds a text; name one that holds a certificate with its private key",
        ),
        Fault(
            "/checks/1/tokens/1",
            "there is no secret two that holds a text (there are: client, one, smtp); set it first, in the GUI under "
            "System, Secrets, or by `sluice secret set two`",
        ),
    ]


def test_a_remedy_does_not_list_hundreds_of_names():
    there = dict.fromkeys((f"name-{number}" for number in range(300)), "text")
    words = [fault.message for fault in faults(conform(Document, NAMING), there)]
    assert all(len(each) < 300 for each in words)
    assert ", ...)" in words[0]


def test_the_remedy_says_the_kind_to_set():
    found = list(faults(conform(Document, {"checks": [{"type": "web", "certificate": "client"}]}), {}))
    assert "there are: none" in found[0].message
    assert "`sluice secret set client --kind certificate`" in found[0].message


@pytest.mark.parametrize("value", ["Hunter2!", "two words", "", "x" * 64, "-a", "pässword"])
def test_a_value_where_a_name_belongs_is_refused_and_not_repeated(value):
    with pytest.raises(Invalid) as refused:
        conform(Document, {"alerts": {"night": {"type": "mail", "password": value}}})
    assert [fault.pointer for fault in refused.value.faults] == ["/alerts/night/password"]
    assert not value or value not in str(refused.value)


# Certificates


def der(pem: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem)


@pytest.mark.parametrize("key", ["ec", "ed", "2048"])
@pytest.mark.parametrize(
    ("subject", "names", "told", "listed"),
    [
        ("/CN=lb1.example.net/O=Example", "", "CN=lb1.example.net, O=Example", ()),
        ("/C=DE/ST=B/L=Köln/O=Ü, \"x\"/OU=a-b/CN=ü", "", "C=DE, ST=B, L=Köln, O=Ü, \"x\", OU=a-b, CN=ü", ()),
        ("/CN=a", "DNS:a.example,IP:192.0.2.1,IP:2001:db8::1,email:x@example.net,URI:https://a/,otherName:1.2.3;UTF8:x",
         "CN=a", ("a.example", "192.0.2.1", "2001:db8::1", "x@example.net", "https://a/")),
        ("/", "DNS:only", "", ("only",)),
        ("/DC=net/UID=7/emailAddress=a@b/serialNumber=3", "", "DC=net, UID=7, emailAddress=a@b", ()),
        ("/CN=two\n\x1b[31mlines", "", "CN=two  [31mlines", ()),
    ],
)  # fmt: skip
def test_a_certificate_says_whose_it_is_and_when_it_ends(key, subject, names, told, listed):
    pem, _ = certificate(subject, key, 30, names)
    found = read_certificate(der(pem))
    assert (found.subject, found.names) == (told, listed)
    for line, moment in zip(
        openssl("x509", "-noout", "-dates", given=pem).splitlines(), (found.begins, found.ends), strict=True
    ):
        assert line.split("=")[1].replace("  ", " ") == f"{moment:%b} {moment.day} {moment:%H:%M:%S %Y} GMT"


def test_far_dates_are_read():
    ends = read_certificate(der(certificate(days=20_000)[0])).ends
    assert ends.date() == (datetime.now(UTC) + timedelta(days=20_000)).date()


@given(st.binary(max_size=200))
def test_rubbish_is_no_certificate(data):
    with pytest.raises(ValueError, match="no certificate"):
        read_certificate(data)


@given(st.data())
def test_a_damaged_certificate_is_read_or_refused(data):
    whole = bytearray(der(certificate()[0]))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(1, len(whole)))])
    with contextlib.suppress(ValueError):
        found = read_certificate(cut)
        assert (found.subject + "".join(found.names)).isprintable()
