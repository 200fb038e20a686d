# SPDX-License-Identifier: GPL-2.0-or-later
"""Text that is no document, and input that means harm."""

import json
import re
import resource
from pathlib import Path

import pytest
from documents import faults

from agent.model import MAX_BYTES, Codec, Configuration, Fault, Invalid, canonical, parse, validate
from agent.model.text import MAX_FAULTS, TOO_MANY


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"{}{}", "is not JSON"),
        (b'{"version":1,}', "is not JSON"),
        (b"\xff\xfe{}", "is not UTF-8 text (byte 0)"),
        (b'{"system":{"hostname":"\xe4"}}', "is not UTF-8 text (byte 23)"),
        ('{"version":1}'.encode("utf-16"), "is not UTF-8"),
        (b"\x00", "is not JSON"),
        (b'{"version":NaN}', "NaN is not a JSON number"),
        (b'{"version":-Infinity}', "-Infinity is not a JSON number"),
        (b'{"version":1,"version":1}', '"version" stands twice'),
        (b'{"farms":{"a":1,"b":2,"a":1}}', '"a" stands twice'),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"version":' + b"9" * 5000 + b"}", "not a JSON document"),
        (b" " * (MAX_BYTES + 1), "is larger than"),
    ],
)
def test_text_that_is_no_document(text, words):
    with pytest.raises(Invalid) as caught:
        parse(text)
    (fault,) = caught.value.faults
    assert fault.pointer == ""
    assert words in fault.message


def test_ten_thousand_farms_of_ten_backends_fit_with_every_field_and_the_web_server_passes_them_on():
    backends = {
        f"backend-{number:02d}": {"address": f"172.16.100.{number + 100}", "port": 8443} for number in range(10)
    }
    farm = {"addresses": ["192.0.2.100"], "ports": [443], "checks": [{}], "backends": backends}
    one, two = (
        len(
            canonical(validate({"farms": {f"farm-{number:05d}": farm | {"enabled": False} for number in range(count)}}))
        )
        for count in (1, 2)
    )
    assert one + 9_999 * (two - one) < MAX_BYTES
    served = (Path(__file__).parents[2] / "mkosi.extra/usr/lib/sluice/nginx.conf").read_text()
    (passed,) = re.findall(r"location /api/ \{[^}]*client_max_body_size (\d+)m;", served)
    assert int(passed) << 20 == MAX_BYTES


def test_text_may_begin_with_a_byte_order_mark():
    assert parse(b'\xef\xbb\xbf{"version":1}') == Configuration()


@pytest.mark.parametrize("content", [None, 1, 1.5, True, "text", [], [[]]])
def test_a_document_is_an_object(content):
    assert faults(content) == [("", "must be an object")]


@pytest.mark.parametrize("depth", [100, 500, 900, 940, 960, 970, 980, 985, 990, 995, 1000])
@pytest.mark.parametrize("signs", [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize(
    "place", ['{"version":%s}', '{"farms":{"a":%s}}', '{"farms":{"a":{"ports":[%s]}}}', '{"b":%s}']
)
def test_nesting_of_any_depth_is_a_fault(depth, signs, place):
    with pytest.raises(Invalid):
        parse(place % (signs[0] * depth + "1" + signs[1] * depth))


@pytest.mark.parametrize("part", ["farms", "network_lists"])
def test_nesting_that_is_read_but_not_written_is_a_fault(part, monkeypatch):
    content = 1
    for _ in range(3000):
        content = [content]
    # Python 3.11 does not read that deep, 3.13 does.
    monkeypatch.setattr("agent.model.text.load", lambda _: {part: {"a": content}})
    with pytest.raises(Invalid) as caught:
        Codec().parse("")
    assert caught.value.faults == [Fault(f"/{part}", "is nested too deeply")]


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1e-999", "9" * 400, "9" * 4000, "-0", "0.5", "1e0"])
def test_odd_numbers_are_faults(number):
    with pytest.raises(Invalid) as caught:
        parse('{"farms":{"a":{"addresses":["192.0.2.1"],"ports":[N],"checks":[{"rise":N}]}}}'.replace("N", number))
    assert [fault.pointer for fault in caught.value.faults] == ["/farms/a/checks/0/rise", "/farms/a/ports/0"]
    if number != "0.5" and number != "1e0":
        with pytest.raises(Invalid) as caught:
            parse(
                '{"farms":{"a":{"addresses":["192.0.2.1"],"ports":[1],"checks":[{"interval":N}]}}}'.replace("N", number)
            )
        assert "/farms/a/checks/0/interval" in [fault.pointer for fault in caught.value.faults]


def test_surrogates_cannot_break_what_is_told():
    for text in ('{"\\ud800":1}', '{"farms":{"\\ud800":1}}', '{"system":{"hostname":"\\ud800"}}'):
        with pytest.raises(Invalid) as caught:
            parse(text)
        for fault in caught.value.faults:
            fault.message.encode()
            fault.pointer.encode()


def test_the_list_of_faults_is_bounded():
    assert len(faults({f"x{count}": 1 for count in range(1000)})) == MAX_FAULTS


def test_a_flood_of_faults_takes_little_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    links = json.dumps({"links": {f"{count:x}": 1 for count in range(300_000)}})
    with pytest.raises(Invalid) as caught:
        parse(links)
    assert "too many to list" in caught.value.faults[0].message
    assert len(caught.value.faults) == 1
    assert len(links) // 2 > TOO_MANY
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


def test_many_names_with_one_twice_are_found_quickly():
    names = ",".join(f'"{count:x}":1' for count in range(200_000))
    with pytest.raises(Invalid, match="stands twice"):
        parse('{"farms":{' + names + ',"0":1}}')
