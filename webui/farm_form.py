# SPDX-License-Identifier: GPL-2.0-or-later
"""The farm's form: what is typed becomes a document, which the agent judges.

A field of the model that one field of the form stands for is one line here; `SECTIONS` says where the page has it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from wtforms import Field, FieldList, Form, FormField, StringField

from agent.model import Farm
from webui import fields
from webui.check_form import CheckField, check_data
from webui.fields import Choice, Flag, Menu, Number, Numbers, Pairs, Rate, Servers, Text, Ticks, Word, Words, described
from webui.forms import ReasonForm

SECTIONS = {
    "hash": ("hash_port", "hash_backends", "hash_prefix4", "hash_prefix6"),
    "source": ("source_pool",),
    "flows": ("flow_timeout", "flow_timeout_udp"),
    "persistence": (
        "persistence", "persistence_timeout", "persistence_prefix4", "persistence_prefix6", "persistence_size",
        "persistence_static",
    ),
    "limits": (
        "limit_rate", "limit_burst", "limit_connections", "limit_prefix4", "limit_prefix6", "limit_action",
        "limit_resets", "strict_tcp", "log_prefix", "log_rate",
    ),
    "lists": ("allow", "deny"),
    "quality": ("rate_in", "rate_out", "dscp_in", "dscp_out", "traffic_class"),
    "more": ("minimum_active", "on_failure", "slow_start", "drain_timeout", "when_down", "sorry_servers"),
}  # fmt: skip
"""The fields that few farms need: each section is folded away while it says what the model says without it."""


class BackendForm(Form):
    """A backend."""

    name = StringField("Name", description="Lower-case letters, digits and hyphens.")
    address = described(Text, "Backend", "address")
    port = described(Number, "Backend", "port")
    weight = described(Number, "Backend", "weight")
    tier = described(Number, "Backend", "tier")
    max_connections = described(Number, "Backend", "max_connections")
    state = described(Menu, "Backend", "state")

    @property
    def blank(self) -> bool:
        """Whether nothing was typed into this row."""
        return not any((field.data or "").strip() for field in (self.name, self.address, self.port))

    def content(self) -> dict[str, Any]:
        """The backend as the document has it."""
        return fields.content(self)


class FarmForm(ReasonForm):
    """A farm, new or known."""

    name = StringField("Name", description="Lower-case letters, digits and hyphens. It stays for the farm's life.")
    enabled = described(Flag, "Farm", "enabled")
    addresses = described(Words, "Farm", "addresses")
    protocols = described(Ticks, "Farm", "protocols")
    ports = described(Numbers, "Farm", "ports")
    forwarding = described(Choice, "Farm", "forwarding")
    source_pool = described(Words, "Farm", "source_pool")
    flow_timeout = described(Number, "Farm", "flow_timeout")
    flow_timeout_udp = described(Number, "Farm", "flow_timeout_udp")
    offload = described(Flag, "Farm", "offload")
    scheduler = described(Choice, "Farm", "scheduler")
    hash_port = described(Flag, "Farm", "hash_port")
    hash_backends = described(Number, "Farm", "hash_backends")
    hash_prefix4 = described(Number, "Farm", "hash_prefix4")
    hash_prefix6 = described(Number, "Farm", "hash_prefix6")
    persistence = described(Choice, "Farm", "persistence")
    persistence_timeout = described(Number, "Farm", "persistence_timeout")
    persistence_prefix4 = described(Number, "Farm", "persistence_prefix4")
    persistence_prefix6 = described(Number, "Farm", "persistence_prefix6")
    persistence_size = described(Number, "Farm", "persistence_size")
    persistence_static = described(Pairs, "Farm", "persistence_static")
    minimum_active = described(Number, "Farm", "minimum_active")
    on_failure = described(Choice, "Farm", "on_failure")
    slow_start = described(Number, "Farm", "slow_start")
    drain_timeout = described(Number, "Farm", "drain_timeout")
    when_down = described(Choice, "Farm", "when_down")
    allow = described(Ticks, "Farm", "allow")
    deny = described(Ticks, "Farm", "deny")
    rate_in = described(Rate, "Farm", "rate_in")
    rate_out = described(Rate, "Farm", "rate_out")
    dscp_in = described(Number, "Farm", "dscp_in")
    dscp_out = described(Number, "Farm", "dscp_out")
    traffic_class = described(Choice, "Farm", "traffic_class")
    limit_rate = described(Number, "Farm", "limit_rate")
    limit_burst = described(Number, "Farm", "limit_burst")
    limit_connections = described(Number, "Farm", "limit_connections")
    limit_prefix4 = described(Number, "Farm", "limit_prefix4")
    limit_prefix6 = described(Number, "Farm", "limit_prefix6")
    limit_action = described(Choice, "Farm", "limit_action")
    sorry_servers = described(Servers, "Farm", "sorry_servers")
    limit_resets = described(Number, "Farm", "limit_resets")
    strict_tcp = described(Flag, "Farm", "strict_tcp")
    log_prefix = described(Word, "Farm", "log_prefix")
    log_rate = described(Number, "Farm", "log_rate")
    checks = FieldList(CheckField())
    backends = FieldList(FormField(BackendForm))

    def content(self) -> dict[str, Any]:
        """The farm as the document has it; `rows` says which backends are in it."""
        return fields.content(self) | {
            "checks": [entry.form.content() for entry in self.checks],
            "backends": {row.name.data: row.content() for row in self.rows()},
        }

    def stands_for(self, name: str) -> bool:
        """Whether one field of the form stands for this field of the model."""
        return any(field.short_name == name for field in fields.of_model(self))

    def opened(self, section: str) -> bool:
        """Whether a section is to be seen: it says something of its own, has a fault, or counts."""
        if section == "hash" and self.scheduler.data == "source-hash":
            return True
        if section == "source" and self.forwarding.data == "snat":
            return True
        if section == "flows" and self.forwarding.data in ("stateless", "direct", "tunnel"):
            return True
        return any(_tells(self[name]) for name in SECTIONS[section])

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
        networks = [network for network, _ in self.persistence_static.entries()]
        for network in sorted({network for network in networks if networks.count(network) > 1}):
            self.persistence_static.errors = [*self.persistence_static.errors, f"{network} stands twice; write it once"]

    def faults(self) -> Iterator[tuple[str, str, str]]:
        """Every fault at a field: the field's id, its label, the words."""
        for field in (self.name, *fields.of_model(self)):
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
    return fields.shown(FarmForm, farm) | {
        "name": name,
        "snapshot": str(snapshot),
        "checks": [check_data(check) for check in farm.checks],
        "backends": [
            {"name": backend_name} | fields.shown(BackendForm, backend)
            for backend_name, backend in sorted(farm.backends.items())
        ],
    }


def _tells(field: Field) -> bool:
    """Whether a field has a fault, or says something else than the model does without it."""
    said = field.data if isinstance(field.data, bool) else str(field.data or "").strip()
    return bool(field.errors) or said not in ("", field.default)
