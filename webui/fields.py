# SPDX-License-Identifier: GPL-2.0-or-later
"""Fields of forms that stand for fields of the model: labels, help and defaults come from there.

Each kind knows both ways: `shown` is what the form begins with for a value of the model, `content` what the document
has for what was typed. What is a number is sent as one, anything else as text: so every fault is found by the model, in
its words, and none is told here a second time.
"""

import re
from collections.abc import Iterator
from typing import Any

from wtforms import BooleanField, Field, Form, RadioField, SelectField, SelectMultipleField, StringField
from wtforms.widgets import CheckboxInput, ListWidget

from agent.model import rate_words
from webui.describe import words
from webui.names import option_title

_WHOLE = re.compile(r"[+-]?[0-9]{1,15}")
_JOINED = re.compile(r"\[?(?P<address>[0-9]+\.[0-9.]+|(?<=\[)[^\s\]]+(?=\]))\]?:(?P<port>\S+)")
_APART = re.compile(r"(?P<address>\S+)(\s+(?P<port>\S+))?")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,15}\.[0-9]{1,15}")


def number(text: str | None) -> Any:
    """`text` as a number if it is one; as it is otherwise; None when there is none."""
    typed = (text or "").strip()
    if _WHOLE.fullmatch(typed):
        return int(typed)
    return float(typed) if _DECIMAL.fullmatch(typed) else (typed or None)


def several(text: str | None) -> list[str]:
    """The words of a list that was typed with commas, spaces or line ends."""
    return [word for word in re.split(r"[\s,;]+", text or "") if word]


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


class Text(StringField):
    """A text; nothing typed is an empty one."""

    shown = staticmethod(_plain)

    def content(self) -> Any:
        """What was typed, without spaces around it."""
        return (self.data or "").strip()


class Word(Text):
    """A text that may be left out."""

    def content(self) -> str | None:
        """What was typed; None for nothing."""
        return super().content() or None


class Number(StringField):
    """A number; the model's default when nothing is typed."""

    shown = staticmethod(_plain)

    def __init__(self, *arguments: Any, fallback: Any = None, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._fallback = fallback

    def content(self) -> Any:
        """The number, or what was typed where one is wanted."""
        return number(self.data) if (self.data or "").strip() else self._fallback


class Rate(Number):
    """A rate in bit/s, which may be typed as 20M."""

    @staticmethod
    def shown(value: Any) -> str:
        """As people write it."""
        return "" if value is None else rate_words(value)


class Flag(BooleanField):
    """A yes or no."""

    shown = staticmethod(bool)

    def content(self) -> bool:
        """Whether it is set."""
        return bool(self.data)


class Choice(RadioField):
    """One of a few values, each with its explanation."""

    shown = staticmethod(str)

    def content(self) -> Any:
        """The value."""
        return self.data


class Menu(SelectField):
    """One of a few values, in a menu."""

    shown = staticmethod(str)

    def content(self) -> Any:
        """The value."""
        return self.data


class Ticks(SelectMultipleField):
    """Any of a few values."""

    @staticmethod
    def shown(value: Any) -> list[str]:
        """The values."""
        return list(value)

    def content(self) -> list[str]:
        """The values."""
        return list(self.data or ())


class Words(StringField):
    """A list: one entry a line, or with commas or spaces between."""

    @staticmethod
    def shown(value: Any) -> str:
        """A line for each."""
        return "\n".join(map(str, value))

    def content(self) -> list[Any]:
        """The entries."""
        return several(self.data)


class Numbers(StringField):
    """A list with numbers in it."""

    @staticmethod
    def shown(value: Any) -> str:
        """All on one line."""
        return ", ".join(map(str, value))

    def content(self) -> list[Any]:
        """The entries; what is a number is one."""
        return [number(word) for word in several(self.data)]


class Pairs(StringField):
    """A mapping: a line for each, name and value."""

    @staticmethod
    def shown(value: Any) -> str:
        """A line for each."""
        return "\n".join(f"{key} {entry}" for key, entry in value.items())

    def entries(self) -> list[tuple[str, str]]:
        """Name and value of each line, also of names that stand twice."""
        lines = [line.split(maxsplit=1) for line in (self.data or "").splitlines() if line.strip()]
        return [(line[0], line[1].strip() if len(line) > 1 else "") for line in lines]

    def content(self) -> dict[str, str]:
        """Value by name."""
        return dict(self.entries())


class Servers(StringField):
    """Servers: a line for each, address and port if it has one of its own."""

    @staticmethod
    def shown(value: Any) -> str:
        """A line for each."""
        return "\n".join(" ".join(map(str, filter(None, (each.address, each.port)))) for each in value)

    def content(self) -> list[dict[str, Any]]:
        """Address and port of each line; also as 192.0.2.9:80 and [2001:db8::9]:80."""
        lines = [line.strip() for line in (self.data or "").splitlines() if line.strip()]
        typed = [(_JOINED.fullmatch(line) or _APART.fullmatch(line)) for line in lines]
        return [
            {"address": match["address"], "port": number(match["port"])} if match else {"address": line, "port": None}
            for line, match in zip(lines, typed, strict=True)
        ]


def described(kind: type[Field], part: str, field: str, **more: Any) -> Any:
    """A field of this kind for `field` of `part` of the model."""
    said = words(part, field)
    label = more.pop("label", said.title)
    if kind in (Choice, Menu, Ticks):
        more["choices"] = [(option.value, option_title(option.value)) for option in said.options]
        more["validate_choice"] = False
    if kind is Ticks:
        more.update(option_widget=CheckboxInput(), widget=ListWidget(prefix_label=False))
    if kind is Number:
        more["fallback"] = said.default
    default = "" if said.default is None else getattr(kind, "shown", _plain)(said.default)
    return kind(label, description=said.help, default=default, **more)


def of_model(form: Form) -> Iterator[Field]:
    """The fields of a form that stand under the model's name for one of its fields."""
    return (field for field in form if hasattr(field, "content") and hasattr(field, "shown"))


def content(form: Form) -> dict[str, Any]:
    """What the document has for those fields."""
    return {field.short_name: field.content() for field in of_model(form)}


def shown(form: type[Form], value: Any) -> dict[str, Any]:
    """What those fields of a form begin with, for a part of a document."""
    kinds = {name: kind.field_class for name in dir(form) if hasattr(kind := getattr(form, name), "field_class")}
    return {
        name: kind.shown(getattr(value, name))
        for name, kind in kinds.items()
        if hasattr(kind, "content") and hasattr(value, name)
    }
