# SPDX-License-Identifier: GPL-2.0-or-later
"""Farms: list, one farm, create, edit, delete."""

from contextlib import suppress
from typing import Any

from flask import Blueprint, abort, current_app, flash, redirect, render_template, request, url_for
from werkzeug.datastructures import MultiDict

from agent.client import AgentDown, Problem
from agent.model import Fault, Invalid, difference, dscp_words, rate_words, validate
from webui import live
from webui.backend_setup import backend_setup
from webui.changes import Line, lines
from webui.check_form import KINDS, check_words
from webui.csrf import EXPIRED
from webui.entries import NAME, Answer, Deletion, known, made, unsure
from webui.farm_form import FarmForm, farm_data
from webui.faults import place
from webui.forms import MAX_ROWS, ClientsForm, sent
from webui.names import option_title
from webui.session import agent

blueprint = Blueprint("farms", __name__, url_prefix="/farms")

NEW: dict[str, Any] = {"enabled": True, "checks": [{}], "backends": [{}, {}]}
"""What the form of a new farm begins with, beside the model's defaults."""

MAX_COMMANDS = 100
"""How many of the kernel's commands a preview shows."""


@blueprint.app_template_global()
def farm_url(name: str) -> str:
    """The page of a farm; one that is named like the page for new farms has another address."""
    return url_for("farms.show_new" if name == "new" else "farms.show", name=name)


blueprint.add_app_template_filter(option_title, "option_title")
blueprint.add_app_template_global(backend_setup, "backend_setup")
blueprint.add_app_template_filter(rate_words, "rate_words")
blueprint.add_app_template_filter(dscp_words, "dscp_words")
blueprint.add_app_template_filter(lambda check: check_words(check.model_dump(mode="json")), "check_words")
blueprint.add_app_template_filter(KINDS.get, "check_title")


@blueprint.get("")
def index() -> str:
    """Every farm with its settings."""
    current = agent().farms()
    return render_template("farms/index.html", farms=sorted(current.farms.items()))


@blueprint.get("/<name>")
@blueprint.get("/<name>/show", endpoint="show_new")
def show(name: str) -> str:
    """A farm: how it is now, and its settings."""
    current = agent().farm(known(name))
    state = agent().state()
    rates = current_app.extensions["samples"].add(state)
    row = live.farm_row(name, state.farms[name], rates) if name in state.farms else None
    return render_template("farms/show.html", name=name, farm=current.farm, row=row, state=state)


@blueprint.get("/<name>/live")
def fragment(name: str) -> str:
    """The part of a farm's page that changes."""
    state = agent().state()
    if name not in state.farms:
        abort(404)
    rates = current_app.extensions["samples"].add(state)
    return render_template("farms/live.html", name=name, row=live.farm_row(name, state.farms[name], rates), state=state)


@blueprint.get("/new")
def new() -> Answer:
    """Ask for a new farm."""
    return _page(FarmForm(data=NEW | {"snapshot": str(agent().farms().snapshot)}), None)


@blueprint.post("/new")
def create() -> Answer:
    """Create a farm."""
    return _edited(sent(), None)


@blueprint.get("/<name>/edit")
def edit(name: str) -> Answer:
    """Ask for a farm's settings."""
    current = agent().farm(known(name))
    return _page(FarmForm(data=farm_data(name, current.farm, current.snapshot)), name)


@blueprint.post("/<name>/edit")
def change(name: str) -> Answer:
    """Change a farm."""
    return _edited(sent(), known(name))


@blueprint.route("/<name>/clients", methods=["GET", "POST"])
def clients(name: str) -> Answer:
    """The clients that a farm remembers; a POST forgets those that the page shows."""
    farm = agent().farm(known(name)).farm
    form = ClientsForm(request.values)
    client, backend = form.network, form.backend.data or None
    top: list[str] = []
    status, found = 200, None
    try:
        if request.method == "POST":
            if form.validate():
                count = agent().forget_clients(name, client=client, backend=backend)
                flash(f"Forgotten: {count}. Their next connections are balanced anew.", "info")
                return redirect(url_for("farms.clients", name=name), 303)
            top, status = [EXPIRED], 400
        found = agent().clients(name, client=client, backend=backend)
    except Problem as problem:
        if problem.status == 401:
            raise
        top, status = [problem.detail], problem.status
    page = render_template("farms/clients.html", name=name, farm=farm, form=form, found=found, top=top)
    return page, status


@blueprint.route("/<name>/delete", methods=["GET", "POST"])
def delete(name: str) -> Answer:
    """Say what deleting a farm does, then do it."""
    current = agent().farm(known(name))
    removal = Deletion(
        name, "farm", current.snapshot, agent().delete_farm, here=farm_url(name), index=url_for("farms.index")
    )
    return removal.answer("farms/delete.html", farm=current.farm, now=agent().state().farms.get(name))


def _edited(data: MultiDict[str, str], name: str | None) -> Answer:
    """Do what the button that was pressed says: a row more, a row less, or commit. `name` is None for a new farm."""
    form = FarmForm(data)
    if name is not None:
        form.name.data = name
    action, _, index = data["action"].partition(":")
    focus = None
    match action:
        case "save" | "preview":
            return _save(form, name, preview=action == "preview")
        case "add-backend" if len(form.backends) < MAX_ROWS:
            form.backends.append_entry()
            focus = form.backends[-1].form.name.id
        case "add-check" if len(form.checks) < MAX_ROWS:
            form.checks.append_entry({"type": data.get("check_kind", "tcp")})
            focus = form.checks[-1].form.drawn[0].id
        case "remove-backend":
            _remove(form.backends, index)
        case "remove-check":
            _remove(form.checks, index)
        case _:
            abort(400, "There is no such button.")
    return _page(form, name, focus=focus)


def _save(form: FarmForm, name: str | None, *, preview: bool) -> Answer:
    """Commit what the form says, or show what that would change."""
    valid = form.validate()
    if not valid and form.expired():
        return _page(form, name, top=[EXPIRED], status=400)
    form.tidy()
    wanted = name if name is not None else str(form.name.data)
    try:
        if name is None and wanted in agent().farms().farms:
            form.name.errors = [f"{wanted} is the name of another farm; choose one that is free"]
        if any(form.faults()) or not NAME.fullmatch(wanted):
            # The agent can't be asked: a name that is none has no address, one that is taken would be replaced. What
            # the model finds is told all the same, so that no fault waits behind another.
            return _page(form, name, top=place(form, wanted, _model_faults(wanted, form)), status=422)
        if preview:
            return _page(form, name, preview=_preview(wanted, form.content()))
        done = agent().put_farm(wanted, form.content(), comment=form.why, parent=form.parent)
    except Problem as problem:
        return _not_taken(form, name, wanted, problem)
    except AgentDown as error:
        words = f"The agent does not answer. {error}" if preview else unsure(error)
        return _page(form, name, top=[words], status=503)
    made(done, form.parent, f"Farm {wanted} is {'created' if name is None else 'changed'}.")
    return redirect(farm_url(wanted), 303)


def _not_taken(form: FarmForm, name: str | None, wanted: str, problem: Problem) -> Answer:
    """The form again, with what the agent found."""
    if problem.status == 401:
        raise problem
    if problem.status in (409, 412) and problem.current is not None:
        return _conflict(form, name, problem.current)
    top = place(form, wanted, problem.errors) if problem.errors else [problem.detail]
    return _page(form, name, top=top, status=problem.status)


def _preview(name: str, content: dict[str, Any]) -> dict[str, Any]:
    """What a commit of this farm would change in the document in force and in the kernel. Raises Problem, AgentDown."""
    current = agent().configuration()
    document = current.document.model_dump(mode="json")
    document["farms"][name] = content
    commands = agent().compile(document).difference.splitlines()
    return {
        "changes": lines(difference(current.document, validate(document))),
        "commands": commands[:MAX_COMMANDS],
        "more": max(0, len(commands) - MAX_COMMANDS),
    }


def _model_faults(name: str, form: FarmForm) -> list[Fault]:
    try:
        validate({"version": 1, "farms": {name: form.content()}})
    except Invalid as error:
        return error.faults
    return []


def _conflict(form: FarmForm, name: str | None, current: int) -> Answer:
    """Show what others changed since the form was opened, and let the same form be sent on top of it."""
    meanwhile: list[Line] = []
    before = form.parent
    if before is not None:
        meanwhile = lines(agent().diff(before, current).changes)
    form.snapshot.data = str(current)
    return _page(form, name, status=409, meanwhile=meanwhile, before=before, current=current)


def _page(form: FarmForm, name: str | None, *, status: int = 200, **more: Any) -> tuple[str, int]:
    known = {"top": [], "focus": None, "meanwhile": None, "preview": None} | more
    lists: list[str] = []
    secrets: dict[str, list[str]] = {}
    # Without an agent what is chosen stands there all the same.
    with suppress(AgentDown):
        lists = sorted(agent().network_lists().lists)
        for secret, told in sorted(agent().secrets().items()):
            secrets.setdefault(told.kind, []).append(secret)
    page = render_template(
        "farms/form.html", form=form, name=name, lists=lists, secrets=secrets, check_kinds=KINDS, **known
    )
    return page, status


def _remove(entries: Any, index: str) -> None:
    """Take out the row of this index; the others keep theirs, and what was typed into them."""
    entries.entries = [entry for entry in entries.entries if entry.short_name.rsplit("-", 1)[-1] != index]
