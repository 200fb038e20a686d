# SPDX-License-Identifier: GPL-2.0-or-later
"""The document as text: parsing with every fault, the canonical form, and differences."""

import hashlib
import json
import marshal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from agent.model.checks import CHECKS, PortCheck
from agent.model.document import Configuration
from agent.model.faults import Fault, Invalid, pointer
from agent.model.rules import faults as rule_faults

M = TypeVar("M", bound=BaseModel)

MAX_BYTES = 32 * 1024 * 1024
"""The largest document that is read or kept: with every field 10 000 farms of 10 backends take 20 MB."""

MAX_FAULTS = 100
"""A document that is wrong throughout is told so by its first hundred faults."""

TOO_MANY = 10_000
"""A document with more faults than this is told their number."""


def parse(text: bytes | str) -> Configuration:
    """Read a JSON document.

    Raises Invalid with every fault: too large, not JSON, a name twice in an object, and all that `validate` finds.
    """
    return validate(load(text))


def load(text: bytes | str) -> Any:
    """Read JSON text. Raises Invalid: too large, not JSON, a name twice in an object, a number that is none."""
    if len(text) > MAX_BYTES:
        raise Invalid([Fault("", f"is larger than {MAX_BYTES} bytes")])
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise Invalid([Fault("", f"is not UTF-8 text (byte {error.start})")]) from None
    except json.JSONDecodeError as error:
        words = f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise Invalid([Fault("", words)]) from None
    except RecursionError:
        raise Invalid([Fault("", "is nested too deeply")]) from None
    except ValueError as error:
        raise Invalid([Fault("", f"is not a JSON document: {error}")]) from None


def validate(content: object, before: Configuration | None = None) -> Configuration:
    """Make a Configuration of parsed JSON. Raises Invalid with every fault.

    `before` is a document without faults: farms and lists that equal those of it are its objects, not others, and are
    not looked at again where the rest of the document makes no difference.
    """
    config = conform(Configuration, content)
    if before is not None:
        config = config.model_copy(
            update={part: _shared(getattr(config, part), getattr(before, part)) for part in _KEPT}
        )
    found = list(islice(rule_faults(config, before), MAX_FAULTS))
    if found:
        raise Invalid(found)
    return config


def _shared(entries: Mapping[str, M], before: Mapping[str, M]) -> dict[str, M]:
    """`entries`, of which those that are as they were before are the same objects."""
    held = ((name, each, before.get(name)) for name, each in entries.items())
    return {name: old if old is not None and old is not each and old == each else each for name, each, old in held}


def conform(model: type[M], content: object) -> M:
    """Make a `model` of parsed JSON by the rules of its fields alone. Raises Invalid with every fault."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        if error.error_count() > TOO_MANY:
            # Half a million faults, each with where and why, would take the appliance's memory.
            words = f"has {error.error_count()} faults, too many to list; it is hardly a document of this kind"
            raise Invalid([Fault("", words)]) from None
        details = error.errors(include_url=False, include_context=True, include_input=True)
        raise Invalid(_fault(detail) for detail in details[:MAX_FAULTS]) from None


def canonical(config: Configuration) -> bytes:
    """The one byte sequence of a document: every field, keys sorted, no spaces. Equal documents give equal bytes."""
    return _plain(config.model_dump(mode="json")).encode()


_KEPT = ("farms", "network_lists")
"""The parts of a document that are large, by name."""


class Codec:
    """Reads and writes documents one after another; farms and lists that are as the last time cost next to nothing."""

    def __init__(self) -> None:
        self._read: dict[str, dict[str, tuple[bytes, Any]]] = {name: {} for name in _KEPT}
        self._written: dict[str, dict[str, tuple[Any, int, int]]] = {name: {} for name in _KEPT}
        """What stands where in `_text`."""
        self._text = b""

    def parse(self, text: bytes | str, before: Configuration | None = None) -> Configuration:
        """The same as the function `parse`, with `before` as in `validate`.

        A farm that stands there in the words of the last time is that object.
        """
        content = load(text)
        if not isinstance(content, dict):
            return validate(content)
        words: dict[str, dict[str, bytes]] = {}
        for part, known in self._read.items():
            if isinstance(content.get(part), dict):
                words[part] = {name: _hash(part, each) for name, each in content[part].items()}
                for name, (told, each) in known.items():
                    if words[part].get(name) == told:
                        content[part][name] = each
        config = validate(content, before)
        for part, hashes in words.items():
            self._read[part] = {name: (hashes[name], each) for name, each in getattr(config, part).items()}
        return config

    def canonical(self, config: Configuration) -> bytes:
        """The same as the function `canonical`."""
        rest = config.model_dump(mode="json", exclude={*_KEPT})
        text, written = BytesIO(), {}
        for member in sorted({*rest, *_KEPT}):
            text.write(f"{',' if text.tell() else '{'}{_plain(member)}:".encode())
            if member in _KEPT:
                written[member] = self._write(text, member, getattr(config, member))
            else:
                text.write(_plain(rest[member]).encode())
        text.write(b"}")
        self._text, self._written = text.getvalue(), written
        return self._text

    def _write(self, text: BytesIO, part: str, entries: Mapping[str, BaseModel]) -> dict[str, tuple[Any, int, int]]:
        """Write a part; returns what stands where."""
        known, before = self._written[part], memoryview(self._text)
        places: dict[str, tuple[Any, int, int]] = {}
        text.write(b"{")
        for name, each in sorted(entries.items()):
            text.write(b"," if places else b"")
            begin = text.tell()
            old, first, last = known.get(name, (None, 0, 0))
            text.write(before[first:last] if old is each else _member(name, each))
            places[name] = each, begin, text.tell()
        text.write(b"}")
        return places


def _hash(part: str, content: Any) -> bytes:
    try:
        # Without references (version 2) marshal writes equal values alike, and 1 unlike 1.0 and true.
        written = marshal.dumps(content, 2)
    except ValueError:
        # It writes 2000 levels; how many are read depends on Python's version.
        raise Invalid([Fault(pointer(part), "is nested too deeply")]) from None
    return hashlib.blake2b(written, digest_size=16).digest()


def _member(name: str, entry: BaseModel) -> bytes:
    return f"{_plain(name)}:{_plain(entry.model_dump(mode='json'))}".encode()


def _plain(content: Any) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def digest(config: Configuration) -> str:
    """SHA-256 of the canonical form, in hexadecimal."""
    return hashlib.sha256(canonical(config)).hexdigest()


@dataclass(frozen=True)
class Change:
    """One difference of two documents: at `pointer`, `before` became `after` (None where there was or is nothing)."""

    pointer: str
    kind: Literal["added", "removed", "changed"]
    before: Any
    after: Any


def difference(before: Configuration, after: Configuration) -> list[Change]:
    """What must change to get from one document to the other, in the order of the document's paths.

    The order of the networks of a list is no difference, nor is one that stands twice.
    """
    return list(_walk((), before.model_dump(mode="json"), after.model_dump(mode="json")))


def _walk(path: tuple[str, ...], before: Any, after: Any) -> Iterator[Change]:
    if path[:1] == ("network_lists",) and path[2:] == ("networks",):
        # Of ten thousand networks the few that came or went are what is to be told.
        gone, come = set(before) - set(after), set(after) - set(before)
        yield from (Change(pointer(*path, each), "removed", each, None) for each in before if each in gone)
        yield from (Change(pointer(*path, each), "added", None, each) for each in after if each in come)
    elif isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            where = (*path, key)
            if key not in before:
                yield Change(pointer(*where), "added", None, after[key])
            elif key not in after:
                yield Change(pointer(*where), "removed", before[key], None)
            else:
                yield from _walk(where, before[key], after[key])
    elif before != after:
        yield Change(pointer(*path), "changed", before, after)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in pairs:
        if name in content:
            raise ValueError(f"the name {_short(name)} stands twice in one object")
        content[name] = value
    return content


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


_NAME_RULE = "use lower-case letters, digits and hyphens, 1 to 63 characters, no hyphen at the ends"
_LINK_RULE = (
    "use the kernel's name: at most 15 lower-case letters, digits, dots, hyphens and underscores, a letter first"
)
_HOSTNAME_RULE = "use lower-case letters, digits and hyphens in up to 8 parts joined by dots, no hyphen at their ends"
_PLAIN_WORDS = {
    "extra_forbidden": "is not a field of the document; remove it or correct its name",
    "missing": "is missing; it must be given",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be a text",
    "string_unicode": "must be a text of Unicode characters",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "union_tag_not_found": "must be an object",
}


def _fault(detail: ErrorDetails) -> Fault:
    loc, check = _place(detail)
    kind = detail["type"]
    context = detail.get("ctx", {})
    if kind in _PLAIN_WORDS:
        words = _plain_words(kind, check, str(loc[-1]) if loc else "")
    elif kind in ("greater_than_equal", "less_than_equal"):
        bound = f"at least {context['ge']:.12g}" if "ge" in context else f"at most {context['le']:.12g}"
        words = f"must be {bound}, not {_short(detail['input'])}"
    elif kind == "string_pattern_mismatch":
        rule = {"links": _LINK_RULE, "system": _HOSTNAME_RULE}.get(str(loc[0]) if loc else "", _NAME_RULE)
        words = f"{_short(detail['input'])} is not a valid name; {rule}"
    elif kind == "too_short":
        words = f"needs at least {context['min_length']}"
    elif kind in ("too_long", "string_too_long"):
        words = f"has too many; at most {context['max_length']}"
        if loc[-1:] == ["ports"]:
            words += ': a range such as "8000-8099" counts as one'
    elif kind in ("literal_error", "union_tag_invalid"):
        expected = context.get("expected", context.get("expected_tags"))
        words = f"{_short(context.get('tag', detail['input']))} is not possible here; use {expected}"
    elif loc == ["version"]:
        words = "is a version that this software does not know"
    elif kind.startswith("address") or kind in ("interface", "network", "ports"):
        words = f"{_short(detail['input'])} {detail['msg']}"
    else:
        words = detail["msg"]
    return Fault(pointer(*loc), words)


def _place(detail: ErrorDetails) -> tuple[list[int | str], str | None]:
    """The path of a fault in the document; and the kind of check that it is in, which pydantic has in the path."""
    loc = [part for part in detail["loc"] if part != "[key]"]
    if detail["type"] == "union_tag_invalid":
        loc.append("type")
    for index, part in enumerate(loc[2:], 2):
        if loc[index - 2] == "checks" and isinstance(loc[index - 1], int) and part in CHECKS:
            return loc[:index] + loc[index + 1 :], str(part)
    return loc, None


def _plain_words(kind: str, check: str | None, field: str) -> str:
    """What is wrong; of a field that a check of this kind cannot have, why."""
    if check is None or kind != "extra_forbidden":
        return _PLAIN_WORDS[kind]
    if field == "port" and not issubclass(CHECKS[check], PortCheck):
        return f"is not possible: {CHECKS[check].model_config['title']} has no ports; leave it out"
    return f"is not a setting of a check of the type `{check}`; leave it out, or correct its name"


def _short(value: object) -> str:
    if isinstance(value, dict | list):
        return (
            "an object" if isinstance(value, dict) else "a list"
        )  # as deep as it was read, it may be too deep to write
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
