# SPDX-License-Identifier: GPL-2.0-or-later
"""The permanent part of our tables: sets, chains and rules, loaded once. Only elements change later.

That of `table inet sluice` stands here, that of `table netdev sluice` in `ingress`.
"""

from hashlib import sha256

from agent.dataplane import ingress, samples
from agent.dataplane.buckets import COARSE_SIZES
from agent.dataplane.persistence import STICKY_SIZE, shared_maps
from agent.dataplane.pool import chains
from agent.dataplane.tables import ANSWER_MARK, INGRESS, INGRESS_SETS, TABLE
from agent.model import MANAGEMENT_PORT, MAX_SERVICES

_HOT = f"size {MAX_SERVICES};"
"""Of what is looked up for every connection: a set that need not grow costs less. It takes 2 MB from the start."""

_SETS = f"""\
	map services4 {{ typeof ip daddr . meta l4proto . th dport : meta mark; {_HOT} comment "service -> farm"; }}
	map services6 {{ typeof ip6 daddr . meta l4proto . th dport : meta mark; {_HOT} comment "service -> farm"; }}
	map ranges4 {{ typeof ip daddr . meta l4proto . th dport : meta mark; flags interval; comment "ranges of ports"; }}
	map ranges6 {{ typeof ip6 daddr . meta l4proto . th dport : meta mark; flags interval; comment "ranges of ports"; }}
	map whole4 {{ typeof ip daddr : meta mark; comment "virtual address of all protocols -> farm"; }}
	map whole6 {{ typeof ip6 daddr : meta mark; comment "virtual address of all protocols -> farm"; }}
	map pickers {{ typeof meta mark : verdict; {_HOT} comment "farm -> how its buckets are chosen"; }}
	map admitted {{ typeof meta mark : verdict; comment "farm with limits -> what follows them"; }}
	map choosers {{ typeof meta mark : verdict; comment "farm with persistence -> how its buckets are chosen"; }}
	map buckets {{ typeof meta mark . numgen inc mod {COARSE_SIZES[-1]} : ct mark; comment "farm, bucket -> backend"; }}
	map shared {{ typeof meta mark . numgen inc mod {COARSE_SIZES[-1]} : ct mark; comment "the same, random pickers"; }}
	map backends4 {{ typeof ct mark : ip daddr . th dport; counter; comment "backend -> address and port"; }}
	map backends6 {{ typeof ct mark : ip6 daddr . th dport; counter; comment "backend -> address and port"; }}
	map hosts4 {{ typeof ct mark : ip daddr; counter; comment "backend -> address; the port stays"; }}
	map hosts6 {{ typeof ct mark : ip6 daddr; counter; comment "backend -> address; the port stays"; }}
{shared_maps(STICKY_SIZE, ingress=False)}\
	map static4 {{ typeof meta mark . ip saddr : ct mark; flags interval; comment "farm, network -> backend"; }}
	map static6 {{ typeof meta mark . ip6 saddr : ct mark; flags interval; comment "farm, network -> backend"; }}
	set usable {{ typeof ct mark; comment "backends that take connections, of farms with persistence"; }}
	set over_rate {{ typeof meta mark; counter; comment "farms: turned away, their source opens too many a second"; }}
	set over_connections {{ typeof meta mark; counter; comment "farms: turned away, their source has too many open"; }}
	set over_resets {{ typeof meta mark; counter; comment "farms: resets dropped, their source sends too many"; }}
	set not_syn {{ typeof meta mark; counter; comment "farms: dropped, the first packet of TCP is no SYN"; }}
	map resetters {{ typeof meta mark : verdict; comment "farm -> how its sources' resets are limited"; }}
	map log_new {{ typeof meta mark : verdict; comment "farm -> how its new connections are logged"; }}
	map log_rate {{ typeof meta mark : verdict; comment "farm -> how what a limit turns away is logged"; }}
	map log_connections {{ typeof meta mark : verdict; comment "the same"; }}
	map log_strict {{ typeof meta mark : verdict; comment "the same"; }}
	map log_resets {{ typeof meta mark : verdict; comment "the same"; }}
	set slow {{ typeof ct mark; comment "backends whose packets all pass the rules"; }}
	set masqueraded {{ typeof ct mark; comment "backends that see the appliance's address"; }}
	map pooled {{ typeof ct mark : verdict; comment "backends that see an address of a pool -> which pool"; }}
	set virtual4 {{ typeof ip daddr; comment "virtual addresses that are no link's own"; }}
	set virtual6 {{ typeof ip6 daddr; comment "virtual addresses that are no link's own"; }}
	set arms {{ typeof meta iif . meta oif; size 65536; comment "in and out by the same link"; }}
	set near4 {{ typeof meta oifname . ip saddr; flags interval; comment "link . a network on it"; }}
	set near6 {{ typeof meta oifname . ip6 saddr; flags interval; comment "link . a network on it"; }}
	map graded {{ typeof ct mark : meta mark; comment "backend -> farm, of farms whose every packet is looked at"; }}
	set ceilings {{ typeof meta mark . ct direction; limit rate over 1 bytes/second; counter; comment "farm, limit"; }}
	map classes {{ typeof meta mark : meta priority; comment "farm -> class of traffic"; }}
	map markings {{ typeof meta mark . ct direction : verdict; comment "farm -> DSCP"; }}
	set screened4 {{ typeof ip daddr; comment "virtual addresses of farms with lists"; }}
	set screened6 {{ typeof ip6 daddr; comment "virtual addresses of farms with lists"; }}
	set screened_own4 {{ typeof ip daddr; comment "the same, that are a link's own"; }}
	set screened_own6 {{ typeof ip6 daddr; comment "the same, that are a link's own"; }}
	map screen_services4 {{ typeof ip daddr . meta l4proto . th dport : meta mark; comment "farms with lists"; }}
	map screen_services6 {{ typeof ip6 daddr . meta l4proto . th dport : meta mark; comment "farms with lists"; }}
	map screen_ranges4 {{ typeof ip daddr . meta l4proto . th dport : meta mark; flags interval; comment "the same"; }}
	map screen_ranges6 {{ typeof ip6 daddr . meta l4proto . th dport : meta mark; flags interval; comment "the same"; }}
	map screen_whole4 {{ typeof ip daddr : meta mark; comment "farms with lists"; }}
	map screen_whole6 {{ typeof ip6 daddr : meta mark; comment "farms with lists"; }}
	map sieves {{ typeof meta mark : verdict; comment "farm with lists -> which lists"; }}
	set denied {{ typeof meta mark; counter; comment "packets of clients that the farm denies"; }}
	set unlisted {{ typeof meta mark; counter; comment "packets of clients that the farm does not allow"; }}
	counter guarded {{ comment "dropped: for a farm, but not translated" }}
	counter refused {{ comment "refused: the farm has no usable backend" }}
	counter discarded {{ comment "dropped: the farm has no usable backend, and says drop" }}
	counter unserved {{ comment "refused: no farm has this virtual address and port" }}
"""

_DISPATCH = f"""\
		th dport {MANAGEMENT_PORT} jump management
		meta mark set ip daddr . meta l4proto . th dport map @services4 goto balance4
		meta mark set ip6 daddr . meta l4proto . th dport map @services6 goto balance6
		meta mark set ip daddr . meta l4proto . th dport map @ranges4 goto balance4
		meta mark set ip6 daddr . meta l4proto . th dport map @ranges6 goto balance6
		ip daddr @virtual4 meta mark set ip daddr map @whole4 goto balance4
		ip6 daddr @virtual6 meta mark set ip6 daddr map @whole6 goto balance6
"""
# Written into both chains that a first packet can come by: a jump would be one step more for each new connection.

_RULES = f"""\
	chain turned_away {{
		meta l4proto tcp reject with tcp reset
		ip protocol sctp reject with icmp type prot-unreachable
		reject with icmpx type port-unreachable
	}}
	chain refuse {{
		counter name refused goto turned_away
	}}
	chain discard {{
		counter name discarded drop
	}}
	chain management {{
		tcp dport {MANAGEMENT_PORT} ip daddr != @virtual4 accept
		tcp dport {MANAGEMENT_PORT} ip6 daddr != @virtual6 accept
	}}
	chain balance4 {{
		meta mark vmap @pickers
		dnat ip to ct mark map @hosts4
		meta l4proto {{ tcp, udp, sctp }} dnat ip to ct mark map @backends4
		counter name guarded drop
	}}
	chain balance6 {{
		meta mark vmap @pickers
		dnat ip6 to ct mark map @hosts6
		meta l4proto {{ tcp, udp, sctp }} dnat ip6 to ct mark map @backends6
		counter name guarded drop
	}}
	chain dispatch {{
		type nat hook prerouting priority dstnat; policy accept;
{_DISPATCH}\
	}}
	chain own {{
		type nat hook output priority -100; policy accept;
{_DISPATCH}\
	}}
	chain source {{
		type nat hook postrouting priority srcnat; policy accept;
		meta iif . meta oif @arms goto near
		meta iif 0 ct status dnat ct mark != 0 masquerade
	}}
	chain near {{
		ct status dnat ct mark != 0 meta oifname . ip saddr @near4 masquerade
		ct status dnat ct mark != 0 meta oifname . ip6 saddr @near6 masquerade
	}}
	chain forward {{
		type filter hook forward priority filter; policy drop;
		ct status & (dnat | assured) == (dnat | assured) jump established
		ct status dnat accept
		{ANSWER_MARK} accept
	}}
	chain established {{
	}}
	chain input {{
		type filter hook input priority filter; policy accept;
		ip daddr @virtual4 goto unserved
		ip6 daddr @virtual6 goto unserved
	}}
	chain unserved {{
		ct state established,related accept
		ct state invalid drop
		meta l4proto tcp counter name unserved reject with tcp reset
		ip protocol sctp counter name unserved reject with icmp type prot-unreachable
		meta l4proto {{ udp, sctp }} counter name unserved reject with icmpx type port-unreachable
	}}
"""


def _body() -> str:
    pickers = "".join(f"\tchain {name} {{ {rule}; }}\n" for name, rule in chains())
    return _SETS + pickers + _RULES


_BODY = _body()

VERSION = sha256(f"{_BODY}{samples.version()}".encode()).hexdigest()[:16]
"""Tells skeletons apart, and what comes on demand; the comment of the tables' maps `numbers` and `in_numbers`."""

SKELETON = f"""\
table {TABLE}
delete table {TABLE}
table {TABLE} {{
	map numbers {{ typeof meta mark : meta mark; comment "{VERSION}"; }}
{_BODY}}}
table {INGRESS}
delete table {INGRESS}
table {INGRESS} {{
	map in_numbers {{ typeof meta mark : meta mark; comment "{VERSION}"; }}
{ingress.body()}}}
"""
"""Replaces whatever the tables held by the permanent part, without elements. A script for nft."""

ELEMENT_SETS = (
    "numbers", "virtual4", "virtual6", "services4", "services6", "ranges4", "ranges6", "whole4", "whole6",
    "pickers", "admitted", "choosers", "buckets", "shared", "static4", "static6", "usable",
    "over_rate", "over_connections", "over_resets", "not_syn", "resetters",
    "log_new", "log_rate", "log_connections", "log_strict", "log_resets",
    "backends4", "backends6", "hosts4", "hosts6", "masqueraded", "pooled", "slow",
    "arms", "near4", "near6", "graded", "ceilings", "classes", "markings",
    "screened4", "screened6", "screened_own4", "screened_own6",
    "screen_services4", "screen_services6", "screen_ranges4", "screen_ranges6",
    "screen_whole4", "screen_whole6", "sieves", "denied", "unlisted",
    *INGRESS_SETS,
)  # fmt: skip
"""Every set that has elements of ours; those of `sticky` are the packets'."""
