# SPDX-License-Identifier: GPL-2.0-or-later
"""Endpoints of secrets: write only, no answer has a value."""

import asyncio
import re

from aiohttp import web

from agent.api.call import Call, answer
from agent.api.problems import SECURITY_HEADERS
from agent.api.route import PREFIX
from agent.model import Fault, Invalid
from agent.model.answers import SecretValue
from agent.model.types import NAME_PATTERN


async def list_secrets(call: Call) -> web.Response:
    """Every secret, without its value."""
    return answer(await asyncio.to_thread(call.controller.secrets.told))


async def put_secret(call: Call) -> web.Response:
    """Set or replace a secret."""
    name = call.request.match_info["name"]
    given = await call.read(SecretValue)
    if not re.fullmatch(NAME_PATTERN, name):
        words = "is no name; use lower-case letters, digits and hyphens, 1 to 63 characters, no hyphen at the ends"
        raise Invalid([Fault("/name", words)])
    new, told = await call.controller.secrets.put(name, given.kind, given.value, author=call.author, source=call.source)
    return answer(told, status=201 if new else 200, location=f"{PREFIX}/secrets/{name}")


async def delete_secret(call: Call) -> web.Response:
    """Erase a secret."""
    name = call.request.match_info["name"]
    await call.controller.secrets.delete(
        name, force=call.query.get("force") == "1", author=call.author, source=call.source
    )
    return web.Response(status=204, headers=SECURITY_HEADERS)
