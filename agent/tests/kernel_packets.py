# SPDX-License-Identifier: GPL-2.0-or-later
"""What no socket sends by itself: TCP segments with any flags, and what routers say of packets that are too large."""

import select
import socket
import struct
from ipaddress import ip_address

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
_PLENTY = 10.0
_HEADER = struct.Struct("!HHIIBBHHH")
SEQUENCE = 1000
_IP_MTU, _IPV6_MTU = 14, 24


class Raw:
    """Sends segments from ports that no socket has, in the namespace of the thread that makes it."""

    def __init__(self, source: str, destination: str) -> None:
        self._source, self._destination = ip_address(source), ip_address(destination)
        family = socket.AF_INET if self._source.version == 4 else socket.AF_INET6
        self._socket = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP)
        self._socket.bind((source, 0))
        self._answers: dict[int, tuple[int, int]] = {}

    def send(self, port: int, flags: int, *, to: int = 80, acknowledges: int | None = None) -> None:
        """Send a segment; `acknowledges`: the answer that came to this port before."""
        sequence, acknowledged = SEQUENCE, 0
        if acknowledges is not None:
            sequence, acknowledged = SEQUENCE + 1, self._answers[acknowledges][1] + 1
        head = _HEADER.pack(port, to, sequence, acknowledged, 5 << 4, flags, 64000, 0, 0)
        checksum = _checksum(self._source.packed + self._destination.packed + struct.pack("!II", len(head), 6) + head)
        self._socket.sendto(head[:16] + struct.pack("!H", checksum) + head[18:], (str(self._destination), 0))

    def answer(self, port: int) -> int:
        """Wait for a segment to this port: its flags."""
        while port not in self._answers:
            assert select.select([self._socket], [], [], _PLENTY)[0], f"no answer to port {port}"
            self._read()
        return self._answers[port][0]

    def answered(self, port: int) -> bool:
        """Whether a segment to this port has come by now."""
        while select.select([self._socket], [], [], 0)[0]:
            self._read()
        return port in self._answers

    def close(self) -> None:
        self._socket.close()

    def _read(self) -> None:
        packet = self._socket.recv(4096)
        segment = packet[(packet[0] & 15) * 4 :] if self._source.version == 4 else packet
        _, port, sequence, _, _, flags, *_ = _HEADER.unpack_from(segment)
        self._answers.setdefault(port, (flags & 0x3F, sequence))


def tell_too_big(router: str, sender: tuple[str, int], receiver: tuple[str, int], mtu: int) -> None:
    """Tell `sender`, as a router of this namespace, that its datagrams to `receiver` are larger than `mtu` bytes.

    The addresses and ports are those that the router sees.
    """
    source, destination = ip_address(sender[0]), ip_address(receiver[0])
    head = struct.pack("!HHHH", sender[1], receiver[1], 8, 0)
    ends = source.packed + destination.packed
    if source.version == 4:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 28, 1, 0x4000, 64, socket.IPPROTO_UDP, 0)
        message = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + header + ends + head
        message = message[:2] + struct.pack("!H", _checksum(message)) + message[4:]
        family, protocol = socket.AF_INET, socket.IPPROTO_ICMP
    else:
        # The kernel writes the checksum of ICMPv6.
        message = struct.pack("!BBHI", 2, 0, 0, mtu) + struct.pack("!IHBB", 6 << 28, 8, socket.IPPROTO_UDP, 64)
        message += ends + head
        family, protocol = socket.AF_INET6, socket.IPPROTO_ICMPV6
    with socket.socket(family, socket.SOCK_RAW, protocol) as sock:
        sock.bind((router, 0))
        sock.sendto(message, (sender[0], 0))


def path_mtu(destination: str) -> int:
    """The largest packet that this namespace sends to an address, as far as it has been told."""
    family, level, option = (
        (socket.AF_INET6, socket.IPPROTO_IPV6, _IPV6_MTU) if ":" in destination else (socket.AF_INET, 0, _IP_MTU)
    )
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect((destination, 9))
        return sock.getsockopt(level, option)


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
