# SPDX-License-Identifier: GPL-2.0-or-later
"""Answers of netfilter that are whole, and those that are not; keys and values as bytes. Without a kernel."""

import errno
import socket
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dataplane import elements, expressions, netlink
from agent.dataplane.layout import (
    CLASS,
    DIRECTION,
    IPV4,
    IPV6,
    LINK,
    NUMBER,
    ORDERED,
    PORT,
    PROTOCOL,
    SETS,
    Layout,
    ends,
    span,
)
from agent.dataplane.netlink import HEADER, Interrupted
from agent.dataplane.script import Command
from agent.dataplane.skeleton import ELEMENT_SETS, SKELETON

_ERROR, _DONE, _ENTRY = 2, 3, 0xA0C
DONE = HEADER.pack(20, _DONE, 2, 1, 0) + pack("=i", 0)


def entry(body: bytes = b"abcd", flags: int = 2) -> bytes:
    return HEADER.pack(16 + len(body), _ENTRY, flags, 1, 0) + body


def error(code: int) -> bytes:
    return HEADER.pack(36, _ERROR, 0, 1, 0) + pack("=i", -code) + HEADER.pack(16, _ENTRY, 1, 1, 0)


def told(*datagrams: bytes, room: int = 1 << 16) -> list[bytes]:
    """What is made of these datagrams."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        for datagram in datagrams:
            theirs.send(datagram)
        theirs.shutdown(socket.SHUT_WR)
        return [bytes(data[start:end]) for data, start, end in netlink.answers(ours, netlink.new_buffer(room))]


def test_an_answer_of_several_datagrams_is_read_to_its_end():
    assert told(entry(b"abcd") + entry(b"ef  "), entry(b"gh  ") + DONE) == [
        entry(b"abcd"),
        entry(b"ef  "),
        entry(b"gh  "),
    ]


def test_an_acknowledgement_ends_the_answer():
    assert told(entry(), error(0)) == [entry()]


@pytest.mark.parametrize(
    ("datagrams", "room"),
    [
        ([entry(), entry(flags=0x12), DONE], 1 << 16),
        ([entry(), HEADER.pack(20, _DONE, 0x12, 1, 0) + pack("=i", 0)], 1 << 16),
        ([error(errno.EINTR)], 1 << 16),
        ([entry()[:-2]], 1 << 16),
        ([entry() + entry()[:10] + bytes(6)], 1 << 16),
        ([entry(bytes(100)) + DONE], 64),
    ],
    ids=[
        "changed-meanwhile",
        "changed-at-the-end",
        "interrupted",
        "cut-off",
        "cut-off-header",
        "larger-than-the-buffer",
    ],
)
def test_an_answer_that_is_not_whole_is_noticed(datagrams, room):
    with pytest.raises(Interrupted):
        told(*datagrams, room=room)


class Overrun(socket.socket):
    """A socket whose kernel had more to say than it could hold."""

    def recv_into(self, *_arguments):
        raise OSError(errno.ENOBUFS, "No buffer space available")


def test_messages_that_were_lost_are_noticed():
    with Overrun(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, pytest.raises(Interrupted):
        list(netlink.answers(sock, netlink.new_buffer()))


def test_an_error_of_the_kernel_is_told():
    with pytest.raises(PermissionError, match="netfilter cannot be read"):
        told(error(errno.EPERM))


def test_what_is_not_whole_is_read_again_and_not_for_ever():
    answers = iter([[entry(flags=0x12)], [entry(), entry()[:-2]], [entry(), DONE]])
    assert netlink.steadily(lambda: told(*next(answers))) == [entry()]
    attempts = []

    def never() -> None:
        attempts.append(1)
        told(error(errno.EINTR))

    with pytest.raises(Interrupted):
        netlink.steadily(never)
    assert len(attempts) == 10


def test_every_set_of_the_skeleton_has_its_layout():
    assert set(SETS) == set(ELEMENT_SETS)
    for name, layout in SETS.items():
        declared = next(line for line in SKELETON.splitlines() if f" {name} {{" in line)
        assert declared.split()[0] == ("map" if layout.value not in ((), "ceiling") else "set")
        assert declared.split(";")[0].split(" : ")[0].count(" . ") == len(layout.key) - 1


WORDS = {
    IPV4: st.ip_addresses(v=4).map(str),
    IPV6: st.ip_addresses(v=6).map(str),
    PORT: st.integers(0, 0xFFFF).map(str),
    NUMBER: st.integers(0, 0xFFFFFFFF).map(str),
    ORDERED: st.integers(0, 0xFFFFFFFF).map(str),
    LINK: st.from_regex(r'"[A-Za-z0-9_.@-]{1,15}"', fullmatch=True),
    PROTOCOL: st.sampled_from(["tcp", "udp", "sctp", "1", "47"]),
    CLASS: st.builds("{:x}:{:x}".format, st.integers(0, 0xFFFF), st.integers(0, 0xFFFF)),
    DIRECTION: st.sampled_from(["original", "reply"]),
}


@given(st.data())
def test_keys_and_values_are_the_same_after_packing_and_unpacking(data):
    layout = SETS[data.draw(st.sampled_from(sorted(SETS)))]
    key = " . ".join(data.draw(WORDS[part]) for part in layout.key)
    assert layout.unpack_key(layout.pack_key(key)) == key
    if layout.value and not isinstance(layout.value, str):
        value = " . ".join(data.draw(WORDS[part]) for part in layout.value)
        assert layout.unpack_value(layout.pack_value(value)) == value


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
def test_a_ceiling_is_the_same_after_packing_and_unpacking(rate, burst, count):
    word = f"limit rate over {rate} bytes/second burst {burst} bytes"
    packed = expressions.ceiling(word)
    assert expressions.ceiling_of(memoryview(packed)) == word
    content = netlink.attribute(2, count.to_bytes(8, "big"))
    counted = netlink.attribute(1, netlink.attribute(1, b"counter\0") + netlink.attribute(2, content))
    assert expressions.packets(memoryview(counted)) == count
    with pytest.raises(ValueError, match="no ceiling"):
        expressions.ceiling(f"{word}; flush ruleset")
    for wrong in (b"", counted):
        with pytest.raises(ValueError, match="without the ceiling"):
            expressions.ceiling_of(memoryview(wrong))
    with pytest.raises(ValueError, match="without a counter"):
        expressions.packets(memoryview(packed))


def test_a_part_is_padded_among_others_and_not_alone():
    assert Layout((PORT,)).pack_key("80") == b"\0\x50"
    assert Layout((IPV4, PROTOCOL, PORT)).pack_key("10.0.0.1 . tcp . 80") == b"\x0a\0\0\x01\x06\0\0\0\0\x50\0\0"


def test_ranges_of_keys_have_two_ends():
    assert ends("10.0.0.1 . tcp . 80-90") == ("10.0.0.1 . tcp . 80", "10.0.0.1 . tcp . 90")
    assert span(*ends("10.0.0.1 . tcp . 80-90")) == "10.0.0.1 . tcp . 80-90"
    assert ends("7 . 10.0.0.0/8") == ("7 . 10.0.0.0", "7 . 10.255.255.255")
    assert span(*ends("7 . 10.0.0.0/8")) == "7 . 10.0.0.0/8"
    assert span(*ends("7 . fd00::/17")) == "7 . fd00::/17"
    assert span("7 . 10.0.0.1", "7 . 10.0.0.2") == "7 . 10.0.0.1-10.0.0.2"
    assert span(*ends('"br-lan.7" . 10.0.0.0/8')) == '"br-lan.7" . 10.0.0.0/8'
    assert span(*ends("fd00::1 . udp . 53")) == "fd00::1 . udp . 53"


@pytest.mark.parametrize("data", [b"", b"\0" * 3, b"\0" * 5])
def test_bytes_that_are_no_key_are_refused(data):
    with pytest.raises(ValueError, match="expected"):
        SETS["hosts4"].unpack_key(data)


@pytest.mark.parametrize(
    ("set_name", "key", "element"),
    [
        ("services4", "fd00::1 . tcp . 80", ("1", "")),
        ("services4", "10.0.0.1 . tcp", ("1", "")),
        ("services4", "10.0.0.1 . tcp . 65536", ("1", "")),
        ("buckets", "1 . 4294967296", ("1", "")),
        ("buckets", "1", ("1", "")),
        ("hosts4", "1", ("a name", "")),
        ("hosts4", "x", ("10.0.0.1", "")),
        ("pickers", "1", ("return", "")),
        ("pickers", "1", ("goto refuse", "c" * 129)),
        ("near4", '"a-name-too-long1" . 10.0.0.0/8', ("", "")),
        ("near4", '"" . 10.0.0.0/8', ("", "")),
        ("arms", '"eth0" . "eth0"', ("", "")),
        ("nosuchset", "1", ("1", "")),
    ],
)
def test_what_the_kernel_cannot_be_told_is_refused_with_its_command(set_name, key, element):
    command = Command("add", set_name, {key: element}, "web")
    with pytest.raises(elements.Unwritable) as refusal:
        elements.Batch([command])
    assert refusal.value.command is command
