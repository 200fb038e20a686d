# SPDX-License-Identifier: GPL-2.0-or-later
"""nftables' own tracing: the table that asks for it, its messages, and whose packets they are about. Pure.

Message layout: linux/netfilter/nf_tables.h, NFTA_TRACE_*; numbers in attributes are in network order.
"""

import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from struct import Struct
from typing import Literal

from agent.dataplane.packet import Packet, packet
from agent.dataplane.skeleton import SKELETON
from agent.model.trace import Origin, Service

TRACE_TABLE = "inet sluice_trace"
"""The table that is there while a trace runs: `table inet sluice` is never changed for it."""
REQUEST, ANSWER, KEPT, LEFT = "request", "answer", "kept", "left"
"""Its chains. The first two choose packets; the others see what reaches the appliance itself, or leaves it."""
PER_SECOND = 50
"""Packets a second, each way, that are followed at most."""

PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp", 1: "icmp", 47: "gre", 50: "esp"}
"""Their numbers, by IANA."""
_ICMPV6 = 58

MESSAGE = 0xA11
"""The type of a trace's netlink message: subsystem 10 (nftables), message 17."""
RULE = 0xA06
"""The type of a message that tells a rule."""

_TABLE, _CHAIN, _HANDLE, _TYPE, _VERDICT, _ID = 1, 2, 3, 4, 5, 6
_NETWORK, _TRANSPORT, _IN, _OUT, _MARK, _POLICY = 8, 9, 10, 12, 14, 16
_KIND_POLICY = 1
_FAMILIES = {1: "inet", 2: "ip", 5: "netdev", 7: "bridge", 10: "ip6"}
_VERDICTS = {0: "drop", 1: "accept", 2: "stolen", 3: "queue", 4: "repeat", 5: "stop"}
_CONTROL = {-1: "continue", -2: "break", -3: "jump", -4: "goto", -5: "return"}

_ATTRIBUTE = Struct("=HH")
_NUMBER = Struct("!I")
_SIGNED = Struct("!i")
_LONG = Struct("!Q")
_HEADER = Struct("=IH")
_FAMILY, _BODY = 16, 20
"""Where in a message the table's family is, and the attributes. The attribute NFTA_TRACE_NFPROTO is the packet's."""


@dataclass(frozen=True)
class Event:
    """One step of a packet through the rules.

    `identity` is the kernel's for the packet, and may be used again by a later one. `handle` is that of the rule that
    matched; without it the step is a chain's end, or a base chain's policy (`kind`). `packet` and the links' numbers
    come with the first step of each hook.
    """

    identity: int
    table: str
    chain: str
    kind: Literal["rule", "end", "policy"]
    handle: int | None
    verdict: str
    mark: int = 0
    packet: Packet | None = None
    link_in: int | None = None
    link_out: int | None = None

    @property
    def begins(self) -> bool:
        """Whether it is the first that is told of a packet: the trace's own rule that chose it."""
        return self.table == TRACE_TABLE and self.kind == "rule" and self.chain in (REQUEST, ANSWER)


def commands(client: Origin, service: Service, burst: int) -> str:
    """What adds the table for packets from `client` to `service` and their answers.

    The table has an owner: the kernel removes it when the socket that added it is closed, so even by a crash. One that
    this owner has left is replaced.
    """
    ip = "ip" if client.address.version == 4 else "ip6"
    # Before conntrack and all other rules, so that whatever comes in is seen; and answers right after conntrack, which
    # knows them.
    ports = [f"th {side} {port}" for side, port in (("sport", client.port), ("dport", service.port)) if port]
    original = [f"ct original {side} {port}" for side, port in _original_ports(client, service)]
    protocol = []
    if service.protocol:
        protocol = [f"meta l4proto {number_of(service)}"]
    elif ports:
        protocol = ["meta l4proto { tcp, udp, sctp }"]
    limit = f"limit rate {PER_SECOND}/second burst {burst} packets meta nftrace set 1"
    there = " ".join([f"{ip} saddr {client.address} {ip} daddr {service.address}", *protocol, *ports, limit])
    where = f"ct direction reply ct original {ip} saddr {client.address} ct original {ip} daddr {service.address}"
    back = " ".join([where, *protocol, *original, limit])
    return f"""\
table {TRACE_TABLE} {{ flags owner; }}
delete table {TRACE_TABLE}
table {TRACE_TABLE} {{
	flags owner
	chain {REQUEST} {{
		type filter hook prerouting priority raw - 1; policy accept;
		{there}
	}}
	chain {ANSWER} {{
		type filter hook prerouting priority -199; policy accept;
		{back}
	}}
	chain {KEPT} {{
		type filter hook input priority 300; policy accept;
	}}
	chain {LEFT} {{
		type filter hook postrouting priority 300; policy accept;
	}}
}}
"""


def number_of(service: Service) -> int | None:
    """The number of the protocol that is asked for; None for any."""
    if service.protocol == "icmp" and service.address.version == 6:
        return _ICMPV6
    return next((number for number, name in PROTOCOLS.items() if name == service.protocol), None)


def _original_ports(client: Origin, service: Service) -> Iterator[tuple[str, int]]:
    if client.port:
        yield "proto-src", client.port
    if service.port:
        yield "proto-dst", service.port


def events(datagram: bytes) -> Iterator[Event]:
    """The steps that a datagram of netlink tells; what else is in it is left out."""
    data = memoryview(datagram)
    at = 0
    while at + _BODY <= len(data):
        length, kind = _HEADER.unpack_from(data, at)
        if length < _BODY:
            return
        if kind == MESSAGE:
            # A message that is not as this software knows it tells nothing.
            with suppress(struct.error):
                event = _event(data[at + _FAMILY], dict(attributes(data[at + _BODY : at + length])))
                if event is not None:
                    yield event
        at += (length + 3) & ~3


def attributes(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Type and value of each attribute."""
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind & 0x3FFF, data[at + 4 : at + length]
        at += (length + 3) & ~3


def word(value: memoryview) -> str:
    """A name in an attribute."""
    return bytes(value).rstrip(b"\0").decode(errors="replace")


def _event(family: int, told: Mapping[int, memoryview]) -> Event | None:
    def number(kind: int) -> int | None:
        return int(_NUMBER.unpack(told[kind])[0]) if kind in told else None

    identity = number(_ID)
    if identity is None or _TABLE not in told or _CHAIN not in told:
        return None
    handle = int(_LONG.unpack(told[_HANDLE])[0]) if _HANDLE in told else None
    policy = number(_TYPE) == _KIND_POLICY
    seen = packet(bytes(told[_NETWORK]), bytes(told.get(_TRANSPORT, b""))) if _NETWORK in told else None
    return Event(
        identity,
        f"{_FAMILIES.get(family, family)} {word(told[_TABLE])}",
        word(told[_CHAIN]),
        "policy" if policy else "end" if handle is None else "rule",
        handle,
        _VERDICTS.get(number(_POLICY) or 0, "") if policy else _verdict(told.get(_VERDICT)),
        number(_MARK) or 0,
        seen,
        number(_IN),
        number(_OUT),
    )


def _verdict(nested: memoryview | None) -> str:
    told = dict(attributes(nested)) if nested is not None else {}
    code = _SIGNED.unpack(told[1])[0] if 1 in told else -1
    if code >= 0:
        # The upper bits are a reason or a queue's number.
        return _VERDICTS.get(code & 0xFF, str(code & 0xFF))
    chain = f" {word(told[2])}" if 2 in told else ""
    return _CONTROL.get(code, str(code)) + chain


class Gathered:
    """The steps of each packet that the trace chose, in the order in which the packets came; of `limit` packets."""

    def __init__(self, limit: int) -> None:
        self.packets: list[list[Event]] = []
        self._limit = limit
        self._present: dict[int, list[Event]] = {}

    @property
    def enough(self) -> bool:
        """Whether there are as many packets as are wanted; of the last one steps may be missing yet."""
        return len(self.packets) >= self._limit

    def add(self, told: Iterable[Event]) -> None:
        """Add steps, in the order in which the kernel told them; those of other packets are left out."""
        for event in told:
            if event.begins:
                # A later packet may have the number of an earlier one.
                self._present.pop(event.identity, None)
                if not self.enough:
                    self._present[event.identity] = []
                    self.packets.append(self._present[event.identity])
            if event.identity in self._present:
                self._present[event.identity].append(event)


Handles = Mapping[str, Sequence[int]]
"""The handles of the rules of `table inet sluice` by chain, in their order."""
Rules = Mapping[tuple[str, int], str]
"""Rules of that table by chain and handle."""

_CHAIN_TEXT = re.compile(r"^\tchain (\w+) \{\n(.*?)^\t\}$", re.MULTILINE | re.DOTALL)


def permanent(skeleton: str = SKELETON) -> dict[str, list[str]]:
    """The rules of each chain of the skeleton but the pickers, in their order."""
    found: dict[str, list[str]] = {}
    for chain, body in _CHAIN_TEXT.findall(skeleton):
        lines = [line.strip() for line in body.splitlines()]
        found[chain] = [line for line in lines if line and not line.startswith(("type ", "comment "))]
    return found


def rules(handles: Handles, chains: Mapping[str, Sequence[str]]) -> Rules:
    """Which rule of these chains each handle is, by its place; a chain that somebody has changed is left out."""
    return {
        (chain, handle): line
        for chain, lines in chains.items()
        if len(handles.get(chain, ())) == len(lines)
        for handle, line in zip(handles.get(chain, ()), lines, strict=True)
    }
