# SPDX-License-Identifier: GPL-2.0-or-later
"""Labels, help, units, ranges and choices, as the model says them: forms and documents can't drift apart."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from agent.model import Configuration

_OPTION = re.compile(r"`([^`]+)`:\s*([^`]+?)(?=\s*`|$)")


@dataclass(frozen=True)
class Option:
    """One of the values a field can have. `help` is empty where the model says nothing about it."""

    value: str
    help: str


@dataclass(frozen=True)
class Words:
    """What the model says about a field. `default` is None where there is none, or where it is null."""

    title: str
    help: str
    unit: str
    low: float | None
    high: float | None
    default: Any
    options: tuple[Option, ...]
    optional: bool = False
    """Whether it may be null."""
    rows: int = 0
    """So many lines its text takes; 0 for one that has a single one."""
    secret: str = ""
    """The kind of secret that it names, if it names one."""

    @property
    def range(self) -> str:
        """The range in words, such as "1 to 256", or ""."""
        if self.low is None or self.high is None:
            return ""
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.low:.12g} to {self.high:.12g}{unit}"


@cache
def words(part: str, field: str) -> Words:
    """What the model says about `field` of `part` ("Farm", "Backend", ...). Raises KeyError for unknown ones."""
    schema = _schema()["$defs"][part]["properties"][field]
    inner = _inner(schema)
    text = str(schema.get("description", ""))
    said = dict(_OPTION.findall(text))
    values = inner.get("enum", ())
    return Words(
        title=str(schema.get("title", field)),
        help="" if said and values else text,
        unit=str(inner.get("unit", schema.get("unit", ""))),
        low=inner.get("minimum"),
        high=inner.get("maximum"),
        default=schema.get("default"),
        options=tuple(Option(value, _sentence(said.get(value, ""))) for value in values),
        optional={"type": "null"} in schema.get("anyOf", ()),
        rows=schema.get("rows", 0),
        secret=str(inner.get("secret", "")),
    )


def kind(part: str, field: str) -> str:
    """What a field holds, as JSON schema calls it ("integer", "array", ...); "enum" for one of a few values."""
    schema = _schema()["$defs"][part]["properties"][field]
    if "enum" in (inner := _inner(schema)) and schema.get("type") != "array":
        return "enum"
    return str(schema.get("type") or inner.get("type", "string"))


def title(part: str, field: str) -> str:
    """The title of a field, or its name: documents may come from another version of the software."""
    try:
        return words(part, field).title
    except KeyError:
        return field


@cache
def _schema() -> Mapping[str, Any]:
    return Configuration.model_json_schema()


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _inner(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of the value itself: of a list's items, or of what may also be null."""
    if "items" in schema:
        return _inner(schema["items"])
    choices = [choice for choice in schema.get("anyOf", ()) if choice.get("type") != "null"]
    return choices[0] if len(choices) == 1 else schema
