# SPDX-License-Identifier: GPL-2.0-or-later
"""From the steps of traced packets to words: which farm, picker and backend, and what became of the packet. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from agent.dataplane.assignment import Side
from agent.dataplane.limits import PREFIXES
from agent.dataplane.packet import Packet, endpoint
from agent.dataplane.pool import HashPicker, Picker, picker_of
from agent.dataplane.readback import TARGETS
from agent.dataplane.ruleset import Ruleset
from agent.dataplane.sources import PREFIX as POOL
from agent.dataplane.tables import TABLE
from agent.dataplane.trace import (
    KEPT,
    LEFT,
    PROTOCOLS,
    REQUEST,
    TRACE_TABLE,
    Event,
    Handles,
    Rules,
    permanent,
    rules,
)
from agent.model.trace import Outcome, TracedPacket, TraceEvent

_REJECTIONS = (
    ("tcp reset", "Refused with a TCP reset."),
    ("prot-unreachable", "Refused: ICMP protocol unreachable."),
    ("port-unreachable", "Refused: ICMP port unreachable."),
    ("reject", "Refused."),
)
SORRY = "sorry server"
"""What a farm's sorry server is called where a backend is named."""

_OVER = {
    "over_rate": "Its source opens more connections a second than the farm lets it (`limit_rate`).",
    "over_connections": "Its source has as many connections open as the farm lets it (`limit_connections`).",
    "over_resets": "Its source sends more resets a second than the farm lets it (`limit_resets`).",
    "not_syn": "It is the first packet that is known of its connection, and no SYN (`strict_tcp`).",
}
"""What is said of a packet by the set that counts it."""

_DISCARDED = "Dropped: so the farm says (`when_down`) for when no backend takes connections."
_DENIED = "Dropped: the client is in a network list that the farm denies (`deny`)."
_UNLISTED = "Dropped: the client is in no network list that the farm allows (`allow`)."
_CEILING = "Dropped: the farm has more traffic in this direction than its ceiling (`rate_in`, `rate_out`)."
_GUARD = (
    "Dropped by the guard: the bucket that it drew leads to no backend any more, since a change was just being made. "
    "A TCP client tries again by itself."
)
_FORWARD = (
    "Dropped by the policy of chain forward: only balanced connections, their answers and related ICMP pass. "
    "Connection tracking "
)


@dataclass(frozen=True)
class Known:
    """What steps are read with: marks and targets of the ruleset in force, its permanent rules, names of links."""

    ruleset: Ruleset | None
    rules: Rules
    link: Callable[[int | None], str | None]
    farms: Mapping[int, str]
    """Farms by mark."""
    targets: Mapping[tuple[str, int | None], Sequence[tuple[str, str]]]
    """(farm, backend) by address and port; None: whatever port the client asked for."""

    @classmethod
    def of(cls, ruleset: Ruleset | None, handles: Handles, link: Callable[[int | None], str | None]) -> "Known":
        """What is known by this ruleset and the handles of its rules."""
        chains: dict[str, Sequence[str]] = {**permanent()}
        if ruleset:
            chains |= {each.name: each.rules for each in ruleset.chains if not isinstance(each, HashPicker)}
        farms: dict[int, str] = {}
        targets: dict[tuple[str, int | None], list[tuple[str, str]]] = {}
        for side, part in ruleset.parts.items() if ruleset else ():
            farms[part.numbers.mark] = side.farm
            for value, comment in (each for name in TARGETS for each in part.elements.get(name, {}).values()):
                address, _, port = value.partition(" . ")
                farm, _, backend = comment.partition("/")
                who = farm, SORRY if backend.startswith("!") else backend
                targets.setdefault((address, int(port) if port else None), []).append(who)
        return cls(ruleset, rules(handles, chains), link, farms, targets)

    def farm_at(self, packet: Packet, *, source: bool = False) -> str | None:
        """The farm that has the packet's destination (or source)."""
        address, port = (packet.source, packet.source_port) if source else (packet.destination, packet.destination_port)
        protocol = PROTOCOLS.get(packet.protocol or 0)
        for side, part in self.ruleset.parts.items() if self.ruleset else ():
            farm = part.farm
            if address in farm.addresses and (
                "all" in farm.protocols
                or (protocol in farm.protocols and port is not None and any(port in ports for ports in farm.ports))
            ):
                return side.farm
        return None

    def backend(self, address: object, port: int | None, farm: str | None) -> tuple[str, str] | None:
        """The (farm, backend) with this address and port, of `farm` if that is known."""
        found = [*self.targets.get((str(address), port), ()), *self.targets.get((str(address), None), ())]
        return next((who for who in found if farm in (None, who[0])), None)


@dataclass
class _Tale:
    """What has been found out about one packet so far."""

    first: Packet
    is_request: bool
    words: list[str]
    outcome: Outcome | None = None
    farm: str | None = None
    who: tuple[str, str] | None = None
    new: bool = False
    pooled: bool = False
    picker: Picker | HashPicker | None = None
    routed: Packet | None = None
    """As it is on its way to a backend."""

    def ends(self, outcome: Outcome, *words: str) -> None:
        self.outcome = outcome
        self.words += words


def tell(steps: Sequence[Event], known: Known) -> TracedPacket:
    """What happened to one packet. `steps` begin with the trace's own rule, as `gather` has them."""
    begin = steps[0]
    nobody = ip_address("0.0.0.0")  # noqa: S104 - no binding: a packet whose headers cannot be read
    tale = _Tale(begin.packet or Packet(nobody, nobody, None), begin.chain == REQUEST, [])
    tale.words.append(f"It came in{_by(known.link(begin.link_in))}.")
    if not tale.is_request:
        _find_sender(tale, steps, known)
    for place, step in enumerate(steps[1:], 1):
        if tale.outcome is not None:
            break
        seen = next((later.packet for later in steps[place + 1 :] if later.packet), None)
        if step.table == TABLE:
            _ours(tale, step, known, seen)
        elif step.table == TRACE_TABLE:
            _way_out(tale, step, known)
        elif step.verdict in ("drop", "queue", "stolen"):
            _foreign(tale, step)
    if tale.outcome is None:
        _lost(tale, steps)
    return TracedPacket(
        packet=str(tale.first),
        direction="request" if tale.is_request else "answer",
        outcome=tale.outcome or "lost",
        farm=tale.farm,
        backend=tale.who[1] if tale.who else None,
        words=tale.words,
        events=[_event(step, known) for step in steps],
    )


def _find_sender(tale: _Tale, steps: Sequence[Event], known: Known) -> None:
    left = next((step.packet for step in steps if step.chain == LEFT and step.packet), None)
    tale.farm = known.farm_at(left, source=True) if left else None
    tale.who = known.backend(tale.first.source, tale.first.source_port, tale.farm)
    if tale.who:
        tale.farm = tale.who[0]
        tale.words.append(f"It is the answer of {named(tale.who[1])} of farm {tale.farm}.")


def _ours(tale: _Tale, step: Event, known: Known, seen: Packet | None) -> None:
    """A step in a chain of `table inet sluice`. `seen` is the packet as it is in the next hook."""
    rule = known.rules.get((step.chain, step.handle or 0), "")
    if step.chain in {"dispatch", "management"}:
        _dispatched(tale, step, known, rule)
    elif step.chain == "source" or step.chain.startswith(POOL):
        tale.pooled = tale.pooled or rule.startswith("snat")
    elif step.chain.startswith("balance") and step.verdict == "accept":
        tale.who = known.backend(seen.destination, seen.destination_port, tale.farm) if seen else None
        where = endpoint(seen.destination, seen.destination_port) if seen else "it"
        whose = f", {named(tale.who[1])}{_part(tale, known)}" if tale.who else ""
        tale.words.append(f"Its destination became {where}{whose}.")
    elif step.chain.startswith("balance") and step.verdict.startswith("goto "):
        tale.words.append("The farm has no backend that takes connections.")
    elif step.chain.startswith(("persist", *PREFIXES)) and step.kind == "rule":
        (_remembered if step.chain.startswith("persist") else _limited)(tale, step, rule)
    elif step.verdict == "goto unserved":
        tale.words.append(f"It is for the appliance: no farm serves {_service(tale.first)} of this virtual address.")
    elif step.kind == "rule" and (picker := picker_of(step.chain)) and step.verdict == "continue":
        tale.picker = picker
        tale.words.append(_picked(picker))
    elif step.chain == "forward" and not tale.new and tale.is_request:
        _followed(tale, known, step)
    if step.verdict == "drop":
        _dropped(tale, step, rule)
        tale.farm = tale.farm or known.farms.get(step.mark)


def _dispatched(tale: _Tale, step: Event, known: Known, rule: str) -> None:
    tale.new = True
    if step.verdict.startswith("goto "):
        tale.farm = known.farms.get(step.mark) or known.farm_at(tale.first)
        by = f" (map {rule.rpartition('@')[2].split()[0]})" if "@" in rule else ""
        whose = f"Farm {tale.farm} takes it" if tale.farm else f"The farm with mark {step.mark} takes it"
        tale.words.append(f"It opens a connection. {whose}{by}.")
    elif step.verdict == "accept" and step.chain == "management":
        tale.words.append("Its port is the GUI's on the appliance's own addresses: no farm is asked.")
    elif step.verdict == "accept":
        tale.words.append(f"It opens a connection. No farm has {tale.first.destination} {_service(tale.first)}.")


def _remembered(tale: _Tale, step: Event, rule: str) -> None:
    """A step in the chain of a farm's persistence."""
    if step.verdict == "return" and "@static" in rule:
        tale.words.append("Persistence: a static entry gives its network this backend.")
    elif step.verdict == "return":
        tale.words.append("Persistence: the client is remembered, and goes where it went before.")
    elif step.verdict.startswith("jump "):
        tale.words.append("Persistence: no usable backend is remembered for the client.")
    elif rule.startswith("ct mark != 0 add"):
        tale.words.append("The choice is remembered.")


def _limited(tale: _Tale, step: Event, rule: str) -> None:
    """A step in the chain of a farm's limits."""
    over = next((words for name, words in _OVER.items() if f"@{name} " in rule), None)
    if over and step.verdict.startswith(("drop", "goto ")):
        tale.words.append(over)


def _picked(picker: Picker | HashPicker) -> str:
    if isinstance(picker, HashPicker):
        return f"Picker {picker.name} chose one of {picker.size} buckets by the client's address."
    if picker.size == 1:
        return f"Picker {picker.name} has one bucket."
    how = "the next in turn" if picker.kind == "turn" else "one at random"
    return f"Picker {picker.name} chose {how} of {picker.size} buckets."


def _part(tale: _Tale, known: Known) -> str:
    """How many of the buckets that the picker chose from are the backend's."""
    if not (tale.picker and tale.who and tale.picker.size > 1 and known.ruleset):
        return ""
    part = known.ruleset.parts.get(Side(tale.who[0], tale.first.destination.version))
    share = part.shares.get(tale.who[1]) if part else None
    return "" if share is None else f", which has {round(share * tale.picker.size)} of the {tale.picker.size} buckets"


def _followed(tale: _Tale, known: Known, step: Event) -> None:
    """A packet of a connection whose first packet went through the maps at an earlier time."""
    # Only the first step in a chain shows the packet.
    packet = tale.routed = step.packet or tale.routed
    if step.verdict != "accept":
        return
    tale.farm = known.farm_at(tale.first)
    tale.who = known.backend(packet.destination, packet.destination_port, tale.farm) if packet else None
    if tale.who:
        tale.farm = tale.who[0]
    to = f" to {named(tale.who[1])} of farm {tale.farm}" if tale.who else ""
    tale.words.append(f"Its connection is known: it follows the first packet{to}, and no map is asked.")


def _dropped(tale: _Tale, step: Event, rule: str) -> None:
    rejection = next((words for text, words in _REJECTIONS if text in rule and "reject" in rule), None)
    if rejection:
        tale.ends("refused", rejection)
    elif step.kind == "policy" and step.chain == "forward":
        if tale.new:
            why = "has just met it, and no farm took it."
        else:
            why = "finds it invalid: its connection has ended, or it is out of the window."
        tale.ends("dropped", _FORWARD + why)
    elif step.chain.startswith(PREFIXES):
        tale.ends("dropped", "Dropped by the farm's limits.")
    elif "guarded" in rule or "discarded" in rule:
        tale.ends("dropped", _GUARD if "guarded" in rule else _DISCARDED)
    elif "@denied" in rule or "@unlisted" in rule:
        tale.ends("dropped", _DENIED if "@denied" in rule else _UNLISTED)
    elif "@ceilings" in rule:
        tale.ends("dropped", _CEILING)
    elif rule == "ct state invalid drop":
        tale.ends("dropped", "Dropped: connection tracking finds it invalid, such as out of its connection's window.")
    else:
        by = f"by `{rule}`" if rule else f"by rule {step.handle}" if step.handle else "by the policy"
        tale.ends("dropped", f"Dropped {by} of chain {step.chain}.")


def _way_out(tale: _Tale, step: Event, known: Known) -> None:
    if step.chain == KEPT:
        tale.ends("appliance", "The appliance itself has got it.")
    elif step.chain == LEFT:
        seen = step.packet or tale.first
        said = f"It left{_by(known.link(step.link_out))} as {seen}"
        masked = tale.is_request and seen.source != tale.first.source
        whose = "an address of the farm's source pool" if tale.pooled else "the appliance's address"
        tale.ends("forwarded", f"{said}: the backend sees {whose}." if masked else f"{said}.")


def _foreign(tale: _Tale, step: Event) -> None:
    where = f"chain {step.chain} of table {step.table}, which is not Sluice's"
    by = f"rule {step.handle}" if step.handle else "the policy"
    if step.verdict == "drop":
        tale.ends("dropped", f"Dropped by {by} in {where}.")
    else:
        tale.ends("lost", f"Handed over ({step.verdict}) by {by} in {where}.")


def _lost(tale: _Tale, steps: Sequence[Event]) -> None:
    if any(step.chain == "forward" and step.table == TABLE for step in steps):
        tale.ends("lost", "It was forwarded, but no trace of its leaving arrived.")
        return
    if any(step.chain == "input" and step.table == TABLE for step in steps):
        tale.ends("lost", "It was for the appliance, but no trace of its arrival there was told.")
        return
    to = "its backend" if tale.who or tale.farm else str(tale.first.destination)
    tale.ends(
        "lost",
        f"Then the kernel gave it up before it was forwarded: there is no route to {to}, forwarding is off, or the "
        f"reverse path filter does not let {tale.first.source} come in by this link.",
    )


def named(backend: str) -> str:
    """A backend, as a sentence names it."""
    return f"the {SORRY}" if backend == SORRY else f"backend {backend}"


def _by(link: str | None) -> str:
    return f" by {link}" if link else ""


def _service(packet: Packet) -> str:
    words = packet.kind.split()
    return f"{words[0] if words else 'this'} port {packet.destination_port}" if packet.destination_port else packet.kind


def _event(step: Event, known: Known) -> TraceEvent:
    return TraceEvent(
        table=step.table,
        chain=step.chain,
        kind=step.kind,
        handle=step.handle,
        rule=known.rules.get((step.chain, step.handle or 0)) if step.table == TABLE else None,
        verdict=step.verdict,
        mark=step.mark,
        packet=str(step.packet) if step.packet else None,
        link_in=known.link(step.link_in),
        link_out=known.link(step.link_out),
    )
