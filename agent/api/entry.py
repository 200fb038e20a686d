# SPDX-License-Identifier: GPL-2.0-or-later
"""Endpoints of access: claim, log in, log out, change the password."""

import asyncio

from aiohttp import web

from agent.access import NewSession, WeakPassword
from agent.api.call import Call, answer
from agent.api.problems import SECURITY_HEADERS
from agent.model import Fault, Invalid
from agent.model.answers import Claim, ClaimState, Login, PasswordChange, PasswordChanged, Session

_hashing = asyncio.Semaphore(2)
"""A password's hash takes 32 MiB and a processor: many at once must not keep the API from everybody else."""


async def get_claim(call: Call) -> web.Response:
    """Whether the appliance has an administrator."""
    return answer(ClaimState(claimed=await asyncio.to_thread(lambda: call.controller.access.claimed)))


async def claim(call: Call) -> web.Response:
    """Become the administrator of an unclaimed appliance."""
    given = await call.read(Claim)
    async with _hashing:
        session = await asyncio.to_thread(call.controller.access.claim, given.code, given.password, call.source)
    return _begun(session)


async def log_in(call: Call) -> web.Response:
    """Begin a session."""
    given = await call.read(Login)
    async with _hashing:
        session = await asyncio.to_thread(call.controller.access.log_in, given.user, given.password, call.source)
    return _begun(session)


async def log_out(call: Call) -> web.Response:
    """End the session that asks."""
    await asyncio.to_thread(call.controller.access.log_out, call.token)
    return web.Response(status=204, headers=SECURITY_HEADERS)


async def change_password(call: Call) -> web.Response:
    """Change the administrator's password and end every other session."""
    given = await call.read(PasswordChange)
    async with _hashing:
        try:
            ended = await asyncio.to_thread(
                call.controller.access.change_password, call.token, given.current, given.new, call.source
            )
        except WeakPassword as error:
            raise Invalid([Fault("/new", str(error))]) from None
    return answer(PasswordChanged(sessions_ended=ended))


def _begun(session: NewSession) -> web.Response:
    return answer(Session(token=session.token, user=session.user, expires=session.expires), status=201)
