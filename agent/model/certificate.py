# SPDX-License-Identifier: GPL-2.0-or-later
"""What a certificate (X.509, RFC 5280) says, read for people to see. Nothing is decided by it: OpenSSL judges."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address

_UTC_TIME, _VERSION, _EXTENSIONS = 0x17, 0xA0, 0xA3
_TEXTS = {0x0C: "utf-8", 0x1E: "utf-16-be", 0x1C: "utf-32-be"}
_SUBJECT_ALT_NAME = bytes.fromhex("551d11")
_ATTRIBUTES = {
    bytes.fromhex("550403"): "CN",
    bytes.fromhex("550406"): "C",
    bytes.fromhex("550407"): "L",
    bytes.fromhex("550408"): "ST",
    bytes.fromhex("55040a"): "O",
    bytes.fromhex("55040b"): "OU",
    bytes.fromhex("0992268993f22c640101"): "UID",
    bytes.fromhex("0992268993f22c640119"): "DC",
    bytes.fromhex("2a864886f70d010901"): "emailAddress",
}
_E_MAIL, _DNS, _URI, _IP = 0x81, 0x82, 0x86, 0x87


@dataclass(frozen=True)
class CertificateFacts:
    """What a certificate says of itself. Its texts are the issuer's words, on one line each."""

    subject: str
    """Such as "CN=lb1.example.net, O=Example"; empty where it has none."""
    names: tuple[str, ...]
    """Host names, addresses, e-mail addresses, URIs that it stands for."""
    begins: datetime
    ends: datetime


def read_certificate(der: bytes) -> CertificateFacts:
    """Read a certificate in DER. Raises ValueError for what is none."""
    try:
        (_, validity), (_, subject), *rest = _fields(der)
        begins, ends = _span(validity)
        extensions = next((content for tag, content in rest if tag == _EXTENSIONS), None)
        names = tuple(_names(extensions)) if extensions is not None else ()
        return CertificateFacts(", ".join(_subject(subject)), names, begins, ends)
    except (IndexError, ValueError) as error:
        raise ValueError("this is no certificate") from error


def read_end(der: bytes) -> datetime:
    """When a certificate in DER ends; reads no more of it, so that a huge one is no work. Raises ValueError."""
    try:
        return _span(_fields(der)[0][1])[1]
    except (IndexError, ValueError) as error:
        raise ValueError("this is no certificate") from error


def _fields(der: bytes) -> list[tuple[int, bytes]]:
    """The fields of a certificate from its validity on: RFC 5280, 4.1."""
    ((_, certificate),) = _parts(der)
    fields = _parts(_parts(certificate)[0][1])
    return fields[4:] if fields[0][0] == _VERSION else fields[3:]


def _span(validity: bytes) -> tuple[datetime, datetime]:
    begins, ends = (_time(tag, text) for tag, text in _parts(validity))
    return begins, ends


def _parts(data: bytes) -> list[tuple[int, bytes]]:
    """The elements, one after the other, that `data` is made of: tag and content."""
    found, place = [], 0
    while place < len(data):
        tag, length, start = data[place], data[place + 1], place + 2
        if length >= 0x80:
            size = length & 0x7F
            if size > 4:
                raise ValueError("an element is too long")
            length, start = int.from_bytes(data[start : start + size], "big"), start + size
        place = start + length
        if place > len(data):
            raise ValueError("an element is cut off")
        found.append((tag, data[start:place]))
    return found


def _time(tag: int, text: bytes) -> datetime:
    words = text.decode("ascii")
    if tag == _UTC_TIME:
        words = ("19" if int(words[:2]) >= 50 else "20") + words
    return datetime.strptime(words, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _subject(content: bytes) -> Iterator[str]:
    for _, together in _parts(content):
        for _, attribute in _parts(together):
            (_, kind), (tag, value) = _parts(attribute)
            if kind in _ATTRIBUTES:
                yield f"{_ATTRIBUTES[kind]}={_line(value.decode(_TEXTS.get(tag, 'latin-1')))}"


def _names(content: bytes) -> Iterator[str]:
    for _, extension in _parts(_parts(content)[0][1]):
        (_, kind), *_critical, (_, value) = _parts(extension)
        if kind == _SUBJECT_ALT_NAME:
            for tag, name in _parts(_parts(value)[0][1]):
                if tag == _IP:
                    yield str(ip_address(name))
                elif tag in (_DNS, _E_MAIL, _URI):
                    yield _line(name.decode("latin-1"))


def _line(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text)
