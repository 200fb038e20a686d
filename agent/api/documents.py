# SPDX-License-Identifier: GPL-2.0-or-later
"""Endpoints of the configuration document and its farms."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web
from pydantic import RootModel

from agent.api.call import Call, answer, shown
from agent.api.changes import made
from agent.api.problems import Refusal
from agent.model import Configuration, Farm, Link, validate
from agent.model.answers import NetworkListInfo, NetworkLists
from agent.snapshots import Conflict

if TYPE_CHECKING:
    from agent.snapshots import Snapshot

ATTEMPTS = 5
"""How often the change of a farm is made anew when another change came between reading and committing."""


class Farms(RootModel[dict[str, Farm]]):
    """Farms by name."""


class Links(RootModel[dict[str, Link]]):
    """Links by name."""


@dataclass(frozen=True)
class Shelf:
    """A part of the document whose entries have names and endpoints of their own. Handlers of all are here."""

    field: str
    word: str
    noun: str
    path: str

    async def get(self, call: Call) -> web.Response:
        """One entry."""
        config, number = _current(call)
        name = call.request.match_info["name"]
        found = getattr(config, self.field).get(name)
        if found is None:
            raise self._missing(name)
        return answer(found, tag=number)

    async def put(self, call: Call) -> web.Response:
        """Create or replace an entry."""
        name = call.request.match_info["name"]
        content = await call.content()
        existed = False

        def change(entries: Mapping[str, Any]) -> dict[str, Any]:
            nonlocal existed
            existed = name in entries
            return {**entries, name: content}

        snapshot = await _commit(call, self, change)
        words = f"{'replace' if existed else 'create'} {self.noun} {name}"
        return await made(call, snapshot, words, status=200 if existed else 201, location=f"{self.path}/{name}")

    async def delete(self, call: Call) -> web.Response:
        """Remove an entry."""
        name = call.request.match_info["name"]

        def change(entries: Mapping[str, Any]) -> dict[str, Any]:
            if name not in entries:
                raise self._missing(name)
            return {key: entry for key, entry in entries.items() if key != name}

        snapshot = await _commit(call, self, change)
        return await made(call, snapshot, f"delete {self.noun} {name}")

    def _missing(self, name: str) -> Refusal:
        return Refusal(404, f"There is no {self.noun} {shown(name)}.")


FARMS = Shelf("farms", "farm", "farm", "/farms")
LISTS = Shelf("network_lists", "list", "network list", "/network-lists")
LINKS = Shelf("links", "link", "link", "/links")


async def get_configuration(call: Call) -> web.Response:
    """The document in force."""
    config, number = _current(call)
    return answer(config, tag=number)


async def put_configuration(call: Call) -> web.Response:
    """Put a document in force."""
    parent = call.parent()
    config = await _read(call)
    snapshot = await call.controller.commit(config, author=call.author, comment=call.comment, parent=parent)
    return await made(call, snapshot, "commit")


async def preview(call: Call) -> web.Response:
    """What the kernel would hold."""
    return answer(await call.controller.preview(await _read(call)))


async def list_farms(call: Call) -> web.Response:
    """Every farm."""
    config, number = _current(call)
    return answer(Farms(config.farms), tag=number)


async def list_links(call: Call) -> web.Response:
    """Every link that is configured."""
    config, number = _current(call)
    return answer(Links(config.links), tag=number)


async def list_lists(call: Call) -> web.Response:
    """Every network list, without its networks."""
    config, number = _current(call)
    found = {
        name: NetworkListInfo(
            description=content.description,
            networks=len(content.networks),
            allowed_by=sorted(farm for farm, each in config.farms.items() if name in each.allow),
            denied_by=sorted(farm for farm, each in config.farms.items() if name in each.deny),
        )
        for name, content in config.network_lists.items()
    }
    return answer(NetworkLists(found), tag=number)


async def _read(call: Call) -> Configuration:
    return await asyncio.to_thread(call.controller.codec.parse, await call.body(), call.controller.config)


async def _commit(call: Call, shelf: Shelf, change: Callable[[Mapping[str, Any]], dict[str, Any]]) -> "Snapshot":
    """Commit the document in force with its farms, or its lists, changed.

    With If-Match, only if that snapshot is in force. Without, whatever is in force is changed, and when somebody
    else's commit comes between, the change is made anew on top of it: no other farm's change is ever lost.
    """
    wanted = call.parent()
    for _ in range(ATTEMPTS):
        config, number = _current(call)
        if wanted is not None and wanted != number:
            raise Conflict(number)
        content = {field: getattr(config, field) for field in type(config).model_fields}
        content[shelf.field] = change(content[shelf.field])
        changed = await asyncio.to_thread(validate, content, config)
        try:
            return await call.controller.commit(changed, author=call.author, comment=call.comment, parent=number)
        except Conflict:
            if wanted is not None:
                raise
    raise Refusal(409, "Others change the configuration all the time; try again.", headers={"Retry-After": "1"})


def _current(call: Call) -> tuple[Configuration, int | None]:
    snapshot = call.controller.in_force
    return call.controller.config, snapshot.number if snapshot is not None else None
