# SPDX-License-Identifier: GPL-2.0-or-later
"""The farm's form: what is typed becomes a document, which the agent judges; labels and ranges come from the model.

Fields take text as it is typed. What is a number is sent as one, anything else as text: so every fault is found by the
model, in its words, and none is told here a second time.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from flask import request
from werkzeug.datastructures import MultiDict
from wtforms import (
    BooleanField,
    Field,
    FieldList,
    Form,
    FormField,
    HiddenField,
    RadioField,
    SelectField,
    SelectMultipleField,
    StringField,
)
from wtforms.widgets import CheckboxInput, ListWidget

from agent.model import Farm
from webui.csrf import SafeForm
from webui.describe import words

MAX_COMMENT = 500
"""Characters of a comment that the form takes."""

MAX_ROWS = 300
"""Rows of a form that are read: more than a farm can have, so that too many are told as such."""

_KEY = re.compile(r"[a-z][a-z0-9_]*(-[0-9]{1,4}-[a-z_]+)?")
_WHOLE = re.compile(r"[+-]?[0-9]{1,15}")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,15}\.[0-9]{1,15}")
_PROTOCOLS = {"tcp": "TCP", "udp": "UDP", "sctp": "SCTP", "all": "All protocols"}
_OPTIONS = {
    "dnat": "Destination NAT",
    "snat": "Source NAT",
    "round-robin": "Round robin",
    "weighted": "Weighted",
    "source-hash": "Source hash",
    "priority": "Priority",
    "none": "None",
    "address": "By address",
    "address-port": "By address and port",
    "enabled": "Enabled",
    "drain": "Drain",
    "disabled": "Disabled",
    "keep": "Keep its connections",
    "cut": "Cut its connections",
    "reject": "Reject",
    "drop": "Drop",
}


FARM_FIELDS = (
    "enabled",
    "addresses",
    "protocols",
    "ports",
    "forwarding",
    "scheduler",
    "hash_port",
    "hash_prefix4",
    "hash_prefix6",
    "persistence",
    "persistence_timeout",
    "persistence_prefix4",
    "persistence_prefix6",
    "persistence_static",
    "minimum_active",
    "on_failure",
    "slow_start",
    "drain_timeout",
    "when_down",
)
"""The fields of a farm that the form has under the model's name."""

MORE = ("minimum_active", "on_failure", "slow_start", "drain_timeout", "when_down", "sorry_address", "sorry_port")
"""Those of them that few farms need: they are folded away while they say what the model says without them."""


def option_title(value: str) -> str:
    """How a value of the model is called on the pages."""
    return _OPTIONS.get(value, _PROTOCOLS.get(value, value))


def number(text: str | None) -> Any:
    """`text` as a number if it is one; as it is otherwise; None when there is none."""
    typed = (text or "").strip()
    if _WHOLE.fullmatch(typed):
        return int(typed)
    return float(typed) if _DECIMAL.fullmatch(typed) else (typed or None)


def several(text: str | None) -> list[str]:
    """The words of a list that was typed with commas, spaces or line ends."""
    return [word for word in re.split(r"[\s,;]+", text or "") if word]


def sent() -> MultiDict[str, str]:
    """The form that was sent, without keys that are none of ours, with its rows counted from 0 anew.

    A row keeps its number while it is on the page; once it is sent, only its place matters. So numbers stay small
    however often rows come and go, and what a hostile form makes the server do stays small too.
    """
    ours = [(key, value) for key, value in request.form.items(multi=True) if _KEY.fullmatch(key)]
    places: dict[str, dict[str, int]] = {}
    for kind in ("checks", "backends"):
        indices = {parts[1] for key, _ in ours if (parts := key.split("-"))[0] == kind and len(parts) == 3}
        places[kind] = {index: place for place, index in enumerate(sorted(indices, key=int)[:MAX_ROWS])}
    data: MultiDict[str, str] = MultiDict()
    for key, value in ours:
        kind, _, rest = key.partition("-")
        index, _, field = rest.partition("-")
        if not rest:
            data.add(key, value)
        elif index in places.get(kind, {}):
            data.add(f"{kind}-{places[kind][index]}-{field}", value)
    verb, _, index = data.get("action", "save").partition(":")
    place = places.get(verb.removeprefix("remove-") + "s", {}).get(index)
    data["action"] = verb if place is None else f"{verb}:{place}"
    return data


def _described(kind: type[Field], part: str, field: str, **more: Any) -> Any:
    said = words(part, field)
    label = more.pop("label", said.title)
    if kind in (RadioField, SelectField):
        more["choices"] = [(option.value, option_title(option.value)) for option in said.options]
        more["validate_choice"] = False
    elif kind is SelectMultipleField:
        more["choices"] = [(option.value, option_title(option.value)) for option in said.options]
        more.update(validate_choice=False, option_widget=CheckboxInput(), widget=ListWidget(prefix_label=False))
    default = "" if said.default is None else said.default
    if isinstance(default, int | float) and not isinstance(default, bool):
        default = f"{default:g}"
    return kind(label, description=said.help, default=default, **more)


def _given(field: Field, part: str, name: str) -> Any:
    """The number that was typed into a field, the model's default when nothing was."""
    return number(field.data) if (field.data or "").strip() else words(part, name).default


class CheckForm(Form):  # type: ignore[misc]  # wtforms has no types
    """A TCP check."""

    interval = _described(StringField, "TcpCheck", "interval")
    timeout = _described(StringField, "TcpCheck", "timeout")
    rise = _described(StringField, "TcpCheck", "rise")
    fall = _described(StringField, "TcpCheck", "fall")
    port = _described(StringField, "TcpCheck", "port")

    def content(self) -> dict[str, Any]:
        """The check as the document has it."""
        return {"type": "tcp"} | {field.short_name: number(field.data) for field in self}


class BackendForm(Form):  # type: ignore[misc]
    """A backend."""

    name = StringField("Name", description="Lower-case letters, digits and hyphens.")
    address = _described(StringField, "Backend", "address")
    port = _described(StringField, "Backend", "port")
    weight = _described(StringField, "Backend", "weight")
    tier = _described(StringField, "Backend", "tier")
    state = _described(SelectField, "Backend", "state")

    @property
    def blank(self) -> bool:
        """Whether nothing was typed into this row."""
        return not any((field.data or "").strip() for field in (self.name, self.address, self.port))

    def content(self) -> dict[str, Any]:
        """The backend as the document has it."""
        return {
            "address": (self.address.data or "").strip(),
            "port": number(self.port.data),
            "weight": _given(self.weight, "Backend", "weight"),
            "tier": _given(self.tier, "Backend", "tier"),
            "state": self.state.data,
        }


class ReasonForm(SafeForm):
    """Asks why, for a change that needs nothing else. `snapshot` is the one that the page was made from."""

    comment = StringField("Why", description="Kept with the snapshot, for whoever looks later.")
    snapshot = HiddenField()

    @property
    def parent(self) -> int | None:
        """The number of the snapshot that the page was made from."""
        value = number(self.snapshot.data)
        return value if isinstance(value, int) else None

    @property
    def why(self) -> str:
        """The comment, without what a line of text can't hold."""
        text = "".join(char if char.isprintable() else " " for char in self.comment.data or "")
        return " ".join(text.split())[:MAX_COMMENT]


class ClientsForm(SafeForm):
    """Which of a farm's clients are meant."""

    client = StringField("Client", description="An address, or a network such as 192.0.2.0/24.")
    backend = StringField("Backend")

    @property
    def network(self) -> str | None:
        """What was typed for the client; None for nothing."""
        return (self.client.data or "").strip() or None


class FarmForm(ReasonForm):
    """A farm, new or known."""

    name = StringField("Name", description="Lower-case letters, digits and hyphens. It stays for the farm's life.")
    enabled = _described(BooleanField, "Farm", "enabled")
    addresses = _described(StringField, "Farm", "addresses")
    protocols = _described(SelectMultipleField, "Farm", "protocols")
    ports = _described(StringField, "Farm", "ports")
    forwarding = _described(RadioField, "Farm", "forwarding")
    scheduler = _described(RadioField, "Farm", "scheduler")
    hash_port = _described(BooleanField, "Farm", "hash_port")
    hash_prefix4 = _described(StringField, "Farm", "hash_prefix4")
    hash_prefix6 = _described(StringField, "Farm", "hash_prefix6")
    persistence = _described(RadioField, "Farm", "persistence")
    persistence_timeout = _described(StringField, "Farm", "persistence_timeout")
    persistence_prefix4 = _described(StringField, "Farm", "persistence_prefix4")
    persistence_prefix6 = _described(StringField, "Farm", "persistence_prefix6")
    persistence_static = _described(StringField, "Farm", "persistence_static")
    minimum_active = _described(StringField, "Farm", "minimum_active")
    on_failure = _described(RadioField, "Farm", "on_failure")
    slow_start = _described(StringField, "Farm", "slow_start")
    drain_timeout = _described(StringField, "Farm", "drain_timeout")
    when_down = _described(RadioField, "Farm", "when_down")
    sorry_address = _described(StringField, "Farm", "sorry_server")
    sorry_port = _described(StringField, "SorryServer", "port", label="Sorry server's port")
    checks = FieldList(FormField(CheckForm))
    backends = FieldList(FormField(BackendForm))

    def content(self) -> dict[str, Any]:
        """The farm as the document has it; `rows` says which backends are in it."""
        return {
            "enabled": bool(self.enabled.data),
            "addresses": several(self.addresses.data),
            "protocols": list(self.protocols.data or ()),
            "ports": [number(word) for word in several(self.ports.data)],
            "forwarding": self.forwarding.data,
            "scheduler": self.scheduler.data,
            "hash_port": bool(self.hash_port.data),
            "hash_prefix4": self._or_default("hash_prefix4"),
            "hash_prefix6": self._or_default("hash_prefix6"),
            "persistence": self.persistence.data,
            "persistence_timeout": self._or_default("persistence_timeout"),
            "persistence_prefix4": self._or_default("persistence_prefix4"),
            "persistence_prefix6": self._or_default("persistence_prefix6"),
            "persistence_static": dict(self.static_entries()),
            "minimum_active": self._or_default("minimum_active"),
            "on_failure": self.on_failure.data,
            "slow_start": number(self.slow_start.data),
            "drain_timeout": number(self.drain_timeout.data),
            "when_down": self.when_down.data,
            "sorry_server": self._sorry_server(),
            "checks": [entry.form.content() for entry in self.checks],
            "backends": {row.name.data: row.content() for row in self.rows()},
        }

    def _or_default(self, name: str) -> Any:
        """The number that was typed into a field, the model's default when nothing was."""
        return _given(self[name], "Farm", name)

    def static_entries(self) -> list[tuple[str, str]]:
        """Network and backend of each line that was typed."""
        lines = [line.split(maxsplit=1) for line in (self.persistence_static.data or "").splitlines() if line.strip()]
        return [(line[0], line[1].strip() if len(line) > 1 else "") for line in lines]

    @property
    def hashes(self) -> bool:
        """Whether what concerns hashing is to be seen: it counts, or has a fault."""
        return self.scheduler.data == "source-hash" or self._wrong("hash_")

    @property
    def remembers(self) -> bool:
        """Whether what concerns persistence is to be seen: it counts, or has a fault."""
        return self.persistence.data != "none" or self._wrong("persistence")

    def _wrong(self, start: str) -> bool:
        return any(field.errors for field in self if field.short_name.startswith(start))

    def _sorry_server(self) -> dict[str, Any] | None:
        address, port = (self.sorry_address.data or "").strip(), number(self.sorry_port.data)
        return {"address": address, "port": port} if address or port is not None else None

    @property
    def more(self) -> bool:
        """Whether a field that is folded away says something of its own, or has a fault."""
        fields = [self[name] for name in MORE]
        return any(field.errors or str(field.data or "").strip() not in ("", field.default) for field in fields)

    def rows(self) -> list[BackendForm]:
        """The rows of backends that something was typed into."""
        return [entry.form for entry in self.backends if not entry.form.blank]

    def tidy(self) -> None:
        """Take the spaces off names, and find names that stand twice: a document can't show those."""
        self.name.data = (self.name.data or "").strip()
        seen: set[str] = set()
        for row in self.rows():
            row.name.data = (row.name.data or "").strip()
            if row.name.data and row.name.data in seen:
                row.name.errors = [
                    *row.name.errors,
                    f"{row.name.data} is the name of another backend; each needs its own",
                ]
            seen.add(row.name.data)
        networks = [network for network, _ in self.static_entries()]
        for network in sorted({network for network in networks if networks.count(network) > 1}):
            self.persistence_static.errors = [*self.persistence_static.errors, f"{network} stands twice; write it once"]

    def faults(self) -> Iterator[tuple[str, str, str]]:
        """Every fault at a field: the field's id, its label, the words."""
        for field in (self.name, *(self[name] for name in FARM_FIELDS), self.sorry_address, self.sorry_port):
            yield from ((field.id, field.label.text, words) for words in field.errors)
        for index, entry in enumerate(self.checks, 1):
            for field in entry.form:
                label = f"Check {index}, {field.label.text.lower()}"
                yield from ((field.id, label, words) for words in field.errors)
        for index, entry in enumerate(self.backends, 1):
            for field in entry.form:
                label = f"Backend {entry.form.name.data or index}, {field.label.text.lower()}"
                yield from ((field.id, label, words) for words in field.errors)
        yield from ((self.comment.id, self.comment.label.text, words) for words in self.comment.errors)


def farm_data(name: str, farm: Farm, snapshot: int) -> Mapping[str, Any]:
    """What the form begins with, for a farm that exists."""
    return {
        "name": name,
        "snapshot": str(snapshot),
        "enabled": farm.enabled,
        "addresses": "\n".join(map(str, farm.addresses)),
        "protocols": list(farm.protocols),
        "ports": ", ".join(map(str, farm.ports)),
        "forwarding": farm.forwarding,
        "scheduler": farm.scheduler,
        "hash_port": farm.hash_port,
        "hash_prefix4": farm.hash_prefix4,
        "hash_prefix6": farm.hash_prefix6,
        "persistence": farm.persistence,
        "persistence_timeout": farm.persistence_timeout,
        "persistence_prefix4": farm.persistence_prefix4,
        "persistence_prefix6": farm.persistence_prefix6,
        "persistence_static": "\n".join(f"{network} {backend}" for network, backend in farm.persistence_static.items()),
        "minimum_active": farm.minimum_active,
        "on_failure": farm.on_failure,
        "slow_start": farm.slow_start or "",
        "drain_timeout": farm.drain_timeout or "",
        "when_down": farm.when_down,
        "sorry_address": str(farm.sorry_server.address) if farm.sorry_server else "",
        "sorry_port": (farm.sorry_server and farm.sorry_server.port) or "",
        "checks": [
            {
                "interval": f"{check.interval:g}",
                "timeout": f"{check.timeout:g}",
                "rise": check.rise,
                "fall": check.fall,
                "port": check.port or "",
            }
            for check in farm.checks
        ],
        "backends": [
            {
                "name": backend_name,
                "address": str(backend.address),
                "port": backend.port or "",
                "weight": backend.weight,
                "tier": backend.tier,
                "state": backend.state,
            }
            for backend_name, backend in sorted(farm.backends.items())
        ],
    }
