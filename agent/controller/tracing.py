# SPDX-License-Identifier: GPL-2.0-or-later
"""Follows packets for a while: one trace at a time, beside everything else that the controller does."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

from agent.dataplane import Gathered, Kernel, Known, Ruleset, Tracer, link_name, report
from agent.model import Fault, Invalid
from agent.model.trace import Service, Trace, TraceRequest

SETTLE = 0.1
"""Seconds that the steps of the last packet have to arrive in; they do in microseconds."""

Run = Callable[..., Awaitable[Any]]


class TraceRunning(Exception):
    """Another trace runs. `retry_after_s` is when it ends at the latest, in seconds."""

    def __init__(self, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"another trace is running; it ends within {retry_after_s} s")


class Tracing:
    """The traces of one event loop. `run` is how the kernel is asked: in turn with all else that changes tables."""

    def __init__(self, kernel: Kernel, run: Run) -> None:
        self._kernel = kernel
        self._run = run
        self._until: float | None = None

    async def follow(self, request: TraceRequest, ruleset: Callable[[], Ruleset | None]) -> Trace:
        """Wait for packets and tell what became of them. Raises TraceRunning and CannotTrace.

        And Invalid for a service that is forwarded at ingress, where no trace looks. Only its beginning and its end,
        milliseconds each, take the kernel's worker; waiting holds up nothing.
        """
        loop = asyncio.get_running_loop()
        past = untraceable(ruleset(), request.service)
        if past is not None:
            raise Invalid(
                [Fault("/to", f"is served by farm {past}, whose packets are forwarded before they can be traced")]
            )
        if self._until is not None:
            raise TraceRunning(max(1, math.ceil(self._until - loop.time())))
        self._until = loop.time() + request.seconds
        try:
            tracer: Tracer = await self._run(self._kernel.tracer, request.client, request.service, request.count)
            gathered = Gathered(request.count)
            try:
                await _collect(tracer, gathered, loop.time() + request.seconds)
            finally:
                await self._run(tracer.close)
        finally:
            self._until = None
        in_force, waited = ruleset(), None if gathered.enough else float(request.seconds)

        def tell() -> Trace:
            known = Known.of(in_force, tracer.handles, link_name)
            return report(request.client, request.service, gathered.packets, known, waited=waited)

        # Many farms make many marks.
        return await asyncio.to_thread(tell)


def untraceable(ruleset: Ruleset | None, service: Service) -> str | None:
    """The farm that forwards packets for `service` at ingress; None if none does."""
    for side, part in ruleset.parts.items() if ruleset else ():
        farm = part.farm
        if farm.at_ingress and service.address in farm.addresses:
            ports = service.port is None or any(service.port in each for each in farm.ports)
            if ports and service.protocol in (None, *farm.protocols):
                return side.farm
    return None


async def _collect(tracer: Tracer, gathered: Gathered, end: float) -> None:
    """Gather steps until there are enough packets, or the loop's clock says `end`."""
    loop = asyncio.get_running_loop()
    ready, settling = asyncio.Event(), False
    loop.add_reader(tracer.fileno(), ready.set)
    try:
        while True:
            try:
                async with asyncio.timeout_at(end):
                    await ready.wait()
            except TimeoutError:
                return
            ready.clear()
            gathered.add(tracer.read())
            if gathered.enough and not settling:
                settling, end = True, min(end, loop.time() + SETTLE)
    finally:
        loop.remove_reader(tracer.fileno())
