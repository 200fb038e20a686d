# SPDX-License-Identifier: GPL-2.0-or-later
"""TCP segments in Ethernet frames of 64 bytes, made beforehand and sent by the thousand in one system call."""

import ctypes
import socket
import struct
from collections.abc import Sequence

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
SIZE = 60
"""Octets of a frame without its check sequence, as software sees the smallest that Ethernet has (64 with it)."""

_ETHERNET = struct.Struct("!6s6sH")
_IP = struct.Struct("!BBHHHBBH4s4s")
_TCP = struct.Struct("!HHIIBBHHH")
PAYLOAD = b"sluice"
"""Fills a segment's frame to SIZE; its length is even."""
_sendmmsg = ctypes.CDLL(None, use_errno=True).sendmmsg


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def segment(
    macs: tuple[bytes, bytes],
    ends: tuple[tuple[str, int], tuple[str, int]],
    flags: int,
    numbers: tuple[int, int],
    payload: bytes = b"",
) -> bytes:
    """A frame from the first to the second of `macs` and `ends`, padded to SIZE.

    `numbers`: what it says of sequence and acknowledgement.
    """
    source, target = ends
    addresses = socket.inet_aton(source[0]), socket.inet_aton(target[0])
    length = _TCP.size + len(payload)
    head = _IP.pack(0x45, 0, _IP.size + length, 0, 0x4000, 64, socket.IPPROTO_TCP, 0, *addresses)
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    tcp = _TCP.pack(source[1], target[1], *numbers, 5 << 4, flags, 8192, 0, 0)
    pseudo = addresses[0] + addresses[1] + struct.pack("!HH", socket.IPPROTO_TCP, length)
    sum_ = struct.pack("!H", checksum(pseudo + tcp + payload))
    frame = _ETHERNET.pack(macs[1], macs[0], 0x0800) + head + tcp[:16] + sum_ + tcp[18:] + payload
    return frame.ljust(SIZE, b"\0")


def parse(frame: bytes) -> tuple[tuple[str, int], tuple[str, int]]:
    """Source and target of a TCP segment in a frame."""
    source, target = socket.inet_ntoa(frame[26:30]), socket.inet_ntoa(frame[30:34])
    ports = struct.unpack_from("!HH", frame, 34)
    return (source, ports[0]), (target, ports[1])


class Batch:
    """Frames that are laid out for sendmmsg(2)."""

    def __init__(self, frames: Sequence[bytes]) -> None:
        self.number = len(frames)
        self._data = ctypes.create_string_buffer(b"".join(frames), self.number * SIZE)
        base = ctypes.addressof(self._data)
        vectors = b"".join(struct.pack("=QQ", base + number * SIZE, SIZE) for number in range(self.number))
        self._vectors = ctypes.create_string_buffer(vectors, len(vectors))
        base = ctypes.addressof(self._vectors)
        headers = b"".join(
            struct.pack("=QIIQQQQIIII", 0, 0, 0, base + number * 16, 1, 0, 0, 0, 0, 0, 0)
            for number in range(self.number)
        )
        self._headers = ctypes.create_string_buffer(headers, len(headers))
        self._header = len(headers) // self.number

    def send(self, sock: socket.socket) -> None:
        """Send all of them in order."""
        sent, base, descriptor = 0, ctypes.addressof(self._headers), sock.fileno()
        while sent < self.number:
            more = _sendmmsg(descriptor, ctypes.c_void_p(base + sent * self._header), min(1024, self.number - sent), 0)
            if more <= 0:
                raise OSError(ctypes.get_errno(), "sendmmsg")
            sent += more
