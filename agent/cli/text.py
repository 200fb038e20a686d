# SPDX-License-Identifier: GPL-2.0-or-later
"""Answers of the API as text for a terminal of any kind: plain ASCII layout, no colours, no control characters."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any


def plain(value: object) -> str:
    """A value as it may be printed: what a terminal would act on is replaced by a question mark."""
    return "".join(character if character.isprintable() else "?" for character in str(value))


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[int] = ()) -> str:
    """Columns under a head, as wide as their contents; those in `right` (by index) are aligned to the right."""
    cells = [list(head), *([plain(cell) for cell in row] for row in rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(head))]

    def line(row: list[str]) -> str:
        parts = [
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(parts).rstrip()

    return "\n".join(line(row) for row in cells)


def count(number: int) -> str:
    """A count with a unit prefix of a thousand from ten thousand up: 9999, 12.3k, 4.5M."""
    return _scaled(number, 1000, ("", "k", "M", "G", "T", "P"), 10_000)


def size(number: int) -> str:
    """A number of bytes: 512 B, 1.5 KiB, 3.2 GiB."""
    return _scaled(number, 1024, (" B", " KiB", " MiB", " GiB", " TiB", " PiB"), 1024)


def duration(seconds: float) -> str:
    """A duration in its two largest units: 3 d 4 h, 5 min 6 s."""
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    whole = int(seconds)
    for index, (unit, length) in enumerate(units[:-1]):
        if whole >= length:
            smaller, smaller_length = units[index + 1]
            return f"{whole // length} {unit} {whole % length // smaller_length} {smaller}"
    return f"{whole} s"


def moment(text: str) -> str:
    """An RFC 3339 time in UTC to the second."""
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return plain(text)


def outline(value: Any, indent: str = "") -> Iterator[str]:
    """A JSON value as indented lines `name: value`."""
    if isinstance(value, Mapping):
        for name, content in value.items():
            yield from _entry(f"{indent}{plain(name)}:", content, indent)
    elif isinstance(value, list):
        for content in value:
            yield from _entry(f"{indent}-", content, indent)
    else:
        yield indent + scalar(value)


def _entry(head: str, content: Any, indent: str) -> Iterator[str]:
    if isinstance(content, Mapping | list) and content:
        if isinstance(content, list) and not any(isinstance(item, Mapping | list) for item in content):
            yield f"{head} {', '.join(scalar(item) for item in content)}"
        else:
            yield head
            yield from outline(content, indent + "  ")
    else:
        yield f"{head} {scalar(content)}"


def scalar(value: Any) -> str:
    """A JSON value on one line; texts without their quotes."""
    if isinstance(value, str):
        return plain(value)
    if value is None or value in ({}, []):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return plain(json.dumps(value, ensure_ascii=False))


def _scaled(number: int, base: int, units: Sequence[str], start: int) -> str:
    if number < start:
        return f"{number}{units[0]}"
    value, index = float(number), 0
    while value >= base and index < len(units) - 1:
        value, index = value / base, index + 1
    return f"{value:.1f}{units[index]}"
