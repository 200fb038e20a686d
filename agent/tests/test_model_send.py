# SPDX-License-Identifier: GPL-2.0-or-later
"""What checks may send, and what a UDP check may say."""

import pytest
from documents import document, faults
from hypothesis import given
from hypothesis import strategies as some

from agent.model import UdpCheck, validate
from agent.model.checks.send import bytes_of

UDP = {"type": "udp", "port": 53}


def check_faults(check):
    return [
        (place.removeprefix("/farms/web/checks/0/"), told)
        for place, told in faults(document(web={"checks": [check], "protocols": ["tcp"]}))
    ]


@given(some.binary(max_size=64))
def test_all_bytes_can_be_written_in_either_way(data):
    assert bytes_of(data.hex(" "), "hex") == bytes_of(data.hex(), "hex") == data
    assert bytes_of("".join(f"\\x{byte:02X}" for byte in data), "text") == data


@given(some.text(some.characters(exclude_characters="\\"), max_size=64))
def test_text_without_escapes_is_itself_or_is_refused(text):
    if text == text.strip() and text.isprintable():
        assert bytes_of(text, "text") == text.encode()
    else:
        with pytest.raises(ValueError, match=r"write them like"):
            bytes_of(text, "text")


def test_escapes():
    assert bytes_of(r"PING\r\n\t\0\x7f\\x41 é", "text") == "PING\r\n\t\0\x7f\\x41 é".encode()
    assert bytes_of("", "text") == bytes_of("", "hex") == b""


def test_everything_can_be_said():
    said = {"send": r"\xff status", "encoding": "text", "answer": "required", "expect": r"^\xff"}
    (check,) = validate(document(web={"checks": [UDP | said]})).farms["web"].checks
    assert isinstance(check, UdpCheck)
    assert check.payload == b"\xff status"
    assert check.model_dump(mode="json").items() >= (UDP | said).items()


@pytest.mark.parametrize(
    ("fields", "place", "words"),
    [
        ({"send": r"\q"}, "send", "begins nothing"),
        ({"send": "a\\"}, "send", "begins nothing"),
        ({"send": r"\x4"}, "send", "begins nothing"),
        ({"send": "a\r\n"}, "send", r"\r, \n"),
        ({"send": "a\u2028b"}, "send", "control characters"),
        ({"send": " a"}, "send", r"\x20"),
        ({"send": "0d0", "encoding": "hex"}, "send", "two for each byte"),
        ({"send": r"\r\n", "encoding": "hex"}, "send", "hexadecimal"),
        ({"send": "é" * 513}, "send", "is 1026 bytes; make it at most 1024"),
        ({"send": "00" * 1025, "encoding": "hex"}, "send", "at most 1024"),
        ({"send": "0" * 4097, "encoding": "hex"}, "send", "4096"),
        ({"encoding": "base64"}, "encoding", "hex"),
        ({"answer": "none"}, "answer", "optional"),
        ({"expect": r"\x{100}"}, "expect", "is not a pattern of RE2"),
        ({"expect": "("}, "expect", "is not a pattern of RE2"),
        ({"answer": "optional", "expect": "a"}, "expect", "no use"),
        ({"port": None}, "port", "does not serve UDP"),
    ],
)
def test_what_cannot_be_said(fields, place, words):
    (found,) = check_faults(UDP | fields)
    assert found[0] == place
    assert words in found[1]


def test_a_farm_that_serves_udp_needs_no_port():
    assert validate(document(dns={"protocols": ["udp"], "ports": [53], "checks": [{"type": "udp"}]}))


@pytest.mark.parametrize(
    ("fields", "place", "words"),
    [
        ({"expect": None}, "expect", "text"),
        ({"expect": ""}, "expect", "1 character"),
        ({"banner": r"(a)\1"}, "banner", "backreferences"),
        ({"send": "a\n"}, "send", "control characters"),
    ],
)
def test_what_a_dialogue_cannot_say(fields, place, words):
    (found,) = check_faults({"type": "expect", "expect": "ok"} | fields)
    assert found[0] == place
    assert words in found[1]


def test_a_dialogue_needs_what_it_expects():
    assert check_faults({"type": "expect"}) == [("expect", "is missing; it must be given")]
