# SPDX-License-Identifier: GPL-2.0-or-later
"""Secrets by name: what is taken, what is kept where, and who gets it."""

import shutil
import sqlite3
import ssl

import mounts
import pytest
from access_world import HERE, Clock, rows
from secret_world import certificate, openssl

from agent.access import Access, NoSuchSecret, UnfitSecret
from agent.access.named import MAX_SECRETS
from agent.model.secret import SecretMissing
from agent.storage import StoreFull, StoreReadOnly

VALUE = "hush-hush-9f31"


def put(access, name, kind, value):
    return access.named.put(name, kind, value, actor="admin", source=HERE)


def pair(**how):
    made, key = certificate(**how)
    return made + key


def test_a_text_is_set_read_replaced_and_erased(access, clock):
    assert put(access, "smtp", "text", VALUE)
    assert access.named.text("smtp") == VALUE
    assert access.named.kinds == {"smtp": "text"}
    clock.go(hours=1)
    assert not put(access, "smtp", "text", "another")
    assert access.named.text("smtp") == "another"
    assert access.named.described()["smtp"].changed == clock.now
    clock.go(hours=1)
    assert not put(access, "smtp", "text", "another")  # changes nothing, and leaves no record
    access.named.delete("smtp", actor="admin", source=HERE)
    assert access.named.kinds == {}
    with pytest.raises(NoSuchSecret):
        access.named.delete("smtp", actor="admin", source=HERE)
    log = rows(access, "SELECT actor, source, action, detail FROM audit ORDER BY number")[-3:]
    assert log == [
        ("admin", HERE, "create secret", "smtp: a text"),
        ("admin", HERE, "replace secret", "smtp: a text"),
        ("admin", HERE, "delete secret", "smtp"),
    ]


@pytest.mark.parametrize("kind", ["text", "certificate", "authorities"])
def test_what_is_missing_or_of_another_kind_is_a_reason(access, kind):
    put(access, "other", "text" if kind != "text" else "authorities", VALUE if kind != "text" else certificate()[0])
    ask = {
        "text": access.named.text,
        "certificate": lambda name: access.named.load_certificate(name, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)),
        "authorities": access.named.authorities,
    }[kind]
    for name in ("other", "none"):
        with pytest.raises(SecretMissing, match=rf"the secret {name} .* is missing; set it"):
            ask(name)


@pytest.mark.parametrize("key", ["ec", "ed", "2048"])
def test_a_certificate_identifies_a_tls_client_to_a_server_that_trusts_its_authority(access, key):
    made, secret = certificate(key=key)
    text = f"Bag Attributes\r\n  friendlyName: x\r\n{secret}\r\n{made}".replace("\n", "\r\n")
    put(access, "client", "certificate", text)
    put(access, "ours", "authorities", "# Example CA\n" + made)
    (found,) = access.named.described()["client"].certificates
    assert found.subject == "CN=lb1.example.net, O=Example"
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(cadata=access.named.authorities("ours"))
    access.named.load_certificate("client", client)
    access.named.load_certificate("client", server)
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(cadata=access.named.authorities("ours"))
    here, there = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [server.wrap_bio(here, there, server_side=True), client.wrap_bio(there, here)]
    for end in [*ends[::-1], *ends, *ends[::-1]]:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert dict(part for parts in ends[0].getpeercert()["subject"] for part in parts)["organizationName"] == "Example"


def test_a_chain_is_kept_and_its_own_certificate_comes_first(access):
    leaf, key = certificate()
    above, other = certificate("/CN=above")
    put(access, "client", "certificate", leaf + above + key)
    assert [each.subject for each in access.named.described()["client"].certificates][1] == "CN=above"
    with pytest.raises(UnfitSecret, match=r"does not belong to the certificate; .* must be the first"):
        put(access, "client", "certificate", above + leaf + key)
    with pytest.raises(UnfitSecret, match="does not belong"):
        put(access, "client", "certificate", leaf + other)
    with pytest.raises(UnfitSecret, match="does not belong"):
        put(access, "client", "certificate", leaf + certificate(key="2048")[1])


def test_an_old_form_of_keys_is_taken(access):
    made, key = certificate(key="2048")
    put(access, "client", "certificate", made + openssl("rsa", "-traditional", given=key))


def locked():
    made, key = certificate()
    return made + openssl("pkcs8", "-topk8", "-passout", "pass:" + VALUE, given=key)


def locked_of_old():
    made, key = certificate(key="2048")
    return made + openssl("rsa", "-traditional", "-aes128", "-passout", "pass:" + VALUE, given=key)


def short(pem):
    return pem[: len(pem) // 2] + pem[len(pem) // 2 + 40 :]


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("text", lambda: "", "is empty"),
        ("text", lambda: VALUE * 400, "longer than 4096 characters"),
        ("text", lambda: VALUE + "\n", "control character"),
        ("text", lambda: VALUE + "\x00", "control character"),
        ("text", lambda: VALUE + "\ud800", "control character"),
        ("certificate", lambda: VALUE, "no certificates and no private keys"),
        ("certificate", lambda: certificate()[0], "1 certificate and no private keys"),
        ("certificate", lambda: certificate()[1], "no certificates and 1 private key;"),
        ("certificate", lambda: pair() + certificate()[1], "1 certificate and 2 private keys"),
        ("certificate", lambda: certificate()[0] * 11 + certificate()[1], "11 certificates; a chain has 10 at most"),
        ("certificate", locked, "is encrypted; decrypt it first: openssl pkey"),
        ("certificate", locked_of_old, "is encrypted; decrypt it first: openssl pkey"),
        ("certificate", lambda: pair()[:-30], "is cut off"),
        ("certificate", lambda: short(certificate()[0]) + certificate()[1], "cannot be read"),
        ("certificate", lambda: certificate()[0] + short(certificate()[1]), "OpenSSL does not take it"),
        ("certificate", lambda: pair(key="1024"), "OpenSSL does not take it: ee key too small"),
        ("certificate", lambda: pair() + openssl("pkey", "-pubout", given=certificate()[1]), "neither"),
        ("certificate", lambda: pair() + " " * 65536, "longer than 65536 characters"),
        ("authorities", lambda: "", "has no certificate in it"),
        ("authorities", pair, "has a private key in it"),
        ("authorities", lambda: short(certificate()[0]), "cannot be read"),
        ("authorities", lambda: certificate()[0] + "-----BEGIN CERTIFICATE-----\n" * 2, "is cut off"),
        ("authorities", lambda: "-----BEGIN A-----\n" * 10_000, "is cut off"),
        ("authorities", lambda: "x" * 262_145, "longer than 262144 characters"),
    ],
)
def test_what_cannot_be_a_secret_is_refused_and_never_repeated(access, kind, value, words):
    with pytest.raises(UnfitSecret, match=words) as refused:
        put(access, "bad", kind, value())
    assert VALUE not in str(refused.value)
    assert access.named.kinds == {}


def test_there_are_bounds_for_all_together(access):
    for number in range(MAX_SECRETS):
        put(access, f"n{number}", "text", VALUE)
    with pytest.raises(UnfitSecret, match="256 secrets, the most"):
        put(access, "more", "text", VALUE)
    assert not put(access, "n0", "text", "replaced")
    bundle = certificate()[0] * 300
    fitting = 4_194_304 // len(bundle)
    for number in range(fitting):
        put(access, f"n{number}", "authorities", bundle)
    with pytest.raises(UnfitSecret, match="4194304 characters at most"):
        put(access, "n255", "authorities", bundle)


# On the disk


def test_it_is_in_the_one_file_of_its_owner_and_outlives_restarts(memory_path):
    access = Access.open(memory_path)
    put(access, "smtp", "text", VALUE)
    access.close()
    assert {path.name for path in memory_path.iterdir()} == {"secrets.db"}
    assert (memory_path / "secrets.db").stat().st_mode & 0o777 == 0o600
    access = Access.open(memory_path)
    assert access.named.text("smtp") == VALUE
    access.named.delete("smtp", actor="admin", source=HERE)
    access.close()
    assert VALUE.encode() not in (memory_path / "secrets.db").read_bytes()


def test_a_database_of_earlier_firmware_gets_its_table_and_keeps_the_password(access, memory_path, clock):
    access.close()
    with sqlite3.connect(memory_path / "secrets.db") as old:
        old.execute("DROP TABLE named")
    old.close()
    again = Access.open(memory_path, clock=clock)
    assert again.claimed
    assert again.named.kinds == {}
    put(again, "smtp", "text", VALUE)
    assert again.named.text("smtp") == VALUE
    again.close()


def test_a_kind_of_newer_firmware_is_left_alone(access, memory_path, clock):
    put(access, "smtp", "text", VALUE)
    access.close()
    with sqlite3.connect(memory_path / "secrets.db") as newer:
        newer.execute("INSERT INTO named VALUES ('new', 'of tomorrow', 'x', 0)")
    newer.close()
    again = Access.open(memory_path, clock=clock)
    assert again.named.kinds == {"smtp": "text"}
    assert rows(again, "SELECT count(*) FROM named") == [(2,)]
    again.close()


def test_damage_is_told_and_the_box_begins_without_secrets(access, memory_path, clock):
    put(access, "smtp", "text", VALUE)
    access.close()
    (memory_path / "secrets.db").write_bytes(b"not a database" * 1000)
    again = Access.open(memory_path, clock=clock)
    (trouble,) = again.troubles()
    assert trouble.code == "secrets-damaged"
    assert "secrets" in trouble.message
    assert again.named.kinds == {}
    again.close()


@pytest.mark.parametrize("old", [False, True])
def test_on_a_disk_that_cannot_be_written_what_is_there_is_read_and_nothing_is_set(access, memory_path, old):
    put(access, "smtp", "text", VALUE)
    access.close()
    if old:
        with sqlite3.connect(memory_path / "secrets.db") as database:
            database.execute("DROP TABLE named")
        database.close()

    def work():
        mounts.read_only(memory_path)
        again = Access.open(memory_path)
        assert again.claimed
        assert again.named.kinds == ({} if old else {"smtp": "text"})
        with pytest.raises(StoreReadOnly):
            put(again, "other", "text", VALUE)
        if not old:
            with pytest.raises(StoreReadOnly):
                again.named.delete("smtp", actor="admin", source=HERE)
            assert again.named.text("smtp") == VALUE
        assert "other" not in again.named.kinds
        again.provision(named={"given": ("text", VALUE)})
        assert [trouble.code for trouble in again.troubles()] == ["secrets-read-only", "provisioning-secret"]
        again.close()

    mounts.apart(work)


def test_on_a_full_disk_a_secret_is_refused_and_the_old_value_stays(access, memory_path):
    put(access, "smtp", "text", VALUE)
    access.close()

    def work():
        place = memory_path / "mount"
        place.mkdir()
        mounts.small(place, 1024)
        shutil.copy(memory_path / "secrets.db", place)
        again = Access.open(place, clock=Clock())
        filler = mounts.fill(place)
        large = certificate()[0] * 300
        with pytest.raises(StoreFull):
            put(again, "large", "authorities", large)
        assert again.named.kinds == {"smtp": "text"}
        filler.unlink()
        mounts.fill(place, leave=600)
        put(again, "smtp", "text", "new")
        assert again.named.text("smtp") == "new"
        again.close()
        again = Access.open(place, clock=Clock())
        assert again.named.text("smtp") == "new"
        again.close()

    mounts.apart(work)


# Provisioned


def test_a_credential_sets_and_replaces_what_it_names_and_nothing_else(access):
    put(access, "smtp", "text", "old")
    put(access, "kept", "text", VALUE)
    given = {"smtp": ("text", "new"), "bad": ("certificate", VALUE), "ours": ("authorities", certificate()[0])}
    access.provision(named=given)
    assert access.named.text("smtp") == "new"
    assert access.named.kinds == {"kept": "text", "ours": "authorities", "smtp": "text"}
    (trouble,) = access.troubles()
    assert trouble.code == "provisioning-secret"
    assert "bad: the value has no certificates and no private keys" in trouble.message
    assert VALUE not in trouble.message
    records = rows(access, "SELECT count(*) FROM audit")
    access.provision(named={"smtp": ("text", "new")})
    assert rows(access, "SELECT count(*) FROM audit") == records
    assert access.troubles() == []
