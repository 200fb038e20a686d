# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks in the farm's form and in words: each kind has the fields that the model says, in the model's words."""

from collections.abc import Iterator, Mapping
from typing import Any

from wtforms import Field, Form, FormField, HiddenField

from agent.model import CHECKS, Check
from webui import fields
from webui.describe import kind as held
from webui.describe import title, words
from webui.fields import Choice, Flag, Menu, Number, Pairs, Text, Word, Words, described
from webui.names import value_words

DEFAULT = "tcp"
"""The kind that a check without a type is of."""

_PACE = {"interval", "timeout", "rise", "fall"}

KINDS = {name: str(kind.model_config["title"]) for name, kind in CHECKS.items()}
"""How people call each kind."""


class CheckForm(Form):
    """A check. Its fields are those of its kind."""

    type = HiddenField()
    part = ""
    """The class of the model that it stands for."""

    @property
    def heading(self) -> str:
        """How its kind is called."""
        return KINDS[self.type.data]

    @property
    def drawn(self) -> list[Field]:
        """Its fields in the order of the page: what only this kind has, then what all have."""
        return sorted(fields.of_model(self), key=lambda field: field.short_name in Check.model_fields)

    def content(self) -> dict[str, Any]:
        """The check as the document has it."""
        return {"type": self.type.data} | fields.content(self)


def _form(part: type[Check]) -> type[CheckForm]:
    """The form of a kind, made of the model."""
    names = [name for name in part.model_fields if name != "type"]
    if taken := [name for name in names if hasattr(CheckForm, name)]:
        raise LookupError(f"forms have something else by the name of {', '.join(taken)}; call the field otherwise")
    return type(part.__name__ + "Form", (CheckForm,), {"part": part.__name__, **dict(_fields(part.__name__, names))})


def _fields(part: str, names: list[str]) -> Iterator[tuple[str, Any]]:
    for name in names:
        said = words(part, name)
        text = Word if said.optional else Text
        kinds: dict[str, type[Field]] = {
            "integer": Number,
            "number": Number,
            "boolean": Flag,
            "array": Words,
            "object": Pairs,
            "enum": Choice if any(option.help for option in said.options) else Menu,
        }
        yield name, described(kinds.get(held(part, name), text), part, name)


_FORMS = {name: _form(kind) for name, kind in CHECKS.items()}


class CheckField(FormField):
    """The form of a check, of the kind that was sent or that the document has."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(CheckForm, *arguments, **more)

    def process(self, formdata: Any, data: Any = None, extra_filters: Any = None) -> None:
        """Read what was sent; else begin with `data`, the fields by name."""
        data = data or {}
        sent = formdata.get(f"{self.name}{self.separator}type") if formdata else None
        kind = sent or data.get("type", DEFAULT)
        kind = kind if kind in _FORMS else DEFAULT
        self.form_class = _FORMS[kind]
        super().process(formdata, {**data, "type": kind}, extra_filters)
        self.form["type"].data = kind


def check_data(check: Check) -> dict[str, Any]:
    """What the form begins with, for a check of a document."""
    return {"type": check.type} | fields.shown(_FORMS[check.type], check)


def check_words(content: Mapping[str, Any]) -> str:
    """A check of a document in a line; what its kind has and says as the model does without it, is left out."""
    kind = CHECKS[content["type"]]
    said = [
        _setting(kind.__name__, name, content[name])
        for name in sorted(content.keys() & kind.model_fields.keys() - _PACE - {"type"})
        if content[name] not in (None, [], {}, words(kind.__name__, name).default)
    ]
    pace = {name: value_words(content.get(name)) for name in _PACE}
    return (
        f"{', '.join([KINDS[content['type']], *said])} every {pace['interval']} s, timeout {pace['timeout']} s; "
        f"out after {pace['fall']} failed, back after {pace['rise']} good"
    )


def _setting(part: str, name: str, value: Any) -> str:
    """A setting in words, with its unit; one that is merely on is its title."""
    called, unit = title(part, name).lower(), words(part, name).unit
    return called if value is True else " ".join(filter(None, (called, value_words(value), unit)))
