# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether network cards can forward established connections by themselves: the feature hw-tc-offload of ethtool(8).

Layouts and numbers: linux/ethtool.h, linux/sockios.h.
"""

import ctypes
import fcntl
import socket
from collections.abc import Iterable
from contextlib import suppress
from struct import Struct

FEATURE = "hw-tc-offload"

_SIOCETHTOOL = 0x8946
_GET_STRINGS, _GET_FEATURES, _SET_FEATURES, _GET_SIZES = 0x1B, 0x3A, 0x3B, 0x37
_FEATURES = 4
"""ETH_SS_FEATURES: the names of features."""
_NAME = 32
_REQUEST = Struct("16sP16x")
_SIZES = Struct("=IIQI")
_HEAD = Struct("=II")
_STRINGS = Struct("=III")
_BLOCK = Struct("=IIII")
"""Of 32 features: which can be changed, which are asked for, which are on, which never change."""
_CHANGE = Struct("=II")


def offloads(names: Iterable[str]) -> bool:
    """Whether the cards of all these links have the feature, and switched on: where it can be, it is by this.

    False where that cannot be found out, and without any.
    """
    links = list(names)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            return bool(links) and all(_offloads(sock, name) for name in links)
    except OSError:
        return False


def _offloads(sock: socket.socket, name: str) -> bool:
    place = _feature(sock, name)
    if place is None:
        return False
    can, on = _state(sock, name, *place)
    if can and not on:
        number, count = place
        blocks = bytearray(_HEAD.pack(_SET_FEATURES, _blocks(count)) + bytes(_CHANGE.size * _blocks(count)))
        bit = 1 << number % 32
        _CHANGE.pack_into(blocks, _HEAD.size + _CHANGE.size * (number // 32), bit, bit)
        with suppress(OSError):
            _ask(sock, name, bytes(blocks))
        _, on = _state(sock, name, *place)
    return on


def _feature(sock: socket.socket, name: str) -> tuple[int, int] | None:
    """The number of the feature, and how many there are; None where there is no such feature."""
    count = _SIZES.unpack(_ask(sock, name, _SIZES.pack(_GET_SIZES, 0, 1 << _FEATURES, 0)))[3]
    answer = _ask(sock, name, _STRINGS.pack(_GET_STRINGS, _FEATURES, count) + bytes(_NAME * count))
    texts = [answer[at : at + _NAME].partition(b"\0")[0] for at in range(_STRINGS.size, len(answer), _NAME)]
    return (texts.index(FEATURE.encode()), count) if FEATURE.encode() in texts else None


def _state(sock: socket.socket, name: str, number: int, count: int) -> tuple[bool, bool]:
    """Whether the feature can be changed, and whether it is on."""
    answer = _ask(sock, name, _HEAD.pack(_GET_FEATURES, _blocks(count)) + bytes(_BLOCK.size * _blocks(count)))
    available, _requested, active, never = _BLOCK.unpack_from(answer, _HEAD.size + _BLOCK.size * (number // 32))
    bit = 1 << number % 32
    return bool(available & ~never & bit), bool(active & bit)


def _blocks(count: int) -> int:
    return (count + 31) // 32


def _ask(sock: socket.socket, name: str, request: bytes) -> bytes:
    """The kernel's answer, which takes the place of the request. Raises OSError."""
    buffer = ctypes.create_string_buffer(request, len(request))
    fcntl.ioctl(sock, _SIOCETHTOOL, _REQUEST.pack(name.encode(), ctypes.addressof(buffer)))
    return buffer.raw
