# SPDX-License-Identifier: GPL-2.0-or-later
"""Network lists: all of them, create, edit, delete."""

from collections.abc import Iterable
from typing import Any

from flask import Blueprint, render_template, request, url_for
from wtforms import StringField

from agent.model import Fault
from webui import fields
from webui.entries import NAME, Answer, Deletion, Edit, EntryForm, known
from webui.faults import split
from webui.fields import Text, Words, described, several
from webui.forms import sent
from webui.session import agent

blueprint = Blueprint("lists", __name__, url_prefix="/network-lists")

LARGEST_FORM = 2 * 1024 * 1024
"""Bytes that a form may have here: 10 000 IPv6 networks as browsers write them, and some more."""


class ListForm(EntryForm):
    """A network list, new or known."""

    name = StringField("Name", description="Lower-case letters, digits and hyphens. It stays for the list's life.")
    description = described(Text, "NetworkList", "description")
    networks = described(Words, "NetworkList", "networks")


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
    wanted = name if name is not None else (form.name.data or "").strip()
    form.name.data = wanted

    def name_fault() -> str | None:
        if not NAME.fullmatch(wanted):
            return "is no name; use lower-case letters, digits and hyphens, no hyphen at the ends"
        if name is None and wanted in agent().network_lists().lists:
            return f"{wanted} is the name of another list; choose one that is free"
        return None

    edit = Edit(
        wanted,
        "network list",
        "network_lists",
        "created" if name is None else "changed",
        agent().put_network_list,
        lambda top, status: _page(form, name, top=top, status=status),
        url_for("lists.index"),
    )
    return edit.save(form, name_fault)


def _used_by(fault: Fault) -> str:
    path = split(fault.pointer)
    if path[:1] == ["farms"] and path[2:3] in (["allow"], ["deny"]):
        return f"Farm {path[1]} uses it: take it out there first."
    return fault.message


def _page(form: ListForm, name: str | None, *, top: Iterable[str] = (), status: int = 200) -> tuple[str, int]:
    more: dict[str, Any] = {"number": len(several(form.networks.data))}
    return render_template("lists/form.html", form=form, name=name, top=list(top), **more), status
