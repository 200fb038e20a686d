# SPDX-License-Identifier: GPL-2.0-or-later
"""What may be kept as a secret. No message has any of what was given."""

import base64
import binascii
import os
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from agent.access.errors import UnfitSecret
from agent.model.certificate import CertificateFacts, read_certificate
from agent.model.secret import SecretKind

MAX_TEXT = 4096
"""Characters of a text."""
MAX_CERTIFICATE = 64 * 1024
"""Characters of a certificate with its chain and key."""
MAX_AUTHORITIES = 256 * 1024
"""Characters of CA certificates; all those of Debian take 220 000."""
MAX_CHAIN = 10
"""Certificates of a chain."""

_BEGIN = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,40})-----\s*")
_KEYS = ("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY")
_PASSED_OVER = ("EC PARAMETERS", "DH PARAMETERS")
_MISFITS = ("KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
"""What OpenSSL says of a key of the certificate's algorithm, and of another algorithm."""


@dataclass(frozen=True)
class _Block:
    label: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n".join([f"-----BEGIN {self.label}-----", *self.lines, f"-----END {self.label}-----", ""])

    def facts(self) -> CertificateFacts:
        try:
            return read_certificate(base64.b64decode("".join(self.lines), validate=True))
        except (binascii.Error, ValueError):
            raise UnfitSecret("a certificate in it cannot be read; it may be cut off, copy it anew") from None


def accept(kind: SecretKind, value: str) -> str:
    """The value as it is kept. Raises UnfitSecret."""
    return _ACCEPT[kind](value)


def facts(pem: str) -> list[CertificateFacts]:
    """What the certificates say that `accept` has taken."""
    return [block.facts() for block in _blocks(pem) if block.label == "CERTIFICATE"]


def load(pem: str, context: ssl.SSLContext) -> None:
    """Have `context` identify itself by a certificate with its chain and key. Raises ssl.SSLError."""
    # OpenSSL reads files only. This one is in memory and has no name: a key is never on the disk but in the database.
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        # Through a second descriptor it is read from its beginning.
        os.write(descriptor, pem.encode())
        # Without a password OpenSSL would ask for one at the terminal.
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
    finally:
        os.close(descriptor)


def _text(value: str) -> str:
    if not value:
        raise UnfitSecret("the value is empty")
    if len(value) > MAX_TEXT:
        raise UnfitSecret(f"the value is longer than {MAX_TEXT} characters")
    if not value.isprintable():
        raise UnfitSecret("the value has a line break or another control character in it; a text is one line")
    return value


def _certificate(value: str) -> str:
    blocks = _sized(value, MAX_CERTIFICATE)
    chain = [block for block in blocks if block.label == "CERTIFICATE"]
    keys = [block for block in blocks if block.label in _KEYS]
    if not chain or len(keys) != 1:
        raise UnfitSecret(
            f"the value has {_counted(len(chain), 'certificate')} and {_counted(len(keys), 'private key')}; put "
            "together, in PEM, the certificate, those of its chain if there are any, and its key"
        )
    if len(chain) > MAX_CHAIN:
        raise UnfitSecret(f"the value has {len(chain)} certificates; a chain has {MAX_CHAIN} at most")
    if any("ENCRYPTED" in line for line in keys[0].lines):
        raise UnfitSecret(_ENCRYPTED)
    for block in chain:
        block.facts()
    kept = "".join(block.text for block in [*chain, *keys])
    try:
        load(kept, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    except ssl.SSLError as error:
        if error.reason in _MISFITS:
            words = "the private key does not belong to the certificate; the certificate of the key must be the first"
            raise UnfitSecret(words) from None
        raise UnfitSecret(f"OpenSSL does not take it: {_reason(error)}") from None
    return kept


def _authorities(value: str) -> str:
    blocks = _sized(value, MAX_AUTHORITIES)
    if any(block.label != "CERTIFICATE" for block in blocks):
        raise UnfitSecret("the value has a private key in it; CA certificates are public, leave the key out")
    if not blocks:
        raise UnfitSecret("the value has no certificate in it; CA certificates are in PEM, BEGIN CERTIFICATE")
    for block in blocks:
        block.facts()
    kept = "".join(block.text for block in blocks)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=kept)
    except ssl.SSLError as error:
        raise UnfitSecret(f"OpenSSL does not take it: {_reason(error)}") from None
    return kept


_ACCEPT: Mapping[SecretKind, Callable[[str], str]] = {
    "text": _text,
    "certificate": _certificate,
    "authorities": _authorities,
}
_ENCRYPTED = "its private key is encrypted; decrypt it first: openssl pkey -in FILE"


def _sized(value: str, limit: int) -> list[_Block]:
    if len(value) > limit:
        raise UnfitSecret(f"the value is longer than {limit} characters")
    blocks = [block for block in _blocks(value) if block.label not in _PASSED_OVER]
    for block in blocks:
        if block.label == "ENCRYPTED PRIVATE KEY":
            raise UnfitSecret(_ENCRYPTED)
        if block.label not in ("CERTIFICATE", *_KEYS):
            raise UnfitSecret("the value has in it what is neither a certificate nor a private key; leave that out")
    return blocks


def _blocks(value: str) -> Iterator[_Block]:
    """The blocks of PEM (RFC 7468) in a text; what stands around them is passed over."""
    label, lines = "", list[str]()
    for line in value.splitlines():
        begin = _BEGIN.fullmatch(line)
        if label and line.strip() == f"-----END {label}-----":
            yield _Block(label, tuple(lines))
            label = ""
        elif begin:
            if label:
                break
            label, lines = begin[1], []
        else:
            lines.append(line.strip())
    if label:
        raise UnfitSecret("the value is cut off: what begins with -----BEGIN has no -----END; copy it anew")


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "not of its form").replace("_", " ").lower()


def _counted(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
