# SPDX-License-Identifier: GPL-2.0-or-later
"""`table netdev sluice`, which forwards packets as they come in: its sets, and chains that come with who needs them.

Packets that are none of these farms' meet two small lookups, of their addresses. A flow's packets after its first ones
meet one more, in `fresh`, which says where to. Its entries live for some seconds and are not touched by packets; a flow
that is still there then is looked for in `flows`, whose entries live as long as the farm says, and is fresh again. So a
timeout is kept at the cost of one packet in some seconds.
"""

import re
from collections.abc import Collection, Iterable
from functools import lru_cache

from agent.dataplane.buckets import COARSE_SIZES
from agent.dataplane.pool import HashPicker, Picker
from agent.dataplane.quality import Stage
from agent.dataplane.tables import ANSWER_MARK, IngressChain
from agent.model import MAX_FORWARDED, Family

FARM = 0x4000000
"""The bit of a packet's mark that tells a farm's mark from a backend's, as long as no backend is chosen."""
DATAGRAMS = 0x1000000
"""The bit of a backend's mark for its UDP flows: when it fails they leave it, where TCP connections may stay."""
CHANGED = 0x2000000
"""The bit of a backend's mark where packets are changed on the way to it: rewritten, or made fit for a tunnel."""

FLOWS_SIZE = 1 << 20
"""Flows of an IP family: a new one beyond is dropped, since nothing would hold its packets together."""
FRESH = 10
"""Seconds until a flow is looked up the longer way again."""
OPENING = 30
"""Seconds that a flow of one packet lives."""
CLOSING = 120
"""Seconds that a TCP connection is known after its client has said that it ends."""

_INIT = 1
"""The chunk that begins an SCTP association; it is alone in its packet."""
MAY_BE_FRAGMENTED = 0xBFFF
"""What is left of the flags and offset of an IPv4 packet's fragment without *don't fragment*."""

_UNFIT = re.compile(r"[^A-Za-z0-9._-]")
"""What may be in the name of a link and not in that of a chain."""
_PROTOCOLS = ("tcp", "udp", "sctp")
_ETHERTYPES: dict[Family, str] = {4: "ip", 6: "ip6"}
FAMILIES: tuple[Family, ...] = (4, 6)

UNWELCOME = Stage(
    "untunnelled",
    "type filter hook input priority -1; policy accept",
    ("meta l4proto 4 drop", "meta l4proto 41 drop"),
)
"""While there are tunnels, what comes back by one is dropped: who claims to be a backend could claim to be anybody."""

_FLOWS = f"size {FLOWS_SIZE}; flags dynamic,timeout;"
_KEYS = {4: "ip saddr . ip daddr . meta l4proto . @th,0,32", 6: "ip6 saddr . ip6 daddr . meta l4proto . @th,0,32"}
"""What tells flows apart; both ports are one part of 32 bits."""
_PICKED = f"typeof meta mark . numgen inc mod {COARSE_SIZES[-1]} : meta mark"

_HOT = f"size {MAX_FORWARDED};"
"""Of what is looked up for every packet: a set that need not grow costs less than half. It takes 2 MB."""

_SETS = f"""\
	set in_virtual4 {{ typeof ip daddr; {_HOT} comment "virtual addresses of these farms"; }}
	set in_virtual6 {{ typeof ip6 daddr; {_HOT} comment "virtual addresses of these farms"; }}
	set answering4 {{ typeof ip saddr; {_HOT} comment "backends whose answers are rewritten"; }}
	set answering6 {{ typeof ip6 saddr; {_HOT} comment "backends whose answers are rewritten"; }}
	map in_services4 {{ typeof ip daddr . meta l4proto . th dport : meta mark; comment "virtual address -> farm"; }}
	map in_services6 {{ typeof ip6 daddr . meta l4proto . th dport : meta mark; comment "virtual address -> farm"; }}
	map in_ranges4 {{ typeof ip daddr . meta l4proto . th dport : meta mark; flags interval; comment "ranges"; }}
	map in_ranges6 {{ typeof ip6 daddr . meta l4proto . th dport : meta mark; flags interval; comment "ranges"; }}
	map in_pickers {{ typeof meta mark : verdict; comment "farm -> how its buckets are chosen"; }}
	map in_buckets {{ {_PICKED}; comment "farm, bucket -> backend"; }}
	map in_shared {{ {_PICKED}; comment "the same, random pickers"; }}
	map hops4 {{ typeof meta mark : ip daddr; {_HOT} counter; comment "backend -> next hop"; }}
	map hops6 {{ typeof meta mark : ip6 daddr; {_HOT} counter; comment "backend -> next hop"; }}
	map exits {{ typeof meta mark : meta oif; {_HOT} comment "backend that gets packets -> link"; }}
	set waiting {{ typeof meta mark; comment "backends that would get packets, had a link their network"; }}
	set leaving {{ typeof meta mark; comment "backends that keep connections and take none"; }}
	map lives {{ typeof meta mark : verdict; comment "backend -> how long its flows are known"; }}
	set begun {{ typeof meta mark; counter; comment "new flows of each backend"; }}
	map targets4 {{ typeof meta mark : ip daddr; {_HOT} comment "backend, packets rewritten -> address"; }}
	map targets6 {{ typeof meta mark : ip6 daddr; {_HOT} comment "backend, packets rewritten -> address"; }}
	map target_ports {{ typeof meta mark : th dport; {_HOT} comment "the same, to a port of its own"; }}
	map ways {{ typeof meta mark : meta oif; {_HOT} comment "backend, packets changed -> link"; }}
	map replies4 {{ typeof meta iif . ip saddr . meta l4proto . th sport : meta mark; comment "answers of backends"; }}
	map replies6 {{ typeof meta iif . ip6 saddr . meta l4proto . th sport : meta mark; comment "answers of backends"; }}
	map origins4 {{ typeof meta mark : ip saddr; counter; comment "answers of a backend -> virtual address"; }}
	map origins6 {{ typeof meta mark : ip6 saddr; counter; comment "answers of a backend -> virtual address"; }}
	map origin_ports {{ typeof meta mark : th sport; comment "the same, from another port"; }}
	map flows4 {{ typeof {_KEYS[4]} : meta mark; {_FLOWS} comment "flow -> backend"; }}
	map flows6 {{ typeof {_KEYS[6]} : meta mark; {_FLOWS} comment "flow -> backend"; }}
	map fresh4 {{ typeof {_KEYS[4]} : meta mark; {_FLOWS} comment "the same, for some seconds"; }}
	map fresh6 {{ typeof {_KEYS[6]} : meta mark; {_FLOWS} comment "the same, for some seconds"; }}
	counter stranded {{ comment "dropped: for a farm, but no backend, no link, or too many flows" }}
"""


@lru_cache(maxsize=2)
def course(family: Family) -> tuple[IngressChain, ...]:
    """The chains that packets of a family go through; the first of them is where they come in."""
    key, address = _KEYS[family], "ip" if family == 4 else "ip6"
    flows, fresh, hops = f"@flows{family}", f"@fresh{family}", f"@hops{family}"
    # The exit is looked up first: a packet without one is not counted.
    forward = f"fwd {address} to meta mark map {hops} device meta mark map @exits"
    service = f"{address} daddr . meta l4proto . th dport"
    # By its link, too: nobody else may speak as a backend does, since what is rewritten is forwarded.
    reply = f"meta iif . {address} saddr . meta l4proto . th sport map @replies{family}"
    changed = f"meta mark and {CHANGED:#x} != 0"
    away = f"fwd {address} to meta mark map {hops} device meta mark map @ways"
    forget = (f"delete {fresh} {{ {key} : meta mark }}", f"delete {flows} {{ {key} : meta mark }}")

    def chain(name: str, *rules: str, to: tuple[IngressChain, ...] = ()) -> IngressChain:
        return IngressChain(f"{name}{family}", rules, leads_to=to)

    port = chain(
        "port",
        *(f"{protocol} dport set meta mark map @target_ports" for protocol in _PROTOCOLS),
        away,
    )
    # Who has no target and no way comes back: its flow is lost as it would be without an exit.
    rewrite = f"{address} daddr set meta mark map @targets{family} goto {port.name}"
    # Without its leave to be fragmented, an IPv4 packet that the tunnel makes too large would be lost without a word.
    tunnel = (f"ip frag-off set ip frag-off and {MAY_BE_FRAGMENTED:#x} {away}",) if family == 4 else ()
    changing = chain("change", rewrite, *tunnel, to=(port,))
    change = f"{changed} jump {changing.name}"
    pick = chain(
        "pick",
        "meta mark vmap @in_pickers",
        f"meta l4proto udp meta mark set meta mark or {DATAGRAMS:#x}",
        f"{changed} meta mark @begun add {flows} {{ {key} timeout {OPENING}s : meta mark }} jump {changing.name}",
        f"meta mark @begun add {flows} {{ {key} timeout {OPENING}s : meta mark }} {forward}",
        "counter name stranded drop",
        to=(changing,),
    )
    start = chain(
        "open",
        f"meta mark set {service} map @in_services{family} goto {pick.name}",
        f"meta mark set {service} map @in_ranges{family} goto {pick.name}",
        to=(pick,),
    )
    # Where only the link has lost its network for a while, a flow keeps its backend.
    anew = chain("anew", *forget, "meta mark set 0", f"goto {start.name}", to=(start,))
    lost = chain("lost", "meta mark @waiting counter name stranded drop", f"goto {anew.name}", to=(anew,))
    # Who asks for a connection has none yet: where its backend takes none, it goes elsewhere. No flow lives on by it.
    again = chain(
        "again",
        f"meta mark @leaving goto {anew.name}",
        forward,
        change,
        f"goto {lost.name}",
        to=(anew, changing, lost),
    )
    known = chain(
        "known",
        f"meta l4proto sctp @th,96,8 {_INIT} goto {again.name}",
        f"add {fresh} {{ {key} timeout {FRESH}s : meta mark }}",
        "meta mark vmap @lives",
        forward,
        change,
        f"goto {lost.name}",
        to=(again, changing, lost),
    )
    reset = chain("reset", *forget, forward, change, to=(changing,))
    ended = chain(
        "ended",
        f"tcp flags & rst != 0 goto {reset.name}",
        f"update {flows} {{ {key} timeout {CLOSING}s : meta mark }}",
        forward,
        change,
        f"goto {lost.name}",
        to=(reset, changing, lost),
    )
    ending = chain("ending", f"meta mark set {key} map {flows} goto {ended.name}", to=(ended,))
    # A flow that begins is hardly ever fresh: a SYN is looked for in `flows` at once.
    flagged = chain(
        "flagged",
        f"tcp flags & (fin | rst) != 0 goto {ending.name}",
        f"meta mark set {key} map {flows} goto {again.name}",
        f"goto {start.name}",
        to=(ending, again, start),
    )
    arrive = chain(
        "arrive",
        f"tcp flags & (fin | syn | rst) != 0 goto {flagged.name}",
        f"meta mark set {key} map {fresh} {forward}",
        change,
        f"meta mark set {key} map {flows} goto {known.name}",
        f"goto {start.name}",
        to=(flagged, changing, known, start),
    )
    enter = chain(
        "enter",
        f"{address} daddr @in_virtual{family} goto {arrive.name}",
        f"{address} saddr @answering{family} meta mark set {reply} notrack",
        to=(arrive,),
    )
    return enter, arrive, flagged, ending, ended, reset, known, again, lost, anew, start, pick, changing, port


@lru_cache(maxsize=2)
def answer(family: Family) -> IngressChain:
    """The chain that gives a backend's answers the virtual address and its port as they leave."""
    address = "ip" if family == 4 else "ip6"
    ports = (f"{protocol} sport set meta mark map @origin_ports" for protocol in _PROTOCOLS)
    return IngressChain(f"answer{family}", (f"{address} saddr set meta mark map @origins{family}", *ports))


def body() -> str:
    """What is permanent: sets only."""
    return _SETS


def version() -> str:
    """What changes with any permanent part or chain of these."""
    made = (chain for family in FAMILIES for chain in (*course(family), answer(family), life(family, 0)))
    return f"{body()}{UNWELCOME}" + "".join(chain.body for chain in made)


def rank_of(name: str) -> int:
    """How far a chain that was found is from the last that a packet meets."""
    if name.startswith(("link", "leave")):
        return max(chain.rank for chain in course(4)) + 1
    return next((chain.rank for family in FAMILIES for chain in course(family) if chain.name == name), 0)


def picking(picker: Picker | HashPicker) -> IngressChain:
    """A picker's chain as it is here, where no connection has a mark: the packet's mark is the backend's."""
    rules = (rule.replace("ct mark set", "meta mark set").replace("map @", "map @in_") for rule in picker.rules)
    return IngressChain(picker.name, tuple(rules))


def life(family: Family, timeout: int) -> IngressChain:
    """The chain that has a flow known for `timeout` seconds after its last packet, or some more."""
    key = _KEYS[family]
    # Up to FRESH seconds of its packets pass without a word.
    rule = f"update @flows{family} {{ {key} timeout {timeout + FRESH}s : meta mark }}"
    return IngressChain(f"life{family}_{timeout}", (rule,))


def entrances(links: Iterable[tuple[int, str]], families: Collection[Family]) -> list[IngressChain]:
    """The base chain of each link (index, name), by which packets of these families come in."""
    ways = {family: course(family)[0] for family in sorted(families)}
    rules = tuple(f"meta protocol {_ETHERTYPES[family]} goto {way.name}" for family, way in ways.items())
    return _gates("link", "ingress", links, rules, tuple(ways.values()))


def leaves(links: Iterable[tuple[int, str]], families: Collection[Family]) -> list[IngressChain]:
    """The base chain of each link, by which rewritten answers of these families leave."""
    ways = {family: answer(family) for family in sorted(families)}
    rules = tuple(f"{ANSWER_MARK} meta protocol {_ETHERTYPES[family]} goto {way.name}" for family, way in ways.items())
    return _gates("leave", "egress", links, rules, tuple(ways.values()))


def _gates(
    name: str, hook: str, links: Iterable[tuple[int, str]], rules: tuple[str, ...], ways: tuple[IngressChain, ...]
) -> list[IngressChain]:
    kind = name + "".join(way.name[-1] for way in ways)
    said = f'type filter hook {hook} device "{{}}" priority -100; policy accept'
    # Of a link that is renamed the old chain goes and a new one comes: a chain's device cannot be changed.
    return [
        IngressChain(f"{kind}_{index}_{_UNFIT.sub('_', link)}", rules, said.format(link), leads_to=ways)
        for index, link in links
    ]
