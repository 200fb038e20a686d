# SPDX-License-Identifier: GPL-2.0-or-later
"""What the pages that change the document share: those of farms and network lists, and the way back."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from flask import abort, flash, redirect, render_template, request
from werkzeug.wrappers import Response

from agent.client import AgentDown, Problem
from agent.model import Fault
from agent.model.answers import SnapshotInfo
from agent.model.types import NAME_PATTERN
from webui.csrf import EXPIRED
from webui.forms import ReasonForm, sent

Answer = str | tuple[str, int] | Response

NAME = re.compile(NAME_PATTERN)


def known(name: str) -> str:
    """`name` if an entry can have it; anything else is not asked for."""
    if not NAME.fullmatch(name):
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
