# SPDX-License-Identifier: GPL-2.0-or-later
"""The answer to a trace: its packets, and what they come to in a sentence or two. Pure."""

from collections.abc import Iterator, Sequence

from agent.dataplane.packet import Packet
from agent.dataplane.telling import Known, named, tell
from agent.dataplane.trace import Event, number_of
from agent.model.trace import PORTLESS, Origin, Service, Trace, TracedPacket


def report(
    client: Origin, service: Service, packets: Sequence[Sequence[Event]], known: Known, *, waited: float | None
) -> Trace:
    """The answer to a trace. `waited`: the seconds it took in vain for more packets; None: there were enough."""
    told = [tell(steps, known) for steps in packets]
    return Trace(summary=" ".join(_summary(client, service, told, known, waited)), packets=told)


def _summary(
    client: Origin, service: Service, told: Sequence[TracedPacket], known: Known, waited: float | None
) -> Iterator[str]:
    requests = [packet for packet in told if packet.direction == "request"]
    answers = [packet for packet in told if packet.direction == "answer"]
    good = [packet for packet in requests if packet.outcome == "forwarded"]
    if not told:
        yield from _nothing(client, service, known, waited or 0)
    elif not requests:
        yield f"Only answers to {client} were seen."
    if good:
        names = sorted({(packet.farm or "", packet.backend or "") for packet in good})
        where = ", ".join(f"{named(backend)} of farm {farm}" for farm, backend in names if backend) or "no backend"
        yield f"{_number(len(good))} forwarded to {where}."
        yield from _answered(answers, waited)
    for outcome, became in _BECAME.items():
        such = [packet.words[-1] for packet in requests if packet.outcome == outcome]
        if such:
            yield f"{_number(len(such))} {became or such[0][0].lower()}{such[0][0 if became else 1 :]}"


def _nothing(client: Origin, service: Service, known: Known, waited: float) -> Iterator[str]:
    yield f"No packet from {client} to {service} arrived within {waited:g} s."
    yield (
        "Check that the client sends to this address, its route to the appliance, cables and switches, and whether "
        "it comes from another address (NAT on its way)."
    )
    if (
        (service.port or service.protocol in PORTLESS)
        and service.protocol
        and not known.farm_at(_asked(client, service))
    ):
        yield f"No farm that is enabled has {service}."


def _answered(answers: Sequence[TracedPacket], waited: float | None) -> Iterator[str]:
    if answers and all("RST" in packet.packet for packet in answers):
        yield "The backend answered with a TCP reset: nothing listens there, or it refuses."
    elif any(packet.outcome == "forwarded" for packet in answers):
        yield "The backend answered, and its answers went on to the client."
    elif answers:
        yield f"The backend answered, but no answer went on to the client: {answers[0].words[-1]}"
    elif waited is not None:
        yield (
            f"No answer passed the appliance within {waited:g} s: does the backend run, and is the appliance its way "
            "back to the client (its default gateway, or forwarding `snat`)?"
        )


def _asked(client: Origin, service: Service) -> Packet:
    return Packet(client.address, service.address, number_of(service), client.port, service.port)


_BECAME = {
    "refused": "",
    "dropped": "",
    "lost": "given up by the kernel: ",
    "appliance": "for the appliance itself: ",
}
"""What is said of requests that were not forwarded, before their last words; those of some begin with it."""


def _number(count: int) -> str:
    return "1 packet was" if count == 1 else f"{count} packets were"
