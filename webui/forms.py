# SPDX-License-Identifier: GPL-2.0-or-later
"""What the forms of the configuration share: reading what was sent, and asking why."""

import re

from flask import request
from werkzeug.datastructures import MultiDict
from wtforms import HiddenField, StringField

from webui.csrf import SafeForm
from webui.fields import number

MAX_COMMENT = 500
"""Characters of a comment that the form takes."""

MAX_ROWS = 300
"""Rows of a form that are read: more than a farm can have, so that too many are told as such."""

_KEY = re.compile(r"[a-z][a-z0-9_]*(-[0-9]{1,4}-[a-z][a-z0-9_]*)?")


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
