# SPDX-License-Identifier: GPL-2.0-or-later
"""What network cards say that they can, by ethtool's ioctl; a card that can is played."""

import ctypes
import errno
import struct

import pytest

from agent.system import ethtool

NAMES = [f"feature-{number}" for number in range(40)]
PLACE = 35


class Card:
    """Answers as the kernel does. `on`, `changes`: whether the feature is on, and whether it can be switched."""

    def __init__(self, *, on=False, changes=False, knows=True):
        self.on, self.changes = on, changes
        self.names = [*NAMES[:PLACE], ethtool.FEATURE, *NAMES[PLACE + 1 :]] if knows else NAMES
        self.asked = []

    def ioctl(self, _sock, request, argument):
        assert request == 0x8946
        _name, address = struct.unpack("16sP16x", argument)
        command = ctypes.c_uint32.from_address(address).value
        self.asked.append(command)
        if command == 0x37:
            ctypes.memmove(address + 16, struct.pack("=I", len(self.names)), 4)
        elif command == 0x1B:
            text = b"".join(name.encode().ljust(32, b"\0") for name in self.names)
            ctypes.memmove(address + 12, text, len(text))
        elif command == 0x3A:
            bit = 1 << PLACE % 32
            block = struct.pack("=IIII", bit * self.changes, 0, bit * self.on, 0)
            ctypes.memmove(address + 8 + 16, block, len(block))
        elif command == 0x3B:
            valid, wanted = struct.unpack("=II", ctypes.string_at(address + 8 + 8, 8))
            assert valid == wanted == 1 << PLACE % 32
            if not self.changes:
                raise OSError(errno.EPERM, "no")
            self.on = True
        return 0


@pytest.mark.parametrize(
    ("card", "can"),
    [
        (Card(on=True), True),
        (Card(changes=True), True),
        (Card(), False),
        (Card(knows=False), False),
    ],
)
def test_a_card_offloads_that_has_the_feature_on_or_lets_it_be_switched_on(monkeypatch, card, can):
    monkeypatch.setattr(ethtool.fcntl, "ioctl", card.ioctl)
    assert ethtool.offloads(["eth0"]) is can
    assert (0x3B in card.asked) == card.changes, "nothing is switched that is on, or cannot be"
    assert ethtool.offloads(["eth0", "eth1"]) is can
    assert ethtool.offloads([]) is False


def test_a_link_that_is_not_there_offloads_nothing():
    assert ethtool.offloads(["nowhere-0"]) is False


def test_the_loopback_does_not():
    assert ethtool.offloads(["lo"]) is False
