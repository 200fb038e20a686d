# SPDX-License-Identifier: GPL-2.0-or-later
"""The SMTP check against a server of the test's own (there is none to be had on every host), and hostile ones."""

import asyncio
import ssl
import subprocess
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest
from documents import document, faults
from health_probes import SOON, checking

from agent.health import CheckFailed, Target
from agent.health.smtp import MOST_LINE, MOST_LINES, SmtpProbe
from agent.model import SmtpCheck


async def ask(port, host="127.0.0.1", **settings):
    check = SmtpCheck.model_validate({"type": "smtp", **settings})
    async with asyncio.timeout(SOON):
        return await SmtpProbe().probe(Target(ip_address(host), port, check))


class Mail:
    """A mail server's dialogue (RFC 5321, RFC 3207); `says` has other replies for some commands, b"" for none."""

    def __init__(self, says=(), tls=None):
        self.says = {
            "banner": b"220-mx.example.com\r\n220 ready\r\n",
            "EHLO": b"250-mx.example.com\r\n250-PIPELINING\r\n250 STARTTLS\r\n" if tls else b"250 mx\r\n",
            "STARTTLS": b"220 go ahead\r\n",
            "QUIT": b"221 bye\r\n",
            **dict(says),
        }
        self.tls = tls
        self.heard = []

    async def talk(self, reader, writer):
        writer.write(self.says["banner"])
        while line := (await reader.readline()).decode():
            self.heard.append(line)
            command = line.split()[0]
            writer.write(self.says[command])
            await writer.drain()
            if command == "QUIT" or not self.says[command]:
                break
            if command == "STARTTLS" and self.says[command].startswith(b"220"):
                await writer.start_tls(self.tls)


@asynccontextmanager
async def serving(talk, host="127.0.0.1"):
    """A server that does `talk(reader, writer)` with each client."""

    async def serve(reader, writer):
        try:
            await talk(reader, writer)
        except OSError:
            pass  # the client is gone
        finally:
            # Not an orderly close, which would wait for the other side's within TLS.
            writer.transport.abort()

    listening = await asyncio.start_server(serve, host, 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """TLS with a certificate that nobody signed, for a name that nobody asks for."""
    key, certificate = (tmp_path_factory.mktemp("tls") / name for name in ("key", "certificate"))
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run(
        [*made, "-keyout", key, "-out", certificate, "-subj", "/CN=other", "-days", "1"],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@pytest.mark.parametrize(("host", "literal"), [("127.0.0.1", "[127.0.0.1]"), ("::1", "[IPv6:::1]")])
async def test_a_dialogue(host, literal):
    mail = Mail()
    async with serving(mail.talk, host) as port:
        answer = await ask(port, host)
        assert answer.latency > 0
        assert mail.heard == [f"EHLO {literal}\r\n", "QUIT\r\n"]
        mail.heard.clear()
        await ask(port, host, ehlo="lb1.example.com")
        assert mail.heard[0] == "EHLO lb1.example.com\r\n"


async def test_tls_with_whatever_certificate(tls):
    mail = Mail(tls=tls)
    async with serving(mail.talk) as port:
        assert (await ask(port, starttls=True)).words == "with STARTTLS"
        assert [line.split()[0] for line in mail.heard] == ["EHLO", "STARTTLS", "EHLO", "QUIT"]


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ({"banner": b"554 go away\r\n"}, "^status 554 at the banner$"),
        ({"banner": b"421-busy\r\n421 later\r\n"}, "^status 421 at the banner$"),
        ({"banner": b"SSH-2.0-OpenSSH_9.2\r\n"}, "^the answer to the banner is not SMTP$"),
        ({"banner": b"\x16\x03\x01\x00\xff\n"}, "is not SMTP"),
        ({"banner": b"220" + b"a" * MOST_LINE + b"\r\n"}, "is not SMTP"),
        ({"banner": b"220 " + b"a" * 10 * MOST_LINE}, "is not SMTP"),
        ({"banner": b"220-more\r\n" * (MOST_LINES + 1)}, "is not SMTP"),
        ({"banner": b"220-more\r\n250 mixed\r\n"}, "status 250 at the banner"),
        ({"EHLO": b"502 what\r\n"}, "^status 502 at EHLO$"),
        ({"EHLO": b""}, "^the connection was closed at EHLO$"),
        ({"EHLO": b"250-half\r\n250"}, "."),
        ({"QUIT": b"500 no\r\n"}, "^status 500 at QUIT$"),
    ],
)
async def test_what_is_no_mail_server_has_failed(says, words):
    async with serving(Mail(says).talk) as port:
        if says.get("EHLO", b"").startswith(b"250-"):  # it stays, and the line does not end
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ask(port), 0.1)
        else:
            with pytest.raises(CheckFailed, match=words):
                await ask(port)


async def test_tls_must_be_offered_and_succeed(tls):
    for says, words in [
        ({"EHLO": b"250-STARTTLSX\r\n250 mx\r\n"}, "^STARTTLS is not offered$"),
        ({"STARTTLS": b"454 not now\r\n"}, "^status 454 at STARTTLS$"),
        ({"STARTTLS": b"220 go ahead\r\nnot TLS"}, "^the TLS handshake failed$|is not SMTP"),
        ({"STARTTLS": b""}, "^the connection was closed at STARTTLS$"),
    ]:
        async with serving(Mail(says, tls).talk) as port:
            with pytest.raises(CheckFailed, match=words):
                await ask(port, starttls=True)


@pytest.mark.parametrize("last", [[b"250 in clear\r\n" * 9], []], ids=["garbage", "closed"])
async def test_a_handshake_of_something_else_has_failed(last):
    async def talk(reader, writer):
        for reply in (b"220 mx\r\n", b"250 starttls\r\n", b"220 go\r\n", *last):
            writer.write(reply)
            if not await reader.read(MOST_LINE):
                break

    async with serving(talk) as port:
        with pytest.raises(CheckFailed, match=r"^the TLS handshake failed$"):
            await ask(port, starttls=True)


async def test_who_refuses_says_so():
    async with serving(Mail().talk) as port:
        pass
    with pytest.raises(CheckFailed, match=r"^connection refused$"):
        await ask(port)


@pytest.mark.parametrize(
    "replies", [[b""], [b"22"], [b"220 mx\r\n"], [b"220 mx\r\n", b"250 STARTTLS\r\n", b"220 go\r\n"]]
)
async def test_who_is_silent_ends_with_the_timeout(replies):
    async def talk(reader, writer):
        for reply in replies:
            writer.write(reply)
            await reader.read(MOST_LINE)
        while await reader.read(MOST_LINE):
            pass

    async with serving(talk) as port:
        # Paces below what a document may say keep the tests quick.
        pace = {"interval": 0.2, "timeout": 0.2, "fall": 1}
        check = SmtpCheck.model_construct(type="smtp", starttls=True, **pace)
        async with checking([Target(ip_address("127.0.0.1"), port, check)]) as (_, changes):
            _, verdict = await changes.get()
            assert verdict.reason == f"SMTP port {port}: no answer within 0.2 s"


@pytest.mark.parametrize("name", ["a b", "a\r\nQUIT", "", "-a", "a..b", "[192.0.2.1]", "a" * 64, "a." * 130 + "a"])
def test_what_is_no_name(name):
    ((place, words),) = faults(document(web={"checks": [{"type": "smtp", "ehlo": name}]}))
    assert place == "/farms/web/checks/0/ehlo"
    assert "lb1.example.com" in words
