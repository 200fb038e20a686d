# SPDX-License-Identifier: GPL-2.0-or-later
"""From a fault's JSON pointer to the field it belongs to."""

from collections.abc import Iterable

from wtforms import Field

from agent.model import Fault
from webui.describe import title
from webui.farm_form import BackendForm, FarmForm
from webui.fields import several


def place(form: FarmForm, name: str, faults: Iterable[Fault]) -> list[str]:
    """Give each fault to its field of `form`, that of farm `name`. What belongs to no field is returned, in words."""
    top = []
    for fault in faults:
        path = split(fault.pointer)
        words = (
            _farm_fault(form, path[2:], fault.message) if path[:2] == ["farms", name] else _elsewhere(form, path, fault)
        )
        if words is not None:
            top.append(words)
    return top


def split(pointer: str) -> list[str]:
    """The parts of a JSON pointer, unescaped as RFC 6901 section 4 says."""
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def where(path: list[str]) -> str:
    """A path in words, for a fault that has no field on the page."""
    return " ".join(path) if path else "The document"


def _farm_fault(form: FarmForm, path: list[str], message: str) -> str | None:  # noqa: PLR0911  a table of paths
    match path:
        case []:
            return _give(form.name, message)
        case ["backends", backend, *rest]:
            return _backend_fault(form, backend, rest, message)
        case ["checks", index, *rest] if _index(index) < len(form.checks):
            check = form.checks[_index(index)].form
            field = check[rest[0]] if rest and rest[0] in check else check.drawn[0]
            return _give_entry(field, rest[1], message) if len(rest) == 2 else _give(field, message)
        case ["addresses" | "ports" | "source_pool" as field, index]:
            return _give_entry(form[field], index, message)
        case ["persistence_static", *entry]:
            return _give(
                form.persistence_static, message if not entry or entry[0] in message else f"{entry[0]}: {message}"
            )
        case ["sorry_servers", index, *rest] if _index(index) < len(typed_servers := form.sorry_servers.content()):
            entry = typed_servers[_index(index)]["address"]
            part = f"port of {entry}" if rest == ["port"] else entry
            return _give(form.sorry_servers, message if entry in message else f"{part}: {message}")
        case [field, *_] if form.stands_for(field):
            return _give(form[field], message)
        case ["backends" | "checks" as field]:
            return f"{title('Farm', field)}: {message}"
        case _:
            return f"{where(path)}: {message}"


def _backend_fault(form: FarmForm, backend: str, path: list[str], message: str) -> str | None:
    rows: list[BackendForm] = [row for row in form.rows() if row.name.data == backend]
    if not rows:
        return f"Backend {backend}: {message}"
    # Of two rows of one name the document holds the last.
    row = rows[-1]
    return _give(row[path[0]] if path and path[0] in row else row.name, message)


def _elsewhere(form: FarmForm, path: list[str], fault: Fault) -> str | None:
    # Of two farms that want the same address and port the fault is told at one; if that is not this one, it is still
    # this form that can be changed.
    taken = [address for address in several(form.addresses.data) if fault.message.startswith(f"{address} ")]
    if path[:1] == ["farms"] and path[2:3] == ["addresses"] and taken:
        return _give(form.addresses, f"{taken[0]} clashes with farm {path[1]}; use another address or port")
    return f"{where(path)}: {fault.message}"


def _give(field: Field, message: str) -> str | None:
    """Add a fault to its field, once; nothing is left to tell elsewhere."""
    if message not in field.errors:
        field.errors = [*field.errors, message]
    return None


def _give_entry(field: Field, index: str, message: str) -> str | None:
    """Add a fault of one entry of a list to the list's field."""
    typed = several(field.data)
    entry = typed[_index(index)] if _index(index) < len(typed) else ""
    # "70000 must be at most 65535": most messages begin with the value, those that don't get it.
    return _give(field, message if not entry or entry in message else f"{entry}: {message}")


def _index(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 1_000_000
