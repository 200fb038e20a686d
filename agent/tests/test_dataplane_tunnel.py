# SPDX-License-Identifier: GPL-2.0-or-later
"""Which device leads to which server, and what the elements of farms with tunnels are."""

from hypothesis import given
from hypothesis import strategies as st
from rulesets import WEB4, compiled, merged

from agent.dataplane import reweigh, script
from agent.dataplane.assignment import FIRST_TUNNEL, Side, tunnel_indexes, tunnel_name
from agent.dataplane.ingress import CHANGED, DATAGRAMS, UNWELCOME

WEB = {
    "addresses": ["10.20.0.100", "fd00:20::100"],
    "protocols": ["tcp", "udp"],
    "ports": [80],
    "forwarding": "tunnel",
    "backends": {"a": {"address": "10.50.0.1"}, "six": {"address": "fd00:50::1"}},
}
WEB6 = Side("web", 6)
ADDRESSES = st.sets(st.sampled_from([f"10.50.0.{number}" for number in range(1, 8)]))


def test_elements_lead_to_tunnels_that_are_told_beforehand():
    ruleset = compiled({"web": WEB})
    four, six = (str(FIRST_TUNNEL + number) for number in (0, 1))
    assert ruleset.assignment.tunnels == {"10.50.0.1": int(four), "fd00:50::1": int(six)}
    marks = [str(1 | CHANGED), str(1 | CHANGED | DATAGRAMS)]
    elements = ruleset.parts[WEB4].elements
    assert elements["ways"] == dict.fromkeys(marks, (four, ""))
    assert elements["hops4"] == dict.fromkeys(marks, ("10.50.0.1", "web/a"))
    assert not elements.keys() & {"exits", "targets4", "target_ports", "replies4", "origins4"}
    plain = ["2", str(2 | DATAGRAMS)]
    assert ruleset.parts[WEB6].elements["exits"] == dict.fromkeys(plain, (six, "")), "nothing of IPv6 is changed"
    assert f"# Beside it, the tunnel sluice0 (link {four}) to 10.50.0.1\n" in script(ruleset)
    assert UNWELCOME in ruleset.chains
    assert UNWELCOME not in compiled({"web": WEB | {"forwarding": "snat"}}).chains


def test_a_backend_that_fails_keeps_its_tunnel_and_loses_udp():
    both = WEB | {"backends": WEB["backends"] | {"b": {"address": "10.50.0.2"}}}
    ruleset = compiled({"web": both})
    failed = reweigh(ruleset, {"web": {"b": 1, "six": 1}})
    assert failed.assignment.tunnels is ruleset.assignment.tunnels, "nobody has to look for what is there"
    gone = merged(ruleset)["ways"].keys() - merged(failed)["ways"].keys()
    assert gone == {str(1 | CHANGED | DATAGRAMS)}
    assert "leaving" not in merged(ruleset)
    assert merged(failed)["leaving"].keys() == {str(1 | CHANGED)}, "where a client that asks again goes elsewhere"
    cut = reweigh(compiled({"web": both | {"on_failure": "cut"}}), {"web": {"b": 1, "six": 1}})
    assert len(merged(cut)["ways"]) == 2


def test_farms_share_the_tunnel_to_a_server():
    four = WEB | {"addresses": ["10.20.0.101"], "backends": {"z": WEB["backends"]["a"]}}
    ruleset = compiled({"web": WEB, "more": four})
    assert set(ruleset.assignment.tunnels) == {"10.50.0.1", "fd00:50::1"}
    assert {link for link, _ in merged(ruleset)["ways"].values()} == {str(FIRST_TUNNEL)}
    alone = compiled({"more": four}, previous=ruleset)
    assert alone.parts[Side("more", 4)] is ruleset.parts[Side("more", 4)]


@given(st.lists(ADDRESSES, min_size=1, max_size=6))
def test_tunnels_keep_their_numbers_and_none_is_handed_over_at_once(documents):
    before = {}
    for addresses in documents:
        after = tunnel_indexes(addresses, before)
        assert after.keys() == addresses
        assert len(set(after.values())) == len(after)
        assert all(after[address] == before[address] for address in addresses & before.keys())
        assert not {after[address] for address in addresses - before.keys()} & set(before.values())
        assert all(FIRST_TUNNEL <= index < FIRST_TUNNEL + 14 for index in after.values())
        before = after


def test_names_fit_a_link():
    assert tunnel_name(FIRST_TUNNEL + 2047) == "sluice2047"
