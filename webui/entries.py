# SPDX-License-Identifier: GPL-2.0-or-later
"""What the pages that change the document share: those of farms, network lists and links, and the way back."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from flask import abort, flash, redirect, render_template, request
from werkzeug.wrappers import Response
from wtforms import StringField

from agent.client import AgentDown, Problem
from agent.model import Fault
from agent.model.answers import SnapshotInfo
from agent.model.types import NAME_PATTERN
from webui import fields
from webui.csrf import EXPIRED
from webui.faults import split, where
from webui.fields import several
from webui.forms import ReasonForm, sent

Answer = str | tuple[str, int] | Response

NAME = re.compile(NAME_PATTERN)


TOLD = 20
"""So many faults are told on a page."""


def known(name: str, pattern: re.Pattern[str] = NAME) -> str:
    """`name` if an entry can have it; anything else is not asked for."""
    if not pattern.fullmatch(name):
        abort(404)
    return name


def made(snapshot: SnapshotInfo, parent: int | None, words: str) -> None:
    """Tell what came of a commit; one that changes nothing makes no snapshot."""
    if snapshot.number == parent:
        flash("Nothing was changed: it is as it was before.", "info")
    else:
        flash(words, f"snapshot:{snapshot.number}")


def unsure(error: AgentDown) -> str:
    """What is told when the agent stays silent about a change."""
    return f"The agent does not answer. Whether this was taken is not known: see the snapshots, then try again. {error}"


def confirmed(
    template: str,
    change: Callable[..., SnapshotInfo],
    words: str,
    *,
    snapshot: int | None,
    index: str,
    explain: Callable[[Fault], str],
    **more: object,
) -> Answer:
    """A page that says what a change does and asks why; once its button is pressed, the way to `index`.

    `change` takes `comment` and `parent`, `words` tell that it is made, `explain` tells a fault. `snapshot` is the
    number of the one that the page is made from.
    """
    form = ReasonForm(sent() if request.method == "POST" else None, data={"snapshot": str(snapshot or "")})
    top: list[str] = []
    status = 200
    if request.method == "POST":
        if not form.validate():
            top, status = [EXPIRED], 400
        else:
            try:
                done = change(comment=form.why, parent=form.parent)
            except Problem as problem:
                if problem.status in (401, 404):
                    raise
                top, status = _refused(problem, explain)
            except AgentDown as error:
                top, status = [unsure(error)], 503
            else:
                made(done, form.parent, words)
                return redirect(index, 303)
        # The page shows how it is now, and the next try is made from that.
        form.snapshot.data = str(snapshot or "")
    return render_template(template, form=form, top=top, **more), status


def _refused(problem: Problem, explain: Callable[[Fault], str]) -> tuple[list[str], int]:
    if problem.status in (409, 412):
        return ["Somebody changed the configuration meanwhile. Look at it again below, then confirm."], 409
    return [*map(explain, problem.errors)] or [problem.detail], problem.status


class EntryForm(ReasonForm):
    """An entry, new or known: its name, and fields that stand for those of the model."""

    name = StringField("Name")

    def faults(self) -> Iterator[tuple[str, str, str]]:
        """Every fault at a field: the field's id, its label, the words."""
        for field in (self.name, *fields.of_model(self), self.comment):
            yield from ((field.id, field.label.text, words) for words in field.errors)


@dataclass(frozen=True)
class Edit:
    """Commits what a form says of an entry whose fields are all the model's."""

    name: str
    noun: str
    part: str
    """The field of the document that has all of them."""
    done: str
    """What is told afterwards, such as "created"."""
    put: Callable[..., SnapshotInfo]
    """As the client's `put_farm`."""
    page: Callable[[list[str], int], Answer]
    """The form again: with what belongs to no field, and the status."""
    index: str
    """Where to go then."""

    def save(self, form: EntryForm, name_fault: Callable[[], str | None] = lambda: None) -> Answer:
        """Commit, or show the form again. `name_fault` says what is wrong with the name, if anything is."""
        if not form.validate() and form.expired():
            return self.page([EXPIRED], 400)
        try:
            if words := name_fault():
                form.name.errors = [words]
            if any(form.faults()):
                return self.page([], 422)
            done = self.put(self.name, fields.content(form), comment=form.why, parent=form.parent)
        except Problem as problem:
            if problem.status == 401:
                raise
            if problem.status in (409, 412) and problem.current is not None:
                form.snapshot.data = str(problem.current)
                words = f"Commit again to replace this {self.noun} by what stands here."
                return self.page([f"Somebody changed the configuration meanwhile. {words}"], 409)
            return self.page(self._place(form, problem), problem.status)
        except AgentDown as error:
            return self.page([unsure(error)], 503)
        made(done, form.parent, f"{self.noun.capitalize()} {self.name} is {self.done}.")
        return redirect(self.index, 303)

    def _place(self, form: EntryForm, problem: Problem) -> list[str]:
        """Give each fault to its field. What belongs to no field is returned, in words."""
        ours = {field.short_name: field for field in fields.of_model(form)}
        top: list[str] = []
        for fault in problem.errors[:TOLD]:
            match split(fault.pointer):
                case [part, name, field, *index] if (part, name) == (self.part, self.name) and field in ours:
                    typed = several(ours[field].data) if index else []
                    place = int(index[0]) if index and index[0].isdigit() else len(typed)
                    entry = typed[place] if place < len(typed) else ""
                    words = fault.message if not entry or entry in fault.message else f"{entry} {fault.message}"
                    ours[field].errors = [*ours[field].errors, words]
                case [part, name] if (part, name) == (self.part, self.name):
                    form.name.errors = [*form.name.errors, fault.message]
                case path:
                    top.append(f"{where(path)}: {fault.message}")
        if len(problem.errors) > TOLD:
            top.append(f"And {len(problem.errors) - TOLD} more.")
        return top or ([] if problem.errors else [problem.detail])


@dataclass(frozen=True)
class Deletion:
    """A page that says what deleting an entry does, and then does it."""

    name: str
    noun: str
    snapshot: int
    """The number of the snapshot that the page is made from."""
    remove: Callable[..., SnapshotInfo]
    """As the client's `delete_farm`."""
    here: str
    """Where the entry is to be seen."""
    index: str
    """Where all of them are."""
    explain: Callable[[Fault], str] = lambda fault: fault.message

    def answer(self, template: str, **more: object) -> Answer:
        """The page, or, once it is done, the way back to all of them."""
        return confirmed(
            template,
            partial(self.remove, self.name),
            f"{self.noun.capitalize()} {self.name} is deleted.",
            snapshot=self.snapshot,
            index=self.index,
            explain=self.explain,
            about=self,
            **more,
        )
