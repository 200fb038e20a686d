# SPDX-License-Identifier: GPL-2.0-or-later
"""Secrets by name: a document says which one is meant; the values live outside of it, and never come back out.

A field that names a secret has the type `SecretName`, `CertificateName` or `AuthoritiesName`; optional ones, lists and
mappings of these are found as well. Nothing here knows which secrets there are: who does asks
`faults`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from ssl import SSLContext
from types import UnionType
from typing import Annotated, Any, Literal, Protocol, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from agent.model.faults import Fault, pointer
from agent.model.types import NAME_PATTERN, Name

SecretKind = Literal["text", "certificate", "authorities"]

KIND_WORDS: Mapping[SecretKind, str] = {
    "text": "a text",
    "certificate": "a certificate with its private key",
    "authorities": "CA certificates",
}

_LISTED = 10
"""So many names are listed in a fault."""


@dataclass(frozen=True)
class _Wanted:
    kind: SecretKind


def _no_value(value: Any) -> Any:
    # The words leave out what was written: where a name is wanted, it may be the secret itself by mistake.
    if isinstance(value, str) and not re.fullmatch(NAME_PATTERN, value):
        raise PydanticCustomError("secret_name", "is no name of a secret; write the name of one, never its value")
    return value


SecretName = Annotated[Name, BeforeValidator(_no_value), _Wanted("text"), Field(json_schema_extra={"secret": "text"})]
"""The name of a text: a password, passphrase, token, community, signing key."""
CertificateName = Annotated[
    Name, BeforeValidator(_no_value), _Wanted("certificate"), Field(json_schema_extra={"secret": "certificate"})
]
"""The name of a certificate with its private key."""
AuthoritiesName = Annotated[
    Name, BeforeValidator(_no_value), _Wanted("authorities"), Field(json_schema_extra={"secret": "authorities"})
]
"""The name of CA certificates that servers are verified by."""


class SecretMissing(LookupError):
    """There is no secret of this name and kind. The message is a reason in words, such as a check has."""


class SecretReader(Protocol):
    """What uses secrets gets their values by this, each time anew: a value may be replaced at any time. Quick.

    Every method but `version` raises SecretMissing.
    """

    def text(self, name: str) -> str:
        """The value of a text."""

    def load_certificate(self, name: str, context: SSLContext) -> None:
        """Have `context` identify itself by this certificate and its key."""

    def version(self, name: str) -> object:
        """An object that stays the same as long as the value does; for what is made of it once. None: there is none."""

    def authorities(self, name: str) -> str:
        """CA certificates in PEM, as SSLContext.load_verify_locations takes them for `cadata`."""


@dataclass(frozen=True)
class Reference:
    """A place of a document that names a secret."""

    pointer: str
    name: str
    kind: SecretKind
    """What is wanted there."""


def references(part: BaseModel) -> Iterator[Reference]:
    """Every place of a document, or of a part of one, that names a secret; only where its types allow one is looked."""
    return _in_model(part, type(part), ())


def faults(part: BaseModel, kinds: Mapping[str, SecretKind]) -> Iterator[Fault]:
    """A fault for each reference that the secrets there are, by name with their kinds, do not fulfil."""
    for each in references(part):
        found = kinds.get(each.name)
        if found is None:
            there = sorted(name for name, kind in kinds.items() if kind == each.kind)
            how = f"sluice secret set {each.name}" + ("" if each.kind == "text" else f" --kind {each.kind}")
            names = ", ".join(there[:_LISTED]) + (", ..." if len(there) > _LISTED else "") or "none"
            yield Fault(
                each.pointer,
                f"there is no secret {each.name} that holds {KIND_WORDS[each.kind]} (there are: {names}); set it "
                f"first, in the GUI under System, Secrets, or by `{how}`",
            )
        elif found != each.kind:
            yield Fault(
                each.pointer,
                f"the secret {each.name} holds {KIND_WORDS[found]}; name one that holds {KIND_WORDS[each.kind]}",
            )


_Path = tuple[str | int, ...]
_Walk = Callable[[Any, _Path], Iterator[Reference]]


def _in_model(value: Any, model: type[BaseModel], path: _Path) -> Iterator[Reference]:
    if isinstance(value, model):
        for field, walk in _fields(model):
            yield from walk(getattr(value, field), (*path, field))


@cache
def _fields(model: type[BaseModel]) -> tuple[tuple[str, _Walk], ...]:
    """The fields of a model that can lead to a name of a secret, and how: documents are large, these are few."""
    found = ((name, _walk(field.annotation, field.metadata)) for name, field in model.model_fields.items())
    return tuple((name, walk) for name, walk in found if walk is not None)


def _walk(kind: Any, metadata: Any = ()) -> _Walk | None:
    wanted = next((each for each in metadata if isinstance(each, _Wanted)), None)
    if wanted is not None:
        return lambda value, path: _name(value, wanted.kind, path)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _walk(arguments[0], arguments[1:])
    if origin in (Union, UnionType):
        return _each_of([walk for walk in map(_walk, arguments) if walk is not None])
    if origin in (list, dict):
        inner = _walk(arguments[-1])
        return None if inner is None else lambda value, path: _items(value, inner, path)
    if isinstance(kind, type) and issubclass(kind, BaseModel) and _fields(kind):
        return lambda value, path: _in_model(value, kind, path)
    return None


def _name(value: Any, kind: SecretKind, path: _Path) -> Iterator[Reference]:
    if isinstance(value, str):
        yield Reference(pointer(*path), value, kind)


def _each_of(walks: list[_Walk]) -> _Walk | None:
    # Each looks whether the value is its own.
    return (lambda value, path: (found for walk in walks for found in walk(value, path))) if walks else None


def _items(value: Any, inner: _Walk, path: _Path) -> Iterator[Reference]:
    if isinstance(value, list | dict):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from inner(item, (*path, key))
