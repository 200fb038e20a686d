# SPDX-License-Identifier: GPL-2.0-or-later
"""Traces of real packets for tests: on the balancer of kernel_net.py, read whenever something is waited for."""

import contextlib
from collections.abc import Callable, Iterator

from kernel_net import CLIENT, VIRTUAL, Box, until
from nftables import Nftables

from agent.dataplane import Gathered, Known, link_name, report
from agent.model.trace import Trace, TracedPacket, TraceRequest


def request(service: str, client: str = CLIENT[4], **more: int) -> TraceRequest:
    return TraceRequest.model_validate({"from": client, "to": service, **more})


def tracing_table(box: Box) -> bool:
    """Whether the table of a trace is there."""
    # Not as JSON: libnftables before 1.0.10 uses memory that it has freed when it prints a table's flags so.
    return "sluice_trace" in str(box.balancer.run(lambda: Nftables().cmd("list tables"))[1])


class Watch:
    """A trace on the balancer, with what it has gathered so far."""

    def __init__(self, box: Box, asked: TraceRequest) -> None:
        self._box, self._asked = box, asked
        self.gathered = Gathered(asked.count)
        self.tracer = box.balancer.run(box.kernel.tracer, asked.client, asked.service, asked.count)

    def told(self) -> Trace:
        self.gathered.add(self.tracer.read())
        known = Known.of(self._box.ruleset, self.tracer.handles, link_name)
        return self._box.balancer.run(
            report, self._asked.client, self._asked.service, self.gathered.packets, known, waited=1.0
        )

    def packets(self, number: int, where: Callable[[TracedPacket], bool]) -> list[TracedPacket]:
        """Wait for so many packets of a kind."""
        found: list[TracedPacket] = []

        def come() -> bool:
            found[:] = [packet for packet in self.told().packets if where(packet)]
            return len(found) >= number

        until(come)
        return found


@contextlib.contextmanager
def watching(box: Box, service: str, client: str = CLIENT[4], count: int = 20) -> Iterator[Watch]:
    watch = Watch(box, request(service, client, count=count))
    try:
        yield watch
    finally:
        box.balancer.run(watch.tracer.close)
    assert not tracing_table(box)


def ended(outcome: str, direction: str = "request") -> Callable[[TracedPacket], bool]:
    return lambda packet: packet.outcome == outcome and packet.direction == direction


def service(port: int, protocol: str = "tcp", family: int = 4) -> str:
    address = VIRTUAL[family] if family == 4 else f"[{VIRTUAL[family]}]"
    return f"{address}:{port}/{protocol}"
