# SPDX-License-Identifier: GPL-2.0-or-later
"""Tells clients that their SCTP association is over, since nobody else would when it was cut.

What comes of an association that connection tracking does not know is invalid to it and reaches no backend that could
answer, and ICMP errors end none that is established. So the appliance sends what the backend would: an ABORT chunk
(RFC 9260, 3.3.7) with the tag that the client expects, which connection tracking has seen. It takes
this for invalid, too, and remembers nothing of it: the client may begin anew from the same port at once.
"""

import logging
import socket
import struct
from collections.abc import Collection
from ipaddress import ip_address
from typing import NamedTuple

_log = logging.getLogger(__name__)

_HEADER = struct.Struct("!HHI")
_CHUNK = struct.pack("!BBH", 6, 0, 4)
"""ABORT, no flags, no causes."""
_CASTAGNOLI = 0x82F63B78
"""The polynomial of CRC32c, in reverse (RFC 9260, appendix A)."""


class Association(NamedTuple):
    """An association as its client knows it. Addresses are packed."""

    service: bytes
    service_port: int
    client: bytes
    client_port: int
    tag: int
    """The verification tag of what the client gets."""


def packet(association: Association) -> bytes:
    """The SCTP packet that ends it."""
    head = _HEADER.pack(association.service_port, association.client_port, association.tag)
    return head + struct.pack("<I", _crc32c(head + bytes(4) + _CHUNK)) + _CHUNK


def tell(associations: Collection[Association]) -> None:
    """Send each its end, from the address of its service. Needs CAP_NET_RAW. What cannot be sent is logged, once."""
    failed: OSError | None = None
    for each in associations:
        source, client = (str(ip_address(packed)) for packed in (each.service, each.client))
        family = socket.AF_INET if len(each.service) == 4 else socket.AF_INET6
        try:
            with socket.socket(family, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_SCTP) as sock:
                sock.bind((source, 0))
                sock.sendto(packet(each), (client, 0))
        except OSError as error:
            failed = error
    if failed:
        _log.warning("clients could not be told that their associations were cut: %s", failed)


def _crc32c(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (_CASTAGNOLI if value & 1 else 0)
    return value ^ 0xFFFFFFFF
