# SPDX-License-Identifier: GPL-2.0-or-later
"""Secrets: which there are; set, replace, delete. No page shows a value, not even the one that was just typed."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from wtforms import PasswordField, StringField, TextAreaField
from wtforms.validators import InputRequired

from agent.client import AgentDown, Problem
from agent.model.answers import SecretInfo
from agent.model.secret import SecretKind
from webui.csrf import EXPIRED, SafeForm
from webui.describe import title
from webui.entries import NAME, Answer, known
from webui.faults import split
from webui.session import agent

blueprint = Blueprint("secrets", __name__, url_prefix="/system/secrets")

LARGEST_FORM = 1024 * 1024
"""Bytes that a form may have here: 256 KiB of CA certificates as browsers write them, and some more."""

SOON = timedelta(days=30)
"""A certificate that expires within this is told as a warning."""


@dataclass(frozen=True)
class Kind:
    """What a kind is called, what it is for, and what is to be typed."""

    title: str
    purpose: str
    value: str
    help: str


KINDS: Mapping[SecretKind, Kind] = {
    "text": Kind(
        "Text",
        "A password, passphrase, token, community or signing key.",
        "Value",
        "One line, at most 4096 characters.",
    ),
    "certificate": Kind(
        "Certificate with key",
        "Identifies the appliance to servers that ask for a certificate.",
        "Certificate, chain and private key",
        "In PEM, one below the other: the certificate, those of its chain if there are any, and its private key "
        "without a passphrase.",
    ),
    "authorities": Kind(
        "CA certificates",
        "The authorities that servers are verified by.",
        "Certificates",
        "In PEM, one below the other.",
    ),
}


class SecretForm(SafeForm):
    """Asks for a name and a value."""

    name = StringField("Name", description="Lower-case letters, digits and hyphens. It stays for the secret's life.")
    line = PasswordField()
    pem = TextAreaField()

    def faults(self) -> Iterator[tuple[str, str, str]]:
        """Every fault at a field: the field's id, its label, the words."""
        for field in (self.name, self.line, self.pem):
            yield from ((field.id, field.label.text, words) for words in field.errors)


@dataclass(frozen=True)
class Row:
    """A secret in the list. `tone` and `ends` are of the certificate that expires first."""

    name: str
    kind: Kind
    info: SecretInfo
    uses: list[str]
    ends: datetime | None
    tone: str

    @property
    def about(self) -> str:
        """Whose certificate, or how many there are."""
        found = self.info.certificates
        if not found:
            return ""
        if self.info.kind == "authorities" and len(found) > 1:
            return f"{len(found)} certificates"
        return found[0].subject or ", ".join(found[0].names)


@blueprint.before_request
def take_large_forms() -> None:
    """CA certificates are larger than other forms."""
    request.max_content_length = request.max_form_memory_size = LARGEST_FORM


@blueprint.get("")
def index() -> str:
    """Every secret."""
    rows = [_row(name, info) for name, info in agent().secrets().items()]
    return render_template("secrets/index.html", rows=rows, kinds=KINDS)


@blueprint.route("/new/<kind>", methods=["GET", "POST"])
def new(kind: SecretKind) -> Answer:
    """Ask for a new secret, and set it."""
    if kind not in KINDS:
        abort(404)
    if request.method == "GET":
        return _page(SecretForm(), kind, None)
    form = SecretForm(request.form)
    name = (form.name.data or "").strip()
    form.name.data = name
    words = ""
    if not NAME.fullmatch(name):
        words = "is no name; use lower-case letters, digits and hyphens, no hyphen at the ends"
    elif name in agent().secrets():
        words = f"{name} is the name of another secret; choose one that is free"
    return _save(form, kind, name, None, words)


@blueprint.route("/edit/<name>", methods=["GET", "POST"])
def edit(name: str) -> Answer:
    """Ask for another value of a secret, and replace it."""
    row = _known(name)
    if request.method == "GET":
        return _page(SecretForm(), row.info.kind, row)
    return _save(SecretForm(request.form), row.info.kind, name, row)


@blueprint.route("/delete/<name>", methods=["GET", "POST"])
def delete(name: str) -> Answer:
    """Say what deleting a secret does, then do it."""
    row = _known(name)
    form = SafeForm(request.form if request.method == "POST" else None)
    top: list[str] = []
    status = 200
    if request.method == "POST":
        if not form.validate():
            top, status = [EXPIRED], 400
        else:
            try:
                # The page has said who names it; its button is to be pressed all the same.
                agent().delete_secret(name, force="force" in request.form)
            except Problem as problem:
                if problem.status in (401, 404):
                    raise
                top, status = [problem.detail], problem.status
            except AgentDown as error:
                top, status = [_unsure(error)], 503
            else:
                flash(f"Secret {name} is deleted.", "good")
                return redirect(url_for("secrets.index"), 303)
    return render_template("secrets/delete.html", form=form, row=row, top=top), status


def _known(name: str) -> Row:
    info = agent().secrets().get(known(name))
    return _row(name, info) if info is not None else abort(404)


def _row(name: str, info: SecretInfo) -> Row:
    ends = min((each.ends for each in info.certificates), default=None)
    left = ends - datetime.now(UTC) if ends is not None else SOON
    tone = "bad" if left < timedelta() else "warn" if left < SOON else "good"
    return Row(name, KINDS[info.kind], info, list(map(_place, info.used_by)), ends, tone)


def _place(pointer: str) -> str:
    """Where a secret is named, in words."""
    match split(pointer):
        case ["farms", farm, *rest]:
            return " ".join([f"Farm {farm}", *(title("Farm", part) if part.isalpha() else part for part in rest[:1])])
        case path:
            return " ".join(path)


def _save(form: SecretForm, kind: SecretKind, name: str, row: Row | None, name_fault: str = "") -> Answer:
    """Set what the form says, or show the form again. `row` is None for a new secret."""
    field = form.line if kind == "text" else form.pem
    field.validators = [InputRequired("Nothing was typed.")]
    if not form.validate() and form.expired():
        return _page(form, kind, row, [EXPIRED], 400)
    if name_fault:
        form.name.errors = [name_fault]
    if any(form.faults()):
        return _page(form, kind, row, [], 422)
    try:
        agent().put_secret(name, kind, str(field.data))
    except Problem as problem:
        if problem.status == 401:
            raise
        top = []
        for fault in problem.errors:
            at = {"/value": field, "/name": form.name}.get(fault.pointer)
            if at is None:
                top.append(f"{_place(fault.pointer)}: {fault.message}")
            else:
                at.errors = [*at.errors, fault.message]
        return _page(form, kind, row, top or ([] if problem.errors else [problem.detail]), problem.status)
    except AgentDown as error:
        return _page(form, kind, row, [_unsure(error)], 503)
    flash(f"Secret {name} is {'replaced' if row else 'set'}.", "good")
    return redirect(url_for("secrets.index"), 303)


def _unsure(error: AgentDown) -> str:
    return f"The agent does not answer. Whether this was taken is not known: see the list, then try again. {error}"


def _page(
    form: SecretForm, kind: SecretKind, row: Row | None, top: Iterable[str] = (), status: int = 200
) -> tuple[str, int]:
    about = KINDS[kind]
    for field in (form.line, form.pem):
        field.label.text, field.description = about.value, about.help
    # A value that was not taken is to be given again: no answer has it.
    form.pem.data = None
    return render_template("secrets/form.html", form=form, kind=kind, about=about, row=row, top=list(top)), status
