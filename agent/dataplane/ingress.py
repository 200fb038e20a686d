# SPDX-License-Identifier: GPL-2.0-or-later
"""`table netdev sluice`, which forwards packets as they come in: its sets, and chains that come with who needs them.

Packets that are none of these farms' meet two small lookups, of their addresses. A flow's packets after its first ones
meet one more, in `fresh`, which says where to. Its entries live for some seconds and are not touched by packets; a flow
that is still there then is looked for in `flows`, whose entries live as long as the farm says, and is fresh again. So a
timeout is kept at the cost of one packet in some seconds. The first segment of a TCP connection is hardly ever of a
flow that is fresh, and is looked for in `flows` at once.

The chains come in kinds, so that farms of one way of forwarding pay nothing for another that the document has not.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from itertools import product

from agent.dataplane.buckets import COARSE_SIZES
from agent.dataplane.persistence import STICKY_SIZE, shared_maps
from agent.dataplane.pool import HashPicker, Picker
from agent.dataplane.quality import Stage
from agent.dataplane.tables import ANSWER_MARK, IngressChain
from agent.model import MAX_FORWARDED, Family

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

KINDS = ("d", "s", "t", "ds", "dt", "st", "dst")
"""Which farms an IP family has, part of its chains' names: those whose packets stay as they are (`direct`), are
rewritten (`stateless`), or may be fragmented (IPv4 by a tunnel)."""

_UNFIT = re.compile(r"[^A-Za-z0-9._-]")
"""What may be in the name of a link and not in that of a chain."""
_PROTOCOLS = ("tcp", "udp", "sctp")
_ADDRESSES: dict[Family, str] = {4: "ip", 6: "ip6"}
FAMILIES: tuple[Family, ...] = (4, 6)

UNWELCOME = Stage(
    "untunnelled",
    "type filter hook input priority -1; policy accept",
    ("meta l4proto 4 drop", "meta l4proto 41 drop"),
)
"""While there are tunnels, what comes back by one is dropped: who claims to be a backend could claim to be anybody."""

_FLOWS = f"size {FLOWS_SIZE}; flags dynamic,timeout;"
_KEYS = {
    4: "@nh,96,32 . @nh,128,32 . @nh,72,8 . @th,0,32",
    6: "@nh,64,128 . @nh,192,128 . meta l4proto . @th,0,32",
}
"""What tells flows apart: both addresses, the protocol, and both ports as one part of 32 bits.

By their places in the header: for a part with a name nft asks in each rule once more of which IP family the packet is.
"""
_PICKED = f"typeof meta mark . numgen inc mod {COARSE_SIZES[-1]} : meta mark"

_HOT = f"size {MAX_FORWARDED};"
"""Of what is looked up for every packet or flow: a set that need not grow costs less than half. It takes 2 MB."""

_SETS = f"""\
	set in_virtual4 {{ typeof ip daddr; {_HOT} comment "virtual addresses of these farms"; }}
	set in_virtual6 {{ typeof ip6 daddr; {_HOT} comment "virtual addresses of these farms"; }}
	set answering4 {{ typeof ip saddr; {_HOT} comment "backends whose answers are rewritten"; }}
	set answering6 {{ typeof ip6 saddr; {_HOT} comment "backends whose answers are rewritten"; }}
	map in_services4 {{ typeof ip daddr . meta l4proto . th dport : meta mark; comment "virtual address -> farm"; }}
	map in_services6 {{ typeof ip6 daddr . meta l4proto . th dport : meta mark; comment "virtual address -> farm"; }}
	map in_ranges4 {{ typeof ip daddr . meta l4proto . th dport : meta mark; flags interval; comment "ranges"; }}
	map in_ranges6 {{ typeof ip6 daddr . meta l4proto . th dport : meta mark; flags interval; comment "ranges"; }}
	map in_pickers {{ typeof meta mark : verdict; {_HOT} comment "farm -> how its buckets are chosen"; }}
	map in_choosers {{ typeof meta mark : verdict; comment "farm with persistence -> how its buckets are chosen"; }}
	map in_keys {{ typeof meta mark : meta priority; comment "farm with persistence -> its key among clients"; }}
	map in_static4 {{ typeof meta mark . ip saddr : meta mark; flags interval; comment "farm, network -> backend"; }}
	map in_static6 {{ typeof meta mark . ip6 saddr : meta mark; flags interval; comment "farm, network -> backend"; }}
	set in_usable {{ typeof meta mark; comment "backends that take connections, of farms with persistence"; }}
	map in_buckets {{ {_PICKED}; comment "farm, bucket -> backend"; }}
	map in_shared {{ {_PICKED}; comment "the same, random pickers"; }}
	map hops4 {{ typeof meta mark : ip daddr; {_HOT} counter; comment "backend -> next hop"; }}
	map hops6 {{ typeof meta mark : ip6 daddr; {_HOT} counter; comment "backend -> next hop"; }}
	map exits {{ typeof meta mark : meta oif; {_HOT} comment "backend that gets packets -> link"; }}
	set waiting {{ typeof meta mark; comment "backends that would get packets, had a link their network"; }}
	set leaving {{ typeof meta mark; comment "backends that keep connections and take none"; }}
	map lives {{ typeof meta mark : verdict; comment "backend -> how long its flows are known"; }}
	set begun {{ typeof meta mark; {_HOT} counter; comment "new flows of each backend"; }}
	map targets4 {{ typeof meta mark : ip daddr; {_HOT} comment "backend, packets rewritten -> address"; }}
	map targets6 {{ typeof meta mark : ip6 daddr; {_HOT} comment "backend, packets rewritten -> address"; }}
	map ported4 {{ typeof meta mark : ip daddr; {_HOT} comment "the same, with a port of its own"; }}
	map ported6 {{ typeof meta mark : ip6 daddr; {_HOT} comment "the same, with a port of its own"; }}
	map target_ports {{ typeof meta mark : th dport; {_HOT} comment "the port of these"; }}
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
{shared_maps(STICKY_SIZE, ingress=True)}\
	counter stranded {{ comment "dropped: for a farm, but no backend, no link, or too many flows" }}
"""


_FLAGS = "@th,104,8 and"
"""Flags of a packet that is known to be TCP's: nft would ask again whether it is."""
_FIN_OR_RST, _RST = f"{_FLAGS} 0x5 != 0", f"{_FLAGS} 0x4 != 0"


@lru_cache(maxsize=len(FAMILIES) * len(KINDS))
def course(family: Family, kind: str) -> tuple[IngressChain, ...]:
    """The chains that packets of a family go through; the first of them is where they come in."""
    key, address = _KEYS[family], _ADDRESSES[family]
    flows, fresh = f"@flows{family}", f"@fresh{family}"
    # The exit is looked up first: a packet without one is not counted.
    forward = f"fwd {address} to meta mark map @hops{family} device meta mark map @exits"
    service = f"{address} daddr . meta l4proto . th dport"
    changed = f"meta mark and {CHANGED:#x} != 0"
    forget = (f"delete {fresh} {{ {key} : meta mark }}", f"delete {flows} {{ {key} : meta mark }}")

    def chain(name: str, *rules: str, to: tuple[IngressChain, ...] = ()) -> IngressChain:
        return IngressChain(f"{name}{family}{kind}", rules, leads_to=to)

    changing = _changing(family, kind)
    change = f"jump {changing[0].name}"
    begin = f"meta mark @begun add {flows} {{ {key} timeout {OPENING}s : meta mark }}"
    if kind == "d":
        onward, picked = [forward], [f"{begin} {forward}"]
    elif "d" in kind:
        onward, picked = [forward, f"{changed} {change}"], [f"{changed} {begin} {change}", f"{begin} {forward}"]
    else:
        onward, picked = [change], [f"{begin} {change}"]
    pick = chain(
        "pick",
        "meta mark vmap @in_pickers",
        f"meta l4proto udp meta mark set meta mark or {DATAGRAMS:#x}",
        *picked,
        "counter name stranded drop",
        to=changing,
    )
    start = (
        f"meta mark set {service} map @in_services{family} goto {pick.name}",
        f"meta mark set {service} map @in_ranges{family} goto {pick.name}",
    )
    # Where only the link has lost its network for a while, a flow keeps its backend.
    anew = chain("anew", *forget, "meta mark set 0", *start, to=(pick,))
    lost = chain("lost", "meta mark @waiting counter name stranded drop", f"goto {anew.name}", to=(anew,))
    # Who asks for a connection has none yet: where its backend takes none, it goes elsewhere. No flow lives on by it.
    again = chain(
        "again",
        f"meta mark @leaving goto {anew.name}",
        *onward,
        f"goto {lost.name}",
        to=(anew, *changing, lost),
    )
    known = chain(
        "known",
        f"meta l4proto sctp @th,96,8 {_INIT} goto {again.name}",
        f"add {fresh} {{ {key} timeout {FRESH}s : meta mark }}",
        "meta mark vmap @lives",
        *onward,
        f"goto {lost.name}",
        to=(again, *changing, lost),
    )
    reset = chain("reset", *forget, *onward, to=changing)
    ended = chain(
        "ended",
        f"{_RST} goto {reset.name}",
        f"update {flows} {{ {key} timeout {CLOSING}s : meta mark }}",
        *onward,
        f"goto {lost.name}",
        to=(reset, *changing, lost),
    )
    ending = chain("ending", f"meta mark set {key} map {flows} goto {ended.name}", to=(ended,))
    # A flow that begins is hardly ever fresh: a SYN is looked for in `flows` at once.
    flagged = chain(
        "flagged",
        f"{_FIN_OR_RST} goto {ending.name}",
        f"meta mark set {key} map {flows} goto {again.name}",
        *start,
        to=(ending, again, pick),
    )
    arrive = chain(
        "arrive",
        f"tcp flags & (fin | syn | rst) != 0 goto {flagged.name}",
        f"meta mark set {key} map {fresh} {onward[0]}",
        *onward[1:],
        f"meta mark set {key} map {flows} goto {known.name}",
        *start,
        to=(flagged, *changing, known, pick),
    )
    found = (arrive, flagged, ending, ended, reset, known, again, lost, anew, pick)
    return (*found, *changing) if kind != "d" else found


def _changing(family: Family, kind: str) -> tuple[IngressChain, ...]:
    """The chains that packets go through that are changed. Who has no target and no way comes back from them."""
    address, ending = _ADDRESSES[family], f"{family}{kind}"
    away = f"fwd {address} to meta mark map @hops{family} device meta mark map @ways"
    port = IngressChain(
        f"port{ending}", (*(f"{each} dport set meta mark map @target_ports" for each in _PROTOCOLS), away)
    )
    rewrite = (
        f"{address} daddr set meta mark map @targets{family} {away}",
        f"{address} daddr set meta mark map @ported{family} goto {port.name}",
    )
    # Without its leave to be fragmented, an IPv4 packet that the tunnel makes too large would be lost without a word.
    tunnel = f"ip frag-off set ip frag-off and {MAY_BE_FRAGMENTED:#x} {away}"
    rules = (*(rewrite if "s" in kind else ()), *([tunnel] if "t" in kind else ()))
    ports = (port,) if "s" in kind else ()
    return IngressChain(f"change{ending}", rules, leads_to=ports), *ports


@lru_cache(maxsize=2)
def answer(family: Family) -> IngressChain:
    """The chain that gives a backend's answers the virtual address and its port as they leave."""
    address = _ADDRESSES[family]
    ports = (f"{protocol} sport set meta mark map @origin_ports" for protocol in _PROTOCOLS)
    return IngressChain(f"answer{family}", (f"{address} saddr set meta mark map @origins{family}", *ports))


def body() -> str:
    """What is permanent: sets only."""
    return _SETS


def version() -> str:
    """What changes with any permanent part or chain of these."""
    ways = tuple(product(FAMILIES, KINDS))
    made = [chain for way in ways for chain in course(*way)]
    made += [chain for family in FAMILIES for chain in (answer(family), life(family, 0))]
    made += [gate for family, kind in ways for gate in entrances([(0, "")], {family: kind})]
    return f"{body()}{UNWELCOME}" + "".join(f"{chain.name}{chain.body}" for chain in made)


def rank_of(name: str) -> int:
    """How far a chain that was found is from the last that a packet meets."""
    courses = [course(family, kind) for family, kind in product(FAMILIES, KINDS)]
    if name.startswith(("link", "leave")):
        return max(chain.rank for chain in courses[0]) + 1
    return next((chain.rank for chains in courses for chain in chains if chain.name == name), 0)


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


def entrances(links: Iterable[tuple[int, str]], kinds: Mapping[Family, str]) -> list[IngressChain]:
    """The base chain of each link (index, name), by which packets of these families come in."""
    ways = {family: course(family, kinds[family])[0] for family in sorted(kinds)}
    rules = []
    for family, way in ways.items():
        address = _ADDRESSES[family]
        rules.append(f"{address} daddr @in_virtual{family} goto {way.name}")
        if "s" in kinds[family]:
            # By its link, too: nobody else may speak as a backend does, since what is rewritten is forwarded.
            reply = f"meta iif . {address} saddr . meta l4proto . th sport map @replies{family}"
            rules.append(f"{address} saddr @answering{family} meta mark set {reply} notrack")
    said = "".join(f"{family}{kind}" for family, kind in sorted(kinds.items()))
    return _gates(f"link{said}", "ingress", links, tuple(rules), tuple(ways.values()))


def leaves(links: Iterable[tuple[int, str]], families: Collection[Family]) -> list[IngressChain]:
    """The base chain of each link, by which rewritten answers of these families leave."""
    ways = {family: answer(family) for family in sorted(families)}
    rules = tuple(f"{ANSWER_MARK} meta protocol {_ADDRESSES[family]} goto {way.name}" for family, way in ways.items())
    return _gates(f"leave{''.join(map(str, ways))}", "egress", links, rules, tuple(ways.values()))


def _gates(
    kind: str, hook: str, links: Iterable[tuple[int, str]], rules: tuple[str, ...], ways: tuple[IngressChain, ...]
) -> list[IngressChain]:
    said = f'type filter hook {hook} device "{{}}" priority -100; policy accept'
    # Of a link that is renamed the old chain goes and a new one comes: a chain's device cannot be changed.
    return [
        IngressChain(f"{kind}_{index}_{_UNFIT.sub('_', link)}", rules, said.format(link), leads_to=ways)
        for index, link in links
    ]
