# SPDX-License-Identifier: GPL-2.0-or-later
"""The SMTP check: whether the backend is ready to take mail (RFC 5321), by TLS if that is wanted (RFC 3207)."""

import asyncio
import re
import ssl
from functools import cache
from ipaddress import ip_address
from time import perf_counter

from agent.health.probe import Answer, CheckFailed, failure
from agent.health.target import Target
from agent.model import SmtpCheck

MOST_LINE = 1024
"""Bytes of a line of a reply: twice what RFC 5321, 4.5.3.1.5, lets servers send."""
MOST_LINES = 64
"""Lines of a reply."""

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?\r?\n", re.DOTALL)

_READY, _OK, _BYE = 220, 250, 221

_NO_HANDSHAKE = "the TLS handshake failed"


@cache
def _unverified() -> ssl.SSLContext:
    """TLS as mail servers have it among each other: with any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class SmtpProbe:
    """Waits for the banner, greets with EHLO, starts TLS and greets again if that is wanted, and takes its leave."""

    type = "smtp"

    def label(self, target: Target) -> str:
        """The port."""
        return f"SMTP port {target.port}"

    async def probe(self, target: Target) -> Answer:
        """Ask once. Raises CheckFailed with the reason, or CheckNotMade."""
        check = target.check
        assert isinstance(check, SmtpCheck)
        start = perf_counter()
        try:
            reader, writer = await asyncio.open_connection(str(target.address), target.port, limit=MOST_LINE)
            try:
                await _Dialogue(reader, writer).hold(check)
                latency = perf_counter() - start
            finally:
                # Not an orderly close, which would wait for the other side.
                writer.transport.abort()
        except ssl.SSLError:
            # Not the library's own words: they change with its version.
            raise CheckFailed(_NO_HANDSHAKE) from None
        except OSError as error:
            raise failure(error) from None
        return Answer(latency, "with STARTTLS" if check.starttls else "")


class _Dialogue:
    """One connection with a mail server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def hold(self, check: SmtpCheck) -> None:
        """From the banner to the farewell. Raises CheckFailed."""
        greeting = f"EHLO {check.ehlo or self._own_address()}"
        await self._reply("the banner", _READY)
        offered = await self._ask(greeting, _OK)
        if check.starttls:
            if b"STARTTLS" not in offered:
                raise CheckFailed("STARTTLS is not offered")
            await self._ask("STARTTLS", _READY)
            try:
                await self._writer.start_tls(_unverified())
            except OSError:  # of TLS, or of a server that closes: asyncio has no words for that
                raise CheckFailed(_NO_HANDSHAKE) from None
            await self._ask(greeting, _OK)
        await self._ask("QUIT", _BYE)

    def _own_address(self) -> str:
        """The address of this end as SMTP writes it where a name belongs (RFC 5321, 4.1.3)."""
        own = ip_address(self._writer.get_extra_info("sockname")[0])
        return f"[{'IPv6:' if own.version == 6 else ''}{own}]"

    async def _ask(self, command: str, wanted: int) -> list[bytes]:
        self._writer.write(command.encode() + b"\r\n")
        return await self._reply(command.partition(" ")[0], wanted)

    async def _reply(self, to: str, wanted: int) -> list[bytes]:
        """The words of each line of a reply, in capitals. Raises CheckFailed where it is another one, or none."""
        words = []
        for _ in range(MOST_LINES):
            try:
                line = await self._reader.readuntil(b"\n")
            except asyncio.IncompleteReadError:
                raise CheckFailed(f"the connection was closed at {to}") from None
            except asyncio.LimitOverrunError:
                line = b""
            match = _LINE.fullmatch(line)
            if match is None:
                break
            if int(match[1]) != wanted:
                raise CheckFailed(f"status {match[1].decode()} at {to}")
            words.append((match[3] or b"").strip().upper())
            if match[2] != b"-":
                return words
        raise CheckFailed(f"the answer to {to} is not SMTP")
