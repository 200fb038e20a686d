# SPDX-License-Identifier: GPL-2.0-or-later
"""TCP segments with any flags, from an address and to a farm, past the sender's own TCP."""

import select
import socket
import struct
from ipaddress import ip_address

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
_PLENTY = 10.0
_HEADER = struct.Struct("!HHIIBBHHH")
SEQUENCE = 1000


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


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
