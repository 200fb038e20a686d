# SPDX-License-Identifier: GPL-2.0-or-later
"""Targets, a probe that the test answers, and a checker that runs with it."""

import asyncio
from contextlib import asynccontextmanager
from ipaddress import ip_address

from agent.health import PROBES, Answer, Checker, Target
from agent.model import TcpCheck

SOON = 10
"""Seconds that no answer takes."""


def target(port, *, host="127.0.0.1", **settings):
    """A target on this host that is tried every 20 ms; one try decides."""
    settings = {"interval": 0.02, "timeout": 5.0, "rise": 1, "fall": 1, **settings}
    # Paces below what a document may say keep the tests quick.
    return Target(ip_address(host), port, TcpCheck.model_construct(type="tcp", port=None, **settings))


class Answers:
    """A probe that the test answers: each try waits until the test says how it ends."""

    type = "tcp"

    def __init__(self):
        self.tries = asyncio.Queue()
        self.running = {}
        self.most = 0
        self.count = 0

    def label(self, target):
        return f"port {target.port}"

    async def probe(self, target):
        self.count += 1
        self.running[target.key] = self.running.get(target.key, 0) + 1
        self.most = max(self.most, self.running[target.key])
        answer = asyncio.get_running_loop().create_future()
        await self.tries.put((target, answer))
        try:
            return Answer(await answer)
        finally:
            self.running[target.key] -= 1

    async def answer(self, result):
        """Wait for the next try and answer it; the target."""
        async with asyncio.timeout(SOON):
            target, answer = await self.tries.get()
        if isinstance(result, Exception):
            answer.set_exception(result)
        else:
            answer.set_result(result)
        return target


@asynccontextmanager
async def checking(targets, probes=PROBES, kept=None):
    """A checker of these targets, and the queue of its changes."""
    changes = asyncio.Queue()
    checker = Checker(lambda target, verdict: changes.put_nowait((target, verdict)), probes=probes)
    if kept is not None:
        checker.restore(kept)
    checker.update(targets)
    try:
        async with asyncio.timeout(3 * SOON):
            yield checker, changes
    finally:
        await checker.stop()
