# SPDX-License-Identifier: GPL-2.0-or-later
"""What the pages of the document's entries share: farms, network lists."""

import re
from collections.abc import Callable
from dataclasses import dataclass

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
        form = ReasonForm(sent() if request.method == "POST" else None, data={"snapshot": str(self.snapshot)})
        top: list[str] = []
        status = 200
        if request.method == "POST":
            if not form.validate():
                top, status = [EXPIRED], 400
            else:
                try:
                    done = self.remove(self.name, comment=form.why, parent=form.parent)
                except Problem as problem:
                    if problem.status in (401, 404):
                        raise
                    top, status = self._refused(problem)
                except AgentDown as error:
                    top, status = [unsure(error)], 503
                else:
                    made(done, form.parent, f"{self.noun.capitalize()} {self.name} is deleted.")
                    return redirect(self.index, 303)
            # The page shows the entry as it is now, and the next try is made from that.
            form.snapshot.data = str(self.snapshot)
        return render_template(template, about=self, form=form, top=top, **more), status

    def _refused(self, problem: Problem) -> tuple[list[str], int]:
        if problem.status in (409, 412):
            return ["Somebody changed the configuration meanwhile. Look at it again below, then delete."], 409
        return [*map(self.explain, problem.errors)] or [problem.detail], problem.status
