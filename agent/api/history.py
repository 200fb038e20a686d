# SPDX-License-Identifier: GPL-2.0-or-later
"""Endpoints of the snapshots."""

import asyncio
import json

from aiohttp import web

from agent.api.call import Call, answer
from agent.api.changes import info, made
from agent.api.problems import SECURITY_HEADERS
from agent.model import Configuration, conform, difference
from agent.model.answers import Diff, SnapshotList
from agent.snapshots import Snapshot

DEFAULT_LIMIT = 50


async def list_snapshots(call: Call) -> web.Response:
    """The newest snapshots."""
    limit = int(call.query.get("limit", DEFAULT_LIMIT))
    before = int(call.query["before"]) if "before" in call.query else None
    entries = await asyncio.to_thread(call.controller.store.list, limit, before)
    snapshot = call.controller.in_force
    in_force = snapshot.number if snapshot is not None else None
    return answer(SnapshotList(snapshots=[info(entry) for entry in entries], in_force=in_force))


async def get_snapshot(call: Call) -> web.Response:
    """A snapshot with its document."""
    snapshot = await asyncio.to_thread(call.controller.store.get, call.number())
    # The document goes out as it was stored: what was valid then must be readable whatever today's rules are.
    head = info(snapshot).model_dump_json().encode()
    body = head[:-1] + b',"document":' + snapshot.document + b"}"
    return web.Response(body=body, content_type="application/json", headers=SECURITY_HEADERS)


async def diff_snapshots(call: Call) -> web.Response:
    """What changed from one snapshot to another."""
    before, to = call.number("a"), call.number("b")

    def compare() -> Diff:
        changes = difference(_document(call.controller.store.get(before)), _document(call.controller.store.get(to)))
        return Diff(before=before, to=to, changes=changes)

    return answer(await asyncio.to_thread(compare))


async def rollback(call: Call) -> web.Response:
    """Put an earlier document in force."""
    number, parent = call.number(), call.parent()
    snapshot = await call.controller.rollback(number, author=call.author, comment=call.comment, parent=parent)
    return await made(call, snapshot, f"rollback to snapshot {number}")


def _document(snapshot: Snapshot) -> Configuration:
    return conform(Configuration, json.loads(snapshot.document))
