# SPDX-License-Identifier: GPL-2.0-or-later
"""The TLS check against openssl's server, with good and bad certificates."""

import asyncio
from ipaddress import ip_address

import pytest
from health_probes import SOON, checking
from secret_world import certificate
from tls_world import NAME, Kept, authority, issued, s_server

from agent.health import CheckFailed, CheckNotMade, Target, probes
from agent.health.tls import TlsProbe
from agent.health.trust import Contexts
from agent.model import TlsCheck

VERIFIED = {"authorities": "ours", "server_name": NAME}


def target(port, **settings):
    return Target(ip_address("127.0.0.1"), port, TlsCheck.model_validate({"type": "tls", **settings}))


@pytest.fixture(scope="module")
def secrets():
    return Kept(
        ours=authority()[0], theirs=authority("theirs")[0], client=issued(name="client"), stranger=issued(by="theirs")
    )


@pytest.fixture
def ask(secrets):
    probe = TlsProbe(Contexts(secrets))

    async def ask(port, **settings):
        async with asyncio.timeout(SOON):
            answer = await probe.probe(target(port, **settings))
            assert answer.latency > 0
            assert answer.warning == bool(answer.words)
            return answer.words

    return ask


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_who_shakes_hands_is_well(ask, version):
    async with s_server(issued(), version) as port:
        assert await ask(port) == ""
        assert await ask(port, server_name="other.example.com") == ""
        assert await ask(port, **VERIFIED) == ""
        assert await ask(port, authorities="ours") == ""
        assert await ask(port, authorities="ours", server_name="127.0.0.1") == ""
        assert await ask(port, **VERIFIED, certificate="client") == ""


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_who_is_not_trusted_has_failed(ask, version):
    async with s_server(issued(), version) as port:
        for settings, words in (
            (
                {"authorities": "ours", "server_name": "other.example.com"},
                "its certificate is not for other.example.com",
            ),
            ({"authorities": "ours", "server_name": "192.0.2.1"}, "its certificate is not for 192.0.2.1"),
            (
                {"authorities": "theirs"},
                "its certificate is not of these authorities, or the chain to them is not complete",
            ),
        ):
            with pytest.raises(CheckFailed) as failed:
                await ask(port, **settings)
            assert str(failed.value) == words
        assert await ask(port, **VERIFIED) == ""


async def test_a_self_signed_certificate_is_trusted_when_it_is_an_authority_itself(ask, secrets):
    pem, key = certificate(f"/CN={NAME}", names=f"DNS:{NAME}")
    async with s_server(pem + key) as port:
        assert await ask(port) == ""
        with pytest.raises(CheckFailed, match="self-signed, and not one of the authorities"):
            await ask(port, **VERIFIED)
        secrets.values["itself"] = pem
        assert await ask(port, authorities="itself", server_name=NAME) == ""


async def test_days_left_warn_and_fail(ask):
    async with s_server(issued(days=20)) as port:
        assert await ask(port) == ""
        assert await ask(port, warn_days=21) == "its certificate ends in 20 days"
        assert await ask(port, **VERIFIED, warn_days=30, fail_days=20) == "its certificate ends in 20 days"
        for trust in ({}, VERIFIED):
            with pytest.raises(CheckFailed, match=r"^its certificate ends in 20 days$"):
                await ask(port, **trust, warn_days=30, fail_days=21)
    async with s_server(issued(days=0)) as port:
        assert await ask(port) == "its certificate ends within a day"


async def test_an_expired_certificate_fails_where_it_is_verified_or_days_are_said(ask):
    async with s_server(issued(days=-3)) as port:
        assert await ask(port) == "its certificate has expired"
        with pytest.raises(CheckFailed, match=r"^its certificate has expired$"):
            await ask(port, fail_days=0)
        with pytest.raises(CheckFailed, match=r"^a certificate of its chain has expired$"):
            await ask(port, **VERIFIED)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_a_server_that_wants_a_certificate_gets_the_one_that_is_named(ask, version):
    async with s_server(issued(), version, "-Verify", "2", "-verify_return_error") as port:
        assert await ask(port, **VERIFIED, certificate="client") == ""
        for settings in ({}, {"certificate": "stranger"}):
            with pytest.raises(CheckFailed, match=r"^it refuses: "):
                await ask(port, **settings)


async def test_servers_that_offer_old_tls_only_have_failed(ask):
    async with s_server(issued(), "-tls1_1", "-cipher", "ALL:@SECLEVEL=0") as port:
        with pytest.raises(CheckFailed, match=r"^it has no TLS of 1\.2 or newer$"):
            await ask(port)


async def test_a_server_without_tickets_that_stays_open_is_well(ask):
    async with s_server(issued(), "-tls1_3", "-num_tickets", "0") as port:
        assert await ask(port) == ""


async def test_a_secret_that_is_missing_is_no_fault_of_the_backend(ask, secrets):
    async with s_server(issued()) as port:
        for settings in ({"authorities": "none"}, {"certificate": "none"}):
            with pytest.raises(CheckNotMade, match=r"^the secret none is missing; set it$"):
                await ask(port, **settings)


async def test_contexts_are_kept_until_a_secret_changes():
    kept = Kept(ours=authority("theirs")[0], client=issued(name="client"))
    contexts = Contexts(kept)
    check = TlsCheck.model_validate({"type": "tls", **VERIFIED, "certificate": "client"})
    first = contexts.get(check)
    assert contexts.get(check.model_copy(update={"warn_days": 3, "server_name": "b"})) is first
    assert kept.asked == 2
    async with s_server(issued()) as port:
        probe = TlsProbe(contexts)
        with pytest.raises(CheckFailed):
            await probe.probe(target(port, **VERIFIED, certificate="client"))
        kept.values["ours"] = authority()[0]
        await probe.probe(target(port, **VERIFIED, certificate="client"))
    assert contexts.get(check) is not first
    del kept.values["client"]
    with pytest.raises(CheckNotMade):
        contexts.get(check)


async def test_only_so_many_contexts_are_kept(monkeypatch):
    monkeypatch.setattr("agent.health.trust._MOST_CONTEXTS", 2)
    kept = Kept(**{name: authority()[0] for name in "abc"})
    contexts = Contexts(kept)
    for name in "abcca":
        contexts.get(TlsCheck(type="tls", authorities=name))
    assert kept.asked == 4


async def test_the_warning_is_in_the_reason_and_among_the_troubles(secrets):
    async with s_server(issued(days=5)) as port:
        asked = Target(
            ip_address("127.0.0.1"),
            port,
            # Paces below what a document may say keep the tests quick.
            TlsCheck.model_construct(type="tls", interval=0.05, timeout=5.0, rise=1, fall=1),
        )
        async with checking([asked], probes(secrets)) as (checker, changes):
            _, verdict = await changes.get()
            words = f"TLS port {port} answers: its certificate ends in 5 days"
            assert (verdict.health, verdict.reason) == ("healthy", words)
            ((trouble),) = checker.troubles()
            assert (trouble.code, trouble.message) == ("checks-warn", f"A check warns: 127.0.0.1, {words}")
