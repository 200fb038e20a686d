# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages of the DNS (RFC 1035, 4): a question as bytes, and what answers say.

What an answer costs is in proportion to its bytes: names of records are passed over unread, and of those in data a
bounded number of labels is read, so that pointers that lead to long names cannot keep the agent busy.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33}
"""The types of records that can be asked for, by their numbers."""
RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
"""The response codes that have a name: RFC 1035, 4.1.1."""

_HEADER = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")
_IN = 1
_RESPONSE, _OPCODE, _TRUNCATED, _DESIRED, _RCODE = 0x8000, 0x7800, 0x0200, 0x0100, 0x000F
_STEPS = 128
"""Labels and pointers of a name: a name of 255 bytes has 127 labels."""


class Broken(ValueError):
    """The message is not one of the DNS."""


@dataclass(frozen=True)
class Response:
    """An answer to a question."""

    rcode: str
    truncated: bool
    message: bytes
    question: bytes

    def records(self) -> Iterator[bytes]:
        """The text of each record of the type that was asked for. Raises Broken."""
        kind, _ = struct.unpack("!HH", self.question[-4:])
        at = _HEADER.size + len(self.question)
        for _ in range(_HEADER.unpack_from(self.message)[3]):
            at = _passed(self.message, at)
            if at + _RECORD.size > len(self.message):
                raise Broken
            found, family, _, length = _RECORD.unpack_from(self.message, at)
            at += _RECORD.size
            if at + length > len(self.message):
                raise Broken
            if (found, family) == (kind, _IN):
                yield _text(kind, self.message, at, at + length)
            at += length


def query(identifier: int, name: str, record: str) -> bytes:
    """A question, with recursion desired."""
    labels = [label.encode() for label in name.split(".") if label]
    owner = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return _HEADER.pack(identifier, _DESIRED, 1, 0, 0, 0) + owner + struct.pack("!HH", TYPES[record], _IN)


def response(message: bytes, asked: bytes) -> Response | None:
    """The answer that a message is to the question `asked`; None if it is none: of another identifier or question."""
    question = asked[_HEADER.size :]
    if len(message) < _HEADER.size + len(question):
        return None
    identifier, flags, questions, *_ = _HEADER.unpack_from(message)
    repeated = message[_HEADER.size : _HEADER.size + len(question)]
    same = repeated[:-4].lower() == question[:-4].lower() and repeated[-4:] == question[-4:]
    if identifier != _HEADER.unpack_from(asked)[0] or flags & (_RESPONSE | _OPCODE) != _RESPONSE or questions != 1:
        return None
    code = flags & _RCODE
    return Response(RCODES.get(code, f"code {code}"), bool(flags & _TRUNCATED), message, question) if same else None


def _passed(message: bytes, at: int) -> int:
    """Where what follows the name at `at` begins."""
    while at < len(message):
        length = message[at]
        if length >= 0xC0:
            return at + 2
        if length > 63:
            break
        at += 1 + length
        if not length:
            return at
    raise Broken


def _name(message: bytes, at: int) -> bytes:
    """The name at `at`, without the last dot; of what is not to be seen the number stands there."""
    labels: list[bytes] = []
    for _ in range(_STEPS):
        if at + 1 > len(message):
            break
        length = message[at]
        if not length:
            return b".".join(labels) or b"."
        if length >= 0xC0 and at + 1 < len(message):
            at = (length & 0x3F) << 8 | message[at + 1]
        elif length <= 63 and at + 1 + length <= len(message):
            labels.append(b"".join(map(_letter, message[at + 1 : at + 1 + length])))
            at += 1 + length
        else:
            break
    raise Broken


def _letter(byte: int) -> bytes:
    return bytes([byte]) if 0x21 <= byte <= 0x7E and byte not in b".\\" else b"\\%03d" % byte


def _text(kind: int, message: bytes, at: int, end: int) -> bytes:
    """The data of a record as zone files have it (RFC 1035, 5.1); the strings of TXT joined and bare."""
    data = message[at:end]
    try:
        match kind:
            case 1 | 28:  # A, AAAA
                found = str(IPv4Address(data) if kind == TYPES["A"] else IPv6Address(data)).encode()
            case 15:  # MX
                found = b"%d %s" % (*struct.unpack_from("!H", data), _name(message, at + 2))
            case 33:  # SRV
                found = b"%d %d %d %s" % (*struct.unpack_from("!HHH", data), _name(message, at + 6))
            case 16:  # TXT
                found = b"".join(_strings(data))
            case 6:  # SOA
                second = _passed(message, at)
                numbers = struct.unpack("!IIIII", message[_passed(message, second) : end])
                found = b"%s %s %d %d %d %d %d" % (_name(message, at), _name(message, second), *numbers)
            case _:  # NS, CNAME, PTR
                found = _name(message, at)
    except (ValueError, struct.error):  # of addresses and numbers, and Broken
        raise Broken from None
    return found


def _strings(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        length = data[at]
        if at + 1 + length > len(data):
            raise Broken
        yield data[at + 1 : at + 1 + length]
        at += 1 + length
