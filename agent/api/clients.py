# SPDX-License-Identifier: GPL-2.0-or-later
"""Endpoints of the clients that a farm remembers."""

import asyncio
from ipaddress import ip_network

from aiohttp import web

from agent.api.call import Call, answer, shown
from agent.api.problems import Refusal
from agent.model.answers import Forgotten
from agent.model.types import Network

DEFAULT_LIMIT = 200
"""Clients in an answer, where the query says nothing else."""


async def list_clients(call: Call) -> web.Response:
    """The clients that a farm remembers."""
    farm, network, backend = _wanted(call)
    limit = int(call.query.get("limit", DEFAULT_LIMIT))
    try:
        return answer(await call.controller.clients(farm, network, backend, limit))
    except OSError as error:
        raise Refusal(500, f"The kernel does not tell: {error}.") from None


async def forget_clients(call: Call) -> web.Response:
    """Forget clients of a farm."""
    farm, network, backend = _wanted(call)
    try:
        forgotten = await call.controller.forget_clients(farm, network, backend)
    except OSError as error:
        raise Refusal(500, f"The kernel refuses: {error}. Some may have been forgotten.") from None
    which = f"{network or 'all'}" + (f" of {backend}" if backend else "")
    await asyncio.to_thread(
        call.controller.access.audit,
        call.author,
        call.source,
        f"forget clients of farm {farm}",
        f"{which}: {forgotten}",
    )
    return answer(Forgotten(forgotten=forgotten))


def _wanted(call: Call) -> tuple[str, Network | None, str | None]:
    name = call.request.match_info["name"]
    farm = call.controller.config.farms.get(name)
    if farm is None:
        raise Refusal(404, f"There is no farm {shown(name)}.")
    backend = call.query.get("backend")
    if backend is not None and backend not in farm.backends:
        raise Refusal(404, f"The farm has no backend {shown(backend)}.")
    client = call.query.get("client")
    return name, ip_network(client) if client is not None else None, backend
