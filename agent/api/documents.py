# SPDX-License-Identifier: GPL-2.0-or-later
"""Endpoints of the configuration document and its farms."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web
from pydantic import RootModel

from agent.api.call import Call, answer, shown
from agent.api.changes import made
from agent.api.problems import Refusal
from agent.model import Configuration, Farm, validate
from agent.snapshots import Conflict

if TYPE_CHECKING:
    from agent.snapshots import Snapshot

ATTEMPTS = 5
"""How often the change of a farm is made anew when another change came between reading and committing."""


class Farms(RootModel[dict[str, Farm]]):
    """Farms by name."""


async def get_configuration(call: Call) -> web.Response:
    """The document in force."""
    config, number = _current(call)
    return answer(config, tag=number)


async def put_configuration(call: Call) -> web.Response:
    """Put a document in force."""
    parent = call.parent()
    config = await asyncio.to_thread(call.controller.codec.parse, await call.body())
    snapshot = await call.controller.commit(config, author=call.author, comment=call.comment, parent=parent)
    return await made(call, snapshot, "commit")


async def preview(call: Call) -> web.Response:
    """What the kernel would hold."""
    config = await asyncio.to_thread(call.controller.codec.parse, await call.body())
    return answer(await call.controller.preview(config))


async def list_farms(call: Call) -> web.Response:
    """Every farm."""
    config, number = _current(call)
    return answer(Farms(config.farms), tag=number)


async def get_farm(call: Call) -> web.Response:
    """One farm."""
    config, number = _current(call)
    return answer(_existing(config, call.request.match_info["name"]), tag=number)


async def put_farm(call: Call) -> web.Response:
    """Create or replace a farm."""
    name = call.request.match_info["name"]
    content = await call.content()
    existed = False

    def change(farms: Mapping[str, Farm]) -> dict[str, Any]:
        nonlocal existed
        existed = name in farms
        return {**farms, name: content}

    snapshot = await _commit(call, change)
    verb = "replace" if existed else "create"
    return await made(call, snapshot, f"{verb} farm {name}", status=200 if existed else 201, location=f"/farms/{name}")


async def delete_farm(call: Call) -> web.Response:
    """Remove a farm."""
    name = call.request.match_info["name"]

    def change(farms: Mapping[str, Farm]) -> dict[str, Any]:
        if name not in farms:
            raise _no_farm(name)
        return {key: farm for key, farm in farms.items() if key != name}

    snapshot = await _commit(call, change)
    return await made(call, snapshot, f"delete farm {name}")


async def _commit(call: Call, change: Callable[[Mapping[str, Farm]], dict[str, Any]]) -> "Snapshot":
    """Commit the document in force with its farms changed.

    With If-Match, only if that snapshot is in force. Without, whatever is in force is changed, and when somebody
    else's commit comes between, the change is made anew on top of it: no other farm's change is ever lost.
    """
    wanted = call.parent()
    for _ in range(ATTEMPTS):
        config, number = _current(call)
        if wanted is not None and wanted != number:
            raise Conflict(number)
        content = {field: getattr(config, field) for field in type(config).model_fields}
        content["farms"] = change(config.farms)
        changed = await asyncio.to_thread(validate, content)
        try:
            return await call.controller.commit(changed, author=call.author, comment=call.comment, parent=number)
        except Conflict:
            if wanted is not None:
                raise
    raise Refusal(409, "Others change the configuration all the time; try again.", headers={"Retry-After": "1"})


def _current(call: Call) -> tuple[Configuration, int | None]:
    snapshot = call.controller.in_force
    return call.controller.config, snapshot.number if snapshot is not None else None


def _existing(config: Configuration, name: str) -> Farm:
    farm = config.farms.get(name)
    if farm is None:
        raise _no_farm(name)
    return farm


def _no_farm(name: str) -> Refusal:
    return Refusal(404, f"There is no farm {shown(name)}.")
