# SPDX-License-Identifier: GPL-2.0-or-later
"""What every change ends with: a record in the audit log, and the new snapshot as the answer."""

import asyncio
from dataclasses import fields
from typing import TYPE_CHECKING

from aiohttp import web

from agent.api.call import Call, answer
from agent.api.route import PREFIX
from agent.model.answers import SnapshotInfo
from agent.snapshots import Entry

if TYPE_CHECKING:
    from agent.snapshots import Snapshot

_FIELDS = [field.name for field in fields(Entry)]


async def made(call: Call, snapshot: "Snapshot", action: str, *, status: int = 200, location: str = "") -> web.Response:
    """The answer to a change that made `snapshot`. `location` is a path below /api/v1."""
    detail = f"snapshot {snapshot.number}" + (f": {call.comment}" if call.comment else "")
    await asyncio.to_thread(call.controller.access.audit, call.author, call.source, action, detail)
    where = PREFIX + location if location else ""
    return answer(info(snapshot), status=status, tag=snapshot.number, location=where)


def info(entry: Entry) -> SnapshotInfo:
    """An entry of the store as the API tells it."""
    return SnapshotInfo(**{name: getattr(entry, name) for name in _FIELDS})
