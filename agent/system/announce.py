# SPDX-License-Identifier: GPL-2.0-or-later
"""Tells the neighbours where a virtual address lives now: gratuitous ARP, unsolicited neighbour advertisement.

The frames are made here and sent over a packet socket (CAP_NET_RAW): both families take the same way, and what is sent
does not depend on the kernel's choice of source addresses.
"""

import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

from agent.model.types import Address

_ETH_ARP = 0x0806
_ETH_IPV6 = 0x86DD
_BROADCAST = b"\xff" * 6
_ALL_NODES = IPv6Address("ff02::1")
_ICMPV6 = 58
_ADVERTISEMENT = 136
_ROUTER_AND_OVERRIDE = 0xA0000000
_TARGET_LINK_LAYER = 2


def frames(address: Address, mac: bytes) -> list[bytes]:
    """The Ethernet frames that announce `address` at `mac` (6 bytes) to everybody on the link."""
    if isinstance(address, IPv4Address):
        return [_arp(address, mac, operation=1), _arp(address, mac, operation=2)]
    return [_advertisement(address, mac)]


def send(announcements: Iterable[tuple[str, str, Address]]) -> list[str]:
    """Announce each (link name, MAC, address). Returns what could not be sent, in words; never raises.

    A link without an Ethernet address is left out.
    """
    failures: list[str] = []
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
    except OSError as error:
        return [f"virtual addresses cannot be announced: {error.strerror or error}"]
    with sock:
        for link, mac, address in announcements:
            hardware = bytes.fromhex(mac.replace(":", ""))
            if len(hardware) != 6:
                continue
            try:
                for frame in frames(address, hardware):
                    sock.sendto(frame, (link, 0))
            except OSError as error:
                failures.append(f"{address} cannot be announced on {link}: {error.strerror or error}")
    return failures


def _arp(address: IPv4Address, mac: bytes, *, operation: int) -> bytes:
    """RFC 5227: request form (1) updates caches by the book; the reply form (2) reaches devices that heed only that."""
    target = bytes(6) if operation == 1 else mac
    return (
        _BROADCAST
        + mac
        + struct.pack("!HHHBBH", _ETH_ARP, 1, 0x0800, 6, 4, operation)
        + mac
        + address.packed
        + target
        + address.packed
    )


def _advertisement(address: IPv6Address, mac: bytes) -> bytes:
    """RFC 4861, 7.2.6. Override: caches are to change; router: the appliance forwards, as the kernel's answers say."""
    body = struct.pack("!I", _ROUTER_AND_OVERRIDE) + address.packed + bytes([_TARGET_LINK_LAYER, 1]) + mac
    length = 4 + len(body)
    pseudo = address.packed + _ALL_NODES.packed + struct.pack("!II", length, _ICMPV6)
    checksum = _checksum(pseudo + struct.pack("!BBH", _ADVERTISEMENT, 0, 0) + body)
    ip = struct.pack("!IHBB", 6 << 28, length, _ICMPV6, 255) + address.packed + _ALL_NODES.packed
    return (
        b"\x33\x33"
        + _ALL_NODES.packed[-4:]
        + mac
        + struct.pack("!H", _ETH_IPV6)
        + ip
        + struct.pack("!BBH", _ADVERTISEMENT, 0, checksum)
        + body
    )


def _checksum(data: bytes) -> int:
    """RFC 1071, of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
