# SPDX-License-Identifier: GPL-2.0-or-later
"""Claiming, provisioning and passwords."""

import re
import threading

import pytest
from access_world import HERE, PASSWORD, TOKEN, again, refused, rows

from agent.access import Access, AlreadyClaimed, Throttled, WeakPassword, WrongCode, WrongCredentials

# Claiming


def test_a_new_box_has_a_code_and_it_stays_the_same(memory_path, clock):
    access = Access.open(memory_path, clock=clock)
    code = access.claim_code
    assert re.fullmatch(r"[2-9A-HJ-NP-Z]{4}(-[2-9A-HJ-NP-Z]{4}){2}", code)
    assert not access.claimed
    assert access.claim_code == code
    access = again(access, memory_path, clock)
    assert access.claim_code == code
    access.close()


def test_two_boxes_have_different_codes(tmp_path, memory_path, unclaimed):
    other = Access.open(tmp_path)
    assert other.claim_code != unclaimed.claim_code
    other.close()


@pytest.mark.parametrize("way", [str, str.lower, lambda code: code.replace("-", ""), lambda code: f" {code} \n"])
def test_the_code_claims_the_box_once(unclaimed, way):
    code = unclaimed.claim_code
    session = unclaimed.claim(way(code), PASSWORD, HERE)
    assert unclaimed.authenticate(session.token).author == "admin"
    assert unclaimed.claimed
    assert unclaimed.claim_code is None
    with pytest.raises(AlreadyClaimed):
        unclaimed.claim(code, "another password", HERE)
    assert unclaimed.log_in("admin", PASSWORD, HERE).user == "admin"


@pytest.mark.parametrize("code", ["", "AAAA-AAAA-AAAA", "-", "\x00", "ä" * 12, "A" * 100_000, "\ud800"])
def test_a_wrong_code_claims_nothing(unclaimed, code):
    with pytest.raises(WrongCode):
        unclaimed.claim(code, PASSWORD, HERE)
    assert not unclaimed.claimed


def test_a_weak_password_does_not_use_up_the_code_or_count(unclaimed):
    code = unclaimed.claim_code
    for _ in range(50):
        with pytest.raises(WeakPassword):
            unclaimed.claim("AAAA-AAAA-AAAA", "short", HERE)
    assert unclaimed.claim(code, PASSWORD, HERE)


def test_two_claims_at_once_give_one_owner(unclaimed):
    code, outcomes = unclaimed.claim_code, []
    barrier = threading.Barrier(4)

    def claim(number):
        barrier.wait()
        try:
            unclaimed.claim(code, f"password of {number}", f"192.0.2.{number}")
            outcomes.append("claimed")
        except AlreadyClaimed:
            outcomes.append("too late")

    threads = [threading.Thread(target=claim, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["claimed", "too late", "too late", "too late"]
    assert rows(unclaimed, "SELECT count(*) FROM sessions") == [(1,)]


# Provisioning


def test_a_provisioned_password_claims_the_box(unclaimed):
    unclaimed.provision(password=PASSWORD)
    assert unclaimed.claimed
    assert unclaimed.claim_code is None
    assert unclaimed.log_in("admin", PASSWORD, HERE)
    assert unclaimed.troubles() == []


def test_a_provisioned_password_replaces_none(access):
    access.provision(password="another password")
    with pytest.raises(WrongCredentials):
        access.log_in("admin", "another password", HERE)
    assert access.log_in("admin", PASSWORD, HERE)


def test_a_provisioned_password_ends_the_claim_code(unclaimed):
    code = unclaimed.claim_code
    unclaimed.provision(password=PASSWORD)
    with pytest.raises(AlreadyClaimed):
        unclaimed.claim(code, "another password", HERE)


@pytest.mark.parametrize("password", ["", "short", "x" * 257, "\ud800" * 12])
def test_a_weak_provisioned_password_is_told_and_not_taken(unclaimed, password):
    unclaimed.provision(password=password)
    assert not unclaimed.claimed
    assert [trouble.code for trouble in unclaimed.troubles()] == ["provisioning-password"]
    assert unclaimed.claim_code


def test_a_provisioned_token_is_replaced_when_it_changes(unclaimed, clock):
    unclaimed.provision(api_token=TOKEN)
    first = rows(unclaimed, "SELECT name, digest, created FROM tokens")
    assert unclaimed.authenticate(TOKEN).author == "token provisioned"
    clock.go(hours=1)
    unclaimed.provision(api_token=TOKEN)
    assert rows(unclaimed, "SELECT name, digest, created FROM tokens") == first
    unclaimed.provision(api_token=TOKEN + "2")
    refused(unclaimed, TOKEN)
    assert unclaimed.authenticate(TOKEN + "2").kind == "token"
    unclaimed.provision()
    assert unclaimed.authenticate(TOKEN + "2")
    assert rows(unclaimed, "SELECT count(*) FROM tokens") == [(1,)]


@pytest.mark.parametrize("token", ["", "short", "x" * 513, "with spaces " * 3, "ä" * 30, "\x00" * 30])
def test_a_bad_provisioned_token_is_told_and_not_taken(unclaimed, token):
    unclaimed.provision(api_token=token)
    assert rows(unclaimed, "SELECT * FROM tokens") == []
    assert [trouble.code for trouble in unclaimed.troubles()] == ["provisioning-token"]
    unclaimed.provision(api_token=TOKEN)
    assert unclaimed.troubles() == []


# Passwords


@pytest.mark.parametrize(
    "password", ["0123456789", "x" * 256, "          ", "pa\x00ss\nword\x7f", "пароль-пароль", "🔑" * 10]
)
def test_any_characters_make_a_password(unclaimed, password):
    unclaimed.claim(unclaimed.claim_code, password, HERE)
    assert unclaimed.log_in("admin", password, HERE)
    with pytest.raises(WrongCredentials):
        unclaimed.log_in("admin", password + "x", HERE)


@pytest.mark.parametrize("password", ["", "123456789", "x" * 257, "🔑" * 65, "🔑" * 9, "\udc00" * 20, "x" * 10_000_000])
def test_a_password_has_a_sensible_length(unclaimed, password):
    with pytest.raises(WeakPassword):
        unclaimed.claim(unclaimed.claim_code, password, HERE)
    unclaimed.claim(unclaimed.claim_code, PASSWORD, HERE)
    with pytest.raises(WrongCredentials):
        unclaimed.log_in("admin", password, HERE)
    assert unclaimed.log_in("admin", PASSWORD, HERE)


def test_the_same_letters_typed_in_another_way_are_the_same_password(unclaimed):
    unclaimed.claim(unclaimed.claim_code, "g\u00fcnstiges W\u00e4gele", HERE)
    assert unclaimed.log_in("admin", "gu\u0308nstiges Wa\u0308gele", HERE)


def test_neither_password_nor_tokens_are_in_the_files(memory_path, access):
    access.provision(api_token=TOKEN)
    session = access.log_in("admin", PASSWORD, HERE)
    content = b"".join(path.read_bytes() for path in memory_path.iterdir())
    assert b"$argon2id$" in content
    for secret in (PASSWORD, TOKEN, session.token):
        assert secret.encode() not in content


def test_a_used_claim_code_is_gone_from_the_files(memory_path, unclaimed):
    code = unclaimed.claim_code
    unclaimed.claim(code, PASSWORD, HERE)
    unclaimed.close()
    assert all(code.encode() not in path.read_bytes() for path in memory_path.iterdir())


def test_the_files_are_for_their_owner_only(memory_path, access):
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in memory_path.iterdir()}
    assert set(modes) >= {"secrets.db"}
    assert set(modes.values()) == {"0o600"}


def test_a_hash_with_other_costs_is_made_anew_at_a_log_in(memory_path, clock, access, monkeypatch):
    monkeypatch.setattr("agent.access.passwords.TIME_COST", 2)
    access = again(access, memory_path, clock)
    assert access.log_in("admin", PASSWORD, HERE)
    access.close()
    content = b"".join(path.read_bytes() for path in memory_path.iterdir())
    assert b"$m=64,t=2,p=1$" in content
    assert b"$m=64,t=1,p=1$" not in content
    access = Access.open(memory_path, clock=clock)
    assert access.log_in("admin", PASSWORD, HERE)
    access.close()


def test_a_password_that_changes_while_it_is_checked_begins_no_session(access, monkeypatch):
    matches = access._passwords.matches

    def slow(hashed, password):
        result = matches(hashed, password)
        access._vault.change(lambda c: c.execute("UPDATE users SET hash = 'another'") and None)
        return result

    monkeypatch.setattr(access._passwords, "matches", slow)
    with pytest.raises(WrongCredentials):
        access.log_in("admin", PASSWORD, HERE)
    assert rows(access, "SELECT * FROM sessions") == []


@pytest.mark.parametrize("user", ["", "root", "Admin", "admin ", "admin\x00", "x" * 100_000, "\ud800"])
def test_only_the_administrator_logs_in(access, user):
    with pytest.raises(WrongCredentials):
        access.log_in(user, PASSWORD, HERE)


def test_nobody_logs_in_to_an_unclaimed_box(unclaimed):
    for password in ("", PASSWORD, unclaimed.claim_code):
        with pytest.raises(WrongCredentials):
            unclaimed.log_in("admin", password, HERE)


def test_a_hash_is_made_for_an_unknown_user_too(access, monkeypatch):
    verified = []
    hasher = type(access._passwords._hasher)
    verify = hasher.verify

    def counted(self, hashed, password):
        verified.append(hashed)
        return verify(self, hashed, password)

    monkeypatch.setattr(hasher, "verify", counted)
    for user in ("admin", "nobody"):
        with pytest.raises(WrongCredentials):
            access.log_in(user, "wrong password", HERE)
    known, unknown = verified
    assert known.rsplit("$", 2)[0] == unknown.rsplit("$", 2)[0]
    assert len(known) == len(unknown)


def test_hashes_wait_for_each_other_and_too_many_are_refused(access, monkeypatch):
    monkeypatch.setattr("agent.access.passwords.WAIT_S", 0.0)
    slots = access._passwords._slots
    assert slots.acquire(blocking=False)
    assert access.log_in("admin", PASSWORD, HERE)
    assert slots.acquire(blocking=False)
    with pytest.raises(Throttled):
        access.log_in("admin", PASSWORD, HERE)
    slots.release()
    slots.release()
