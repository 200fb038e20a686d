# SPDX-License-Identifier: GPL-2.0-or-later
"""Differences of documents in words: pure. Titles come from the model."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agent.model import CHECKS, Change
from webui.check_form import check_words
from webui.describe import title
from webui.faults import split
from webui.figures import address_port
from webui.names import value_words

Kind = Literal["added", "removed", "changed"]


@dataclass(frozen=True)
class Line:
    """One difference, as people read it: `subject` is what it is about ("Farm web"), `field` which of its fields."""

    subject: str
    field: str
    kind: Kind
    before: str
    after: str


def lines(changes: Iterable[Change]) -> list[Line]:
    """Every difference as a line; what came or went as a whole is told field by field."""
    return [line for change in changes for line in _lines(change)]


def summary(changes: Sequence[Change]) -> str:
    """What changed, in a few words: "Farm web added, farm api changed"."""
    subjects: dict[str, str] = {}
    for change in changes:
        path = split(change.pointer)
        whole = len(path) == 2 and path[0] in _PARTS
        subject = _subject(path[:2])
        subjects[subject] = change.kind if whole else "changed"
    told = [f"{subject} {kind}" for subject, kind in subjects.items()]
    if len(told) > 3:
        told = [*told[:3], f"and {len(told) - 3} more"]
    return ", ".join(told) or "Nothing changed"


_PARTS = {"farms": "Farm", "links": "Link", "system": "System", "network_lists": "Network list"}
_MODELS = {"farms": "Farm", "links": "Link", "network_lists": "NetworkList"}
_INNER = {"Farm": {"backends": "Backend"}}
_NONE = "–"


def _lines(change: Change) -> Iterator[Line]:
    path = split(change.pointer)
    before, after = change.before, change.after
    if change.kind == "changed":
        subject, field = _name(path)
        yield Line(subject, field, "changed", _text(before), _text(after))
        return
    for inner, value in _leaves(path, after if change.kind == "added" else before):
        subject, field = _name(inner)
        text = _text(value)
        yield Line(
            subject, field, change.kind, "" if change.kind == "added" else text, text if change.kind == "added" else ""
        )


def _leaves(path: list[str], value: Any) -> Iterator[tuple[list[str], Any]]:
    """The fields of a part that came or went, without those that say nothing; a server is one line."""
    server = len(path) == 4 and path[2] == "backends"
    if not isinstance(value, dict) or server:
        yield path, value
        return
    for key, inner in value.items():
        if inner not in (None, [], {}):
            yield from _leaves([*path, key], inner)


def _subject(path: Sequence[str]) -> str:
    match path:
        case ["system", *_]:
            return "System"
        case [part, name, *_] if part in _PARTS:
            return f"{_PARTS[part]} {name}"
        case _:
            return " ".join(path) or "Document"


def _name(path: list[str]) -> tuple[str, str]:
    """What a path is about, and the title of the field it ends at."""
    match path:
        case ["farms", _, "backends", backend, *field]:
            return _subject(path), " · ".join([f"Backend {backend}", *(title("Backend", name) for name in field[:1])])
        case [part, _, field, *_] if part in _MODELS:
            return _subject(path), title(_MODELS[part], field)
        case ["system", field, *_]:
            return "System", title("System", field)
        case [part, _] if part in _PARTS:
            return _subject(path), ""
        case _:
            return _subject(path[:2]), " ".join(path[2:])


def _text(value: Any) -> str:
    match value:
        case list():
            return ", ".join(_text(item) for item in value) or "none"
        case dict():
            return _part(value)
        case _:
            return value_words(value)


def _part(part: dict[str, Any]) -> str:
    """A check or a backend in a line; anything else as it stands in the document."""
    if part.get("type") in CHECKS:
        return check_words(part)
    if "address" in part:
        where = address_port(str(part["address"]), part.get("port"))
        if "weight" not in part:
            return where
        tier = f", tier {part['tier']}" if part.get("tier", 1) != 1 else ""
        most = f", at most {part['max_connections']} connections" if part.get("max_connections") else ""
        return f"{where}, weight {part['weight']}{tier}{most}, {_text(part.get('state')).lower()}"
    return ", ".join(f"{key} {_text(inner)}" for key, inner in part.items())
