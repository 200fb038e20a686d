# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers, times and pointers as people read them."""

from datetime import UTC, datetime, timedelta

import pytest

from agent.model import Farm
from webui.describe import words
from webui.faults import split
from webui.fields import number, several
from webui.figures import ago, bits, count, duration, milliseconds, moment, percent, rate, size
from webui.prose import prose
from webui.security import local


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0 bit/s"),
        (124.9, "999 bit/s"),
        (125, "1.00 kbit/s"),
        (1_562_500, "12.5 Mbit/s"),
        (1.25e11, "1.00 Tbit/s"),
    ],
)
def test_bits(value, text):
    assert bits(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.50 KiB"), (2**30 * 23.5, "23.5 GiB")]
)
def test_size(value, text):
    assert size(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (-5, "< 1 min"),
        (59, "< 1 min"),
        (60, "1 min"),
        (3600, "1 h"),
        (5400, "1 h 30 min"),
        (20000, "5 h"),
        (90000, "1 d 1 h"),
        (864000, "10 d"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_other_figures():
    assert [rate(None), rate(0), rate(0.04), rate(99.94), rate(99.96), rate(12345)] == [
        "–",
        "0",
        "0.0",
        "99.9",
        "100",
        "12\u202f345",
    ]
    assert [percent(0), percent(0.0123), percent(0.5), percent(1)] == ["0 %", "1.2 %", "50 %", "100 %"]
    assert [milliseconds(None), milliseconds(0.21), milliseconds(123.4)] == ["–", "0.2 ms", "123 ms"]
    assert count(1234567) == "1\u202f234\u202f567"
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert ago(noon - timedelta(hours=2), noon) == "2 h"
    assert moment(noon) == "2026-01-01 12:00:00 UTC"


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("", None),
        (" 80 ", 80),
        ("2.5", 2.5),
        ("-1", -1),
        ("1e3", "1e3"),
        ("nan", "nan"),
        ("\u0663", "\u0663"),
        ("9" * 5000, "9" * 5000),
        ("0x1", "0x1"),
    ],
)
def test_what_is_a_number_is_sent_as_one(typed, value):
    assert number(typed) == value
    assert type(number(typed)) is type(value)


def test_lists_are_typed_in_many_ways():
    assert several(" a,b;c\r\nd\t e,, ") == ["a", "b", "c", "d", "e"]
    assert several(None) == []


def test_pointers():
    assert split("") == []
    assert split("/farms/a~1b~0c/ports/0") == ["farms", "a/b~c", "ports", "0"]


def test_prose_is_escaped():
    assert prose("`a<b` & c") == "<code>a&lt;b</code> &amp; c"


@pytest.mark.parametrize("target", ["/", "/farms/web?x=1#y", "/snapshots?before=7"])
def test_local_paths_are_followed(target):
    assert local(target) == target


@pytest.mark.parametrize("target", [None, "", "farms", "//x", "/\\x", "/a\\b", "/\n/x", "https://x", "/" + "a" * 501])
def test_other_targets_are_not(target):
    assert local(target) == "/"


def test_what_an_option_does_is_told_in_whole_sentences():
    fields = [(name, option) for name in Farm.model_fields for option in words("Farm", name).options if option.help]
    assert {option.value for name, option in fields if name == "forwarding"} >= {"dnat", "snat", "direct"}
    assert not [(name, option) for name, option in fields if not option.help.endswith(".")]
