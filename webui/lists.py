# SPDX-License-Identifier: GPL-2.0-or-later
"""Network lists: all of them, create, edit, delete."""

from collections.abc import Iterable
from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from wtforms import StringField

from agent.client import AgentDown, Problem
from agent.model import Fault
from webui import fields
from webui.csrf import EXPIRED
from webui.entries import NAME, Answer, Deletion, known, made, unsure
from webui.faults import split
from webui.fields import Text, Words, described, several
from webui.forms import ReasonForm, sent
from webui.session import agent

blueprint = Blueprint("lists", __name__, url_prefix="/network-lists")

LARGEST_FORM = 2 * 1024 * 1024
"""Bytes that a form may have here: 10 000 IPv6 networks as browsers write them, and some more."""

_TOLD = 20
"""So many faults are told on a page."""


class ListForm(ReasonForm):
    """A network list, new or known."""

    name = StringField("Name", description="Lower-case letters, digits and hyphens. It stays for the list's life.")
    description = described(Text, "NetworkList", "description")
    networks = described(Words, "NetworkList", "networks")

    def faults(self) -> Iterable[tuple[str, str, str]]:
        """Every fault at a field: the field's id, its label, the words."""
        for field in (self.name, self.description, self.networks, self.comment):
            yield from ((field.id, field.label.text, words) for words in field.errors)


@blueprint.before_request
def take_large_forms() -> None:
    """Lists are larger than other forms."""
    request.max_content_length = request.max_form_memory_size = LARGEST_FORM


@blueprint.get("")
def index() -> str:
    """Every list."""
    return render_template("lists/index.html", lists=sorted(agent().network_lists().lists.items()))


@blueprint.route("/new", methods=["GET", "POST"])
def new() -> Answer:
    """Ask for a new list, and make it."""
    if request.method == "POST":
        return _save(ListForm(sent()), None)
    return _page(ListForm(data={"snapshot": str(agent().network_lists().snapshot)}), None)


@blueprint.route("/edit/<name>", methods=["GET", "POST"])
def edit(name: str) -> Answer:
    """Ask for the networks of a list, and change them."""
    current = agent().network_list(known(name))
    if request.method == "POST":
        form = ListForm(sent())
        form.name.data = name
        return _save(form, name)
    data = fields.shown(ListForm, current.content) | {"name": name, "snapshot": str(current.snapshot)}
    return _page(ListForm(data=data), name)


@blueprint.route("/delete/<name>", methods=["GET", "POST"])
def delete(name: str) -> Answer:
    """Say what deleting a list does, then do it."""
    current = agent().network_list(known(name))
    removal = Deletion(
        name,
        "network list",
        current.snapshot,
        agent().delete_network_list,
        here=url_for("lists.edit", name=name),
        index=url_for("lists.index"),
        explain=_used_by,
    )
    return removal.answer("lists/delete.html", used=agent().network_lists().lists.get(name))


def _save(form: ListForm, name: str | None) -> Answer:
    """Commit what the form says. `name` is None for a new list."""
    if not form.validate() and form.expired():
        return _page(form, name, top=[EXPIRED], status=400)
    wanted = name if name is not None else (form.name.data or "").strip()
    form.name.data = wanted
    try:
        if not NAME.fullmatch(wanted):
            form.name.errors = ["is no name; use lower-case letters, digits and hyphens, no hyphen at the ends"]
        elif name is None and wanted in agent().network_lists().lists:
            form.name.errors = [f"{wanted} is the name of another list; choose one that is free"]
        if any(form.faults()):
            return _page(form, name, status=422)
        done = agent().put_network_list(wanted, fields.content(form), comment=form.why, parent=form.parent)
    except Problem as problem:
        if problem.status == 401:
            raise
        if problem.status in (409, 412) and problem.current is not None:
            form.snapshot.data = str(problem.current)
            words = (
                "Somebody changed the configuration meanwhile. Commit again to replace this list by what stands here."
            )
            return _page(form, name, top=[words], status=409)
        return _page(form, name, top=_place(form, wanted, problem), status=problem.status)
    except AgentDown as error:
        return _page(form, name, top=[unsure(error)], status=503)
    made(done, form.parent, f"Network list {wanted} is {'created' if name is None else 'changed'}.")
    return redirect(url_for("lists.index"), 303)


def _place(form: ListForm, name: str, problem: Problem) -> list[str]:
    """Give each fault to its field. What belongs to no field is returned, in words."""
    top: list[str] = []
    typed = several(form.networks.data)
    for fault in problem.errors[:_TOLD]:
        match split(fault.pointer):
            case ["network_lists", known_name, "networks", index] if known_name == name:
                entry = typed[int(index)] if index.isdigit() and int(index) < len(typed) else ""
                words = fault.message if not entry or entry in fault.message else f"{entry} {fault.message}"
                form.networks.errors = [*form.networks.errors, words]
            case ["network_lists", known_name, "networks" | "description" as field] if known_name == name:
                form[field].errors = [*form[field].errors, fault.message]
            case path:
                top.append(f"{' '.join(path) or 'The document'}: {fault.message}")
    if len(problem.errors) > _TOLD:
        top.append(f"And {len(problem.errors) - _TOLD} more.")
    return top or ([] if problem.errors else [problem.detail])


def _used_by(fault: Fault) -> str:
    path = split(fault.pointer)
    if path[:1] == ["farms"] and path[2:3] in (["allow"], ["deny"]):
        return f"Farm {path[1]} uses it: take it out there first."
    return fault.message


def _page(form: ListForm, name: str | None, *, top: Iterable[str] = (), status: int = 200) -> tuple[str, int]:
    more: dict[str, Any] = {"number": len(several(form.networks.data))}
    return render_template("lists/form.html", form=form, name=name, top=list(top), **more), status
