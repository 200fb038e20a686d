# SPDX-License-Identifier: GPL-2.0-or-later
"""What checks that speak TLS share: contexts, what is made of a certificate, and words for what goes wrong."""

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from agent.health.probe import CheckFailed, CheckNotMade
from agent.model import TlsSettings
from agent.model.certificate import read_end
from agent.model.secret import SecretMissing, SecretReader

_MOST_CONTEXTS = 256
"""So many contexts are kept; with all CA certificates of Debian one takes a megabyte."""

_CIPHERS = "DEFAULT:!kDHE"
"""Without DHE: its numbers are the server's choice, and with large ones a hostile server would keep the agent busy."""

_UNTRUSTED = "its certificate is not of these authorities, or the chain to them is not complete"
_VERIFYING: Mapping[int, str] = {
    9: "a certificate of its chain is not valid yet",
    10: "a certificate of its chain has expired",
    18: "its certificate is self-signed, and not one of the authorities",
    **dict.fromkeys((2, 19, 20, 21), _UNTRUSTED),
}
"""By X509_V_ERR_*: openssl/x509_vfy.h."""
_MISNAMED = {62, 64}
_WORDS = {
    "UNSUPPORTED_PROTOCOL": "it has no TLS of 1.2 or newer",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it has no TLS of 1.2 or newer",
    "EXCESSIVE_MESSAGE_SIZE": "its certificates are too large",
    **dict.fromkeys(("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"), "the answer is not TLS"),
}
CLOSED = "the connection was closed in the handshake"
"""The reason of a handshake that the other side did not end."""
_ALERT = "_ALERT_"


class Contexts:
    """The TLS contexts of checks. Making one takes milliseconds: kept while settings and secrets stay what they are."""

    def __init__(self, secrets: SecretReader) -> None:
        self._secrets = secrets
        self._kept: dict[tuple[str | None, str | None, bool], tuple[object, ssl.SSLContext]] = {}

    def get(self, check: TlsSettings) -> ssl.SSLContext:
        """The context of a check. Raises CheckNotMade when a secret is missing."""
        wanted = (check.authorities, check.certificate, check.asked_name is not None)
        names = filter(None, wanted[:2])
        versions = [self._secrets.version(name) for name in names]
        known = self._kept.get(wanted)
        if known is not None and known[0] == versions:
            return known[1]
        try:
            context = _context(check, self._secrets)
        except SecretMissing as error:
            raise CheckNotMade(str(error)) from None
        self._kept.pop(wanted, None)
        if len(self._kept) >= _MOST_CONTEXTS:
            del self._kept[next(iter(self._kept))]
        self._kept[wanted] = versions, context
        return context


def _context(check: TlsSettings, secrets: SecretReader) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.check_hostname = check.authorities is not None and check.asked_name is not None
    if check.authorities is None:
        context.verify_mode = ssl.CERT_NONE
    else:
        # An intermediate authority may be the one that is trusted, or the backend's certificate itself.
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cadata=secrets.authorities(check.authorities))
    if check.certificate is not None:
        secrets.load_certificate(check.certificate, context)
    return context


def judged(der: bytes | None, check: TlsSettings) -> str:
    """What is to be told of the other side's certificate, "" for nothing. Raises CheckFailed when it ends too soon."""
    try:
        left = read_end(der or b"") - datetime.now(UTC)
    except ValueError:
        raise CheckFailed("its certificate cannot be read") from None
    words = _left(left)
    if check.fail_days is not None and left < timedelta(days=check.fail_days):
        raise CheckFailed(words)
    return words if left < timedelta(days=check.warn_days) else ""


def _left(left: timedelta) -> str:
    if left < timedelta():
        return "its certificate has expired"
    if left.days < 1:
        return "its certificate ends within a day"
    return f"its certificate ends in {left.days} day{'s' if left.days > 1 else ''}"


def misgiving(error: ssl.SSLError, check: TlsSettings) -> CheckFailed:
    """What an error of TLS means. Never in words that the other side chose."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _MISNAMED:
            return CheckFailed(f"its certificate is not for {check.asked_name}")
        return CheckFailed(_VERIFYING.get(error.verify_code) or f"its certificate: {error.verify_message}")
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return CheckFailed(CLOSED)
    reason = error.reason or "unknown"
    plain = reason.rpartition(_ALERT)[2].replace("_", " ").lower()
    known = _WORDS.get(reason)
    return CheckFailed(known or (f"it refuses: {plain}" if is_alert(error) else f"the handshake failed: {plain}"))


def is_alert(error: ssl.SSLError) -> bool:
    """Whether the other side told the error."""
    return _ALERT in (error.reason or "")
