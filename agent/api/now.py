# SPDX-License-Identifier: GPL-2.0-or-later
"""Endpoints of what is now: state, system, metrics, and what the console shows."""

import asyncio
import logging
from collections.abc import Iterator
from ipaddress import ip_interface

from aiohttp import web

from agent.api import metrics
from agent.api.call import Call, answer, console_uids, peer_uid
from agent.api.problems import SECURITY_HEADERS, Refusal
from agent.model import Configuration
from agent.model.answers import Console
from agent.model.state import SystemNow
from agent.model.trace import TraceRequest

log = logging.getLogger(__name__)


async def get_state(call: Call) -> web.Response:
    """Every farm and backend as it is now."""
    return answer(await call.controller.state())


async def get_system(call: Call) -> web.Response:
    """The appliance as it is now."""
    return answer(await call.controller.system())


async def trace(call: Call) -> web.Response:
    """Follow packets."""
    request = await call.read(TraceRequest)
    log.info("%s from %s traces %s to %s", call.author, call.source, request.client, request.service)
    return answer(await call.controller.trace(request))


async def get_metrics(call: Call) -> web.Response:
    """State and system for Prometheus."""
    state, system = await call.controller.state(), await call.controller.system()
    text = await asyncio.to_thread(metrics.render, state, system)  # many farms make many lines
    headers = {**SECURITY_HEADERS, "Content-Type": metrics.CONTENT_TYPE}
    return web.Response(body=text.encode(), headers=headers)


async def get_console(call: Call) -> web.Response:
    """What the console shows, for the user of the console only.

    The claim code must not reach whoever comes over the network, so nginx and the GUI don't get it either: the kernel
    says which user is at the other end of the socket.
    """
    if peer_uid(call.request) not in console_uids():
        raise Refusal(403, "Only the appliance's own console is told this.")
    controller = call.controller
    system = await controller.system()
    return answer(
        Console(
            product=system.product,
            version=system.version,
            hostname=system.hostname,
            addresses=list(_own_addresses(system, controller.config)),
            claim_code=await asyncio.to_thread(lambda: controller.access.claim_code),
            troubles=system.troubles,
        )
    )


def _own_addresses(system: SystemNow, config: Configuration) -> Iterator[str]:
    virtual = config.held_addresses()
    for link in system.links:
        for text in link.addresses:
            interface = ip_interface(text)
            alone = interface.network.num_addresses == 1 and interface.ip in virtual
            if not (alone or interface.ip.is_link_local or interface.ip.is_loopback):
                yield str(interface.ip)
