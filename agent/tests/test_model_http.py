# SPDX-License-Identifier: GPL-2.0-or-later
"""What an HTTP check may say."""

import pytest
from documents import document, faults

from agent.model import validate

CHECK = {"type": "http"}


def check_faults(**fields):
    found = faults(document(web={"checks": [CHECK | fields]}))
    return [(place.removeprefix("/farms/web/checks/0/"), told) for place, told in found]


def test_everything_can_be_said():
    said = {
        "method": "OPTIONS",
        "path": "/health?full=1&x=%20",
        "host": "[2001:db8::1]:8080",
        "headers": {"Authorization": "Bearer x", "X-Empty": ""},
        "statuses": [200, "204", "301-399"],
        "redirects": "follow",
        "body": r"(?i)status:\s+ok$",
    }
    (check,) = validate(document(web={"checks": [CHECK | said]})).farms["web"].checks
    assert check.model_dump(mode="json").items() >= (said | {"statuses": ["200", "204", "301-399"]}).items()
    assert [check.is_well(status) for status in (200, 201, 204, 300, 301, 399, 400)] == [1, 0, 1, 0, 1, 1, 0]


@pytest.mark.parametrize(
    ("fields", "place", "words"),
    [
        ({"path": "health"}, "path", "begin with a slash"),
        ({"path": "/a\r\nX: y"}, "path", "is not a path"),
        ({"path": "/a b"}, "path", "%20"),
        ({"path": "/" + "a" * 1024}, "path", "1024"),
        ({"host": "a\r\nb"}, "host", "www.example.com"),
        ({"host": "a/b"}, "host", "is not a host"),
        ({"headers": {"X Y": "1"}}, "headers/X Y", "name of a header"),
        ({"headers": {"Host": "a"}}, "headers/Host", "field of its own"),
        ({"headers": {"content-length": "1"}}, "headers/content-length", "by the check itself"),
        ({"headers": {"X": "a\r\nY: b"}}, "headers/X", "printable"),
        ({"statuses": ["99"]}, "statuses/0", '"200-399"'),
        ({"statuses": [600]}, "statuses/0", "is no status"),
        ({"statuses": ["300-200"]}, "statuses/0", "upside down"),
        ({"statuses": []}, "statuses", "at least 1"),
        ({"method": "POST"}, "method", "GET"),
        ({"body": "("}, "body", "is not a pattern of RE2"),
        ({"body": r"(a)\1"}, "body", "backreferences"),
        ({"body": "(?=a)"}, "body", "look-around"),
        ({"body": "((a{1000}){1000}){9}"}, "body", "is not a pattern"),
        ({"body": "a "}, "body", r"\x20"),
        ({"body": "a\nb"}, "body", r"\n"),
        ({"body": ""}, "body", "1 character"),
        ({"timeout": 9.0}, "timeout", "interval"),
        ({"port": 0}, "port", "1"),
    ],
)
def test_what_cannot_be_is_told_at_its_field(fields, place, words):
    ((found, told),) = check_faults(**fields)
    assert found == place
    assert words in told
