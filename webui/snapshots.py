# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots: every configuration that ever was, what changed from one to another, and the way back."""

import json
import time
from collections import OrderedDict
from functools import partial
from threading import Lock

from flask import Blueprint, Response, abort, current_app, render_template, request, url_for

from agent.client import Problem
from agent.client.readable import indented
from agent.model import canonical
from agent.model.answers import SnapshotInfo
from webui.changes import lines, summary
from webui.entries import Answer, confirmed
from webui.session import agent

blueprint = Blueprint("snapshots", __name__, url_prefix="/snapshots")

PAGE = 25
"""Snapshots on one page of the list."""

PATIENCE = 1.5
"""Seconds that a list may take to find out what each snapshot changed; the rest of it does without."""

MAX_NUMBER = 2**53


class Summaries:
    """What snapshots changed, in words. A snapshot never changes, so what was found once is kept."""

    def __init__(self, size: int = 1000) -> None:
        self._known: OrderedDict[tuple[int, int | None, str, str], str] = OrderedDict()
        self._size = size
        self._lock = Lock()

    def of(self, infos: list[SnapshotInfo]) -> dict[int, str]:
        """By number; without those that could not be found in time."""
        found: dict[int, str] = {}
        until = time.monotonic() + PATIENCE
        for info in infos:
            # A store that was set aside after damage counts from 1 again: the number alone does not name a snapshot.
            key = (info.number, info.parent, info.digest, info.time.isoformat())
            with self._lock:
                words = self._known.get(key)
            if words is None and time.monotonic() < until:
                words = self._ask(info)
            if words is None:
                continue
            found[info.number] = words
            with self._lock:
                self._known[key] = words
                while len(self._known) > self._size:
                    self._known.popitem(last=False)
        return found

    def _ask(self, info: SnapshotInfo) -> str | None:
        if info.parent is None:
            return "The first snapshot"
        try:
            return summary(agent().diff(info.parent, info.number).changes)
        except Problem as problem:
            if problem.status == 401:
                raise
            # Its parent was cleaned away, say; the list is worth showing without.
            return None


def _summaries() -> Summaries:
    found: Summaries = current_app.extensions.setdefault("summaries", Summaries())
    return found


@blueprint.get("")
def index() -> str:
    """The newest snapshots, or those before a number."""
    before = _number(request.args.get("before", "")) if request.args.get("before") else None
    listed = agent().snapshots(limit=PAGE + 1, before=before)
    shown = listed.snapshots[:PAGE]
    return render_template(
        "snapshots/index.html",
        snapshots=shown,
        in_force=listed.in_force,
        summaries=_summaries().of(shown),
        before=before,
        older=shown[-1].number if len(listed.snapshots) > PAGE else None,
    )


@blueprint.get("/<number>")
def show(number: str) -> str:
    """A snapshot: what it changed, how it differs from what is in force, and its document."""
    snapshot = agent().snapshot(_number(number))
    in_force = agent().snapshots(limit=1).in_force
    changed = lines(agent().diff(snapshot.parent, snapshot.number).changes) if snapshot.parent is not None else None
    back = None
    if in_force is not None and in_force != snapshot.number:
        back = lines(agent().diff(in_force, snapshot.number).changes)
    document = json.dumps(json.loads(canonical(snapshot.document)), indent=2)
    return render_template(
        "snapshots/show.html", snapshot=snapshot, in_force=in_force, changed=changed, back=back, document=document
    )


@blueprint.get("/<number>/document.json")
def document(number: str) -> Response:
    """The document as a file."""
    snapshot = agent().snapshot(_number(number))
    response = Response(indented(snapshot.document.model_dump(mode="json")) + "\n", mimetype="application/json")
    response.headers["Content-Disposition"] = f'attachment; filename="sluice-{snapshot.number}.json"'
    return response


@blueprint.route("/<number>/rollback", methods=["GET", "POST"])
def rollback(number: str) -> Answer:
    """Say what going back changes, then do it."""
    snapshot = agent().snapshot(_number(number))
    in_force = agent().snapshots(limit=1).in_force
    return confirmed(
        "snapshots/rollback.html",
        partial(agent().rollback, snapshot.number),
        f"Snapshot {snapshot.number} is in force again.",
        snapshot=in_force,
        index=url_for("snapshots.index"),
        explain=lambda fault: f"{fault.pointer or 'The document'}: {fault.message}",
        back_to=snapshot,
        in_force=in_force,
        changes=lines(agent().diff(in_force, snapshot.number).changes) if in_force is not None else [],
    )


def _number(text: str) -> int:
    """A snapshot's number out of an address; anything else is not found."""
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        abort(404)
    return min(int(text), MAX_NUMBER)
