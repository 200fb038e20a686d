# SPDX-License-Identifier: GPL-2.0-or-later
"""From what the kernel tells of a traced packet to words."""

from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dataplane import Known, report
from agent.dataplane.packet import packet
from agent.dataplane.telling import tell
from agent.dataplane.trace import TRACE_TABLE, Event, Gathered, commands, events, permanent
from agent.dataplane.trace import rules as rules_of
from agent.model import Fault, Invalid, conform
from agent.model.trace import Origin, Service, TracedPacket, TraceRequest
from agent.tests.trace_records import datagrams, gathered, known, link, ruleset

CLIENT, VIRTUAL = ip_address("10.20.0.10"), ip_address("10.20.0.100")


def told(story: str, **settings: object) -> list[TracedPacket]:
    by = known(ruleset(**settings), story)
    return [tell(steps, by) for steps in gathered(datagrams(story))]


def test_a_balanced_connection_and_its_answer():
    there, back = told("balanced")
    assert (there.direction, there.outcome, there.farm, there.backend) == ("request", "forwarded", "web", "b1")
    assert there.packet == "10.20.0.10:52858 > 10.20.0.100:80 TCP SYN"
    assert there.words == [
        "It came in by front.",
        "It opens a connection. Farm web takes it (map services4).",
        "Picker turn_2_0 chose the next in turn of 2 buckets.",
        "Its destination became 10.30.0.11:80, backend b1, which has 1 of the 2 buckets.",
        "It left by back as 10.20.0.10:52858 > 10.30.0.11:80 TCP SYN.",
    ]
    assert (back.direction, back.outcome, back.farm, back.backend) == ("answer", "forwarded", "web", "b1")
    assert back.packet == "10.30.0.11:80 > 10.20.0.10:52858 TCP SYN ACK"
    assert back.words == [
        "It came in by back.",
        "It is the answer of backend b1 of farm web.",
        "It left by front as 10.20.0.100:80 > 10.20.0.10:52858 TCP SYN ACK.",
    ]
    step = next(event for event in there.events if event.verdict == "jump turn_2_0")
    assert (step.table, step.chain, step.rule) == ("inet sluice", "balance4", "meta mark vmap @pickers")


def test_a_masqueraded_one_of_ipv6():
    there, back = told("masqueraded", family=6, forwarding="snat")
    assert there.words[-1] == (
        "It left by back as [fd00:30::1]:20001 > [fd00:30::11]:80 UDP: the backend sees the appliance's address."
    )
    assert back.words[-1] == "It left by front as [fd00:20::100]:80 > [fd00:20::10]:20001 UDP."
    assert {there.backend, back.backend} == {"b1"}


def test_a_known_connection_goes_past_the_maps():
    (only,) = told("known")
    assert (only.outcome, only.farm, only.backend) == ("forwarded", "web", "b2")
    words = "Its connection is known: it follows the first packet to backend b2 of farm web, and no map is asked."
    assert only.words[1] == words


@pytest.mark.parametrize(
    ("story", "outcome", "farm", "words"),
    [
        ("refused", "refused", "web", "The farm has no backend that takes connections. Refused with a TCP reset."),
        (
            "unserved",
            "refused",
            None,
            "No farm has 10.20.0.100 TCP port 99. It is for the appliance: no farm serves TCP port 99 of this virtual",
        ),
        ("guard", "dropped", "web", "Dropped by the guard: the bucket that it drew leads to no backend any more"),
        (
            "not balanced",
            "dropped",
            None,
            "Dropped by the policy of chain forward: only balanced connections, their answers and related ICMP pass.",
        ),
    ],
)
def test_what_became_of_those_that_were_not_forwarded(story, outcome, farm, words):
    (only,) = told(story)
    assert (only.outcome, only.farm, only.backend) == (outcome, farm, None)
    assert words in " ".join(only.words)


def test_a_hash_picker_is_named():
    (only,) = told("hashed", scheduler="source-hash")
    assert "Picker hash4_509_32 chose one of 509 buckets by the client's address." in only.words


def test_a_farm_that_is_gone_meanwhile_is_told_by_its_mark():
    by = known(None, "balanced")
    there = tell(gathered(datagrams("balanced"))[0], by)
    assert "It opens a connection. The farm with mark 1 takes it (map services4)." in there.words
    assert (there.farm, there.backend, there.outcome) == (None, None, "forwarded")


def test_rules_that_nobody_knows_are_told_by_their_handles():
    by = replace(known(ruleset(), {}), link=lambda _: None)
    only = tell(gathered(datagrams("guard"))[0], by)
    assert only.words[0] == "It came in."
    assert only.words[-1].startswith("Dropped by rule ")
    assert only.words[-1].endswith(" of chain balance4.")


def begin(**more: object) -> Event:
    first = gathered(datagrams("guard"))[0][0]
    return replace(first, **more)


def step(table: str, chain: str, verdict: str, kind: str = "rule", handle: int | None = 7) -> Event:
    return Event(begin().identity, table, chain, kind, handle if kind == "rule" else None, verdict)


@pytest.mark.parametrize(
    ("steps", "outcome", "words"),
    [
        (
            [step("ip other", "wall", "drop")],
            "dropped",
            "Dropped by rule 7 in chain wall of table ip other, which is not Sluice's.",
        ),
        (
            [step("ip other", "wall", "drop", "policy")],
            "dropped",
            "Dropped by the policy in chain wall of table ip other, which is not Sluice's.",
        ),
        ([step("ip other", "wall", "queue")], "lost", "Handed over (queue) by rule 7 in chain wall of table ip other"),
        ([step("inet sluice", "forward", "drop", "policy")], "dropped", "finds it invalid"),
        ([step("inet sluice", "management", "accept")], "lost", "no farm is asked. Then the kernel gave it up"),
        ([step("inet sluice", "dispatch", "goto balance4")], "lost", "no route to its backend"),
        ([], "lost", "there is no route to 10.20.0.100"),
        ([step("inet sluice", "forward", "accept")], "lost", "no trace of its leaving"),
        ([step("inet sluice", "input", "accept", "policy")], "lost", "no trace of its arrival"),
        ([step("inet sluice", "new_chain", "drop")], "dropped", "Dropped by rule 7 of chain new_chain."),
        ([step(TRACE_TABLE, "kept", "accept", "policy")], "appliance", "The appliance itself has got it."),
    ],
)
def test_ways_to_end(steps, outcome, words):
    only = tell([begin(), *steps], known(ruleset(), {}))
    assert only.outcome == outcome
    assert words in " ".join(only.words)


@pytest.mark.parametrize(
    ("rule", "outcome", "words"),
    [
        ("ip protocol sctp reject with icmp type prot-unreachable", "refused", "Refused: ICMP protocol unreachable."),
        ("reject with icmpx type port-unreachable", "refused", "Refused: ICMP port unreachable."),
        ("reject", "refused", "Refused."),
        ("ct state invalid drop", "dropped", "Dropped: connection tracking finds it invalid"),
        ("limit rate over 1/second drop", "dropped", "Dropped by `limit rate over 1/second drop` of chain unserved."),
    ],
)
def test_rules_that_end_a_packet(rule, outcome, words):
    only = tell([begin(), step("inet sluice", "unserved", "drop")], known(ruleset(), {("unserved", 7): rule}))
    assert only.outcome == outcome
    assert only.words[-1].startswith(words)


def test_a_packet_whose_headers_cannot_be_read_is_told_all_the_same():
    only = tell([begin(packet=None)], known(ruleset(), {}))
    assert only.outcome == "lost"


def summary(story: str | None, waited: float | None = 10, service: str = "10.20.0.100:80/tcp", limit: int = 20) -> str:
    asked = TraceRequest.model_validate({"from": str(CLIENT), "to": service})
    packets = gathered(datagrams(story), limit) if story else []
    told_with = known(ruleset(), story or {})
    return report(asked.client, asked.service, packets, told_with, waited=waited).summary


def test_summaries():
    assert summary("balanced") == (
        "1 packet was forwarded to backend b1 of farm web. The backend answered, and its answers went on to the client."
    )
    assert summary("refused") == "1 packet was refused with a TCP reset."
    assert summary("guard").startswith("1 packet was dropped by the guard: the bucket ")
    assert summary("known", waited=None) == "1 packet was forwarded to backend b2 of farm web."
    assert "No answer passed the appliance within 10 s: does the backend run" in summary("known")
    nothing = summary(None)
    assert nothing.startswith("No packet from 10.20.0.10 to 10.20.0.100:80/tcp arrived within 10 s. Check that ")
    assert "No farm" not in nothing
    assert summary(None, service="10.20.0.100:99/tcp").endswith("No farm that is enabled has 10.20.0.100:99/tcp.")
    assert "No farm" not in summary(None, service="10.20.0.100")


def test_the_summary_of_packets_that_were_neither_forwarded_nor_refused():
    asked = TraceRequest.model_validate({"from": str(CLIENT), "to": str(VIRTUAL)})
    for steps, words in (
        ([], "2 packets were given up by the kernel: Then the kernel gave it up"),
        ([step(TRACE_TABLE, "kept", "accept", "policy")], "2 packets were for the appliance itself: The appliance "),
    ):
        packets = [[begin(), *steps]] * 2
        found = report(asked.client, asked.service, packets, known(ruleset(), {}), waited=1)
        assert found.summary.startswith(words)


def test_only_answers():
    asked = TraceRequest.model_validate({"from": str(CLIENT), "to": str(VIRTUAL)})
    answer = gathered(datagrams("balanced"))[1:]
    found = report(asked.client, asked.service, answer, known(ruleset(), {}), waited=1)
    assert found.summary == "Only answers to 10.20.0.10 were seen."


def test_the_number_of_a_packet_may_come_again():
    twice = gathered([*datagrams("guard"), *datagrams("guard")])
    assert len(twice) == 2
    assert twice[0] == twice[1]


def test_packets_beyond_the_limit_and_those_of_others_are_left_out():
    found = Gathered(1)
    assert not found.enough
    for datagram in [*datagrams("refused"), *datagrams("balanced")]:
        found.add(events(datagram))
    assert found.enough
    assert len(found.packets) == 1
    assert len({event.identity for event in found.packets[0]}) == 1
    assert gathered(datagrams("guard")[1:]) == [], "without the beginning nobody knows whose trace it is"


@given(st.sampled_from(datagrams("balanced")), st.data())
def test_whatever_comes_over_the_socket_does_no_harm(datagram, data):
    at = data.draw(st.integers(0, len(datagram) - 1))
    changed = datagram[:at] + bytes([data.draw(st.integers(0, 255))]) + datagram[at + 1 :]
    for event in events(changed[: data.draw(st.integers(0, len(changed)))]):
        tell([event], known(None, {}))


def test_packets_of_other_protocols_and_broken_headers():
    head = bytes([0x45, *[0] * 8, 47, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2])
    assert str(packet(head, b"")) == "192.0.2.1 > 192.0.2.2 GRE"
    assert str(packet(head[:9] + bytes([99]) + head[10:], b"")) == "192.0.2.1 > 192.0.2.2 protocol 99"
    assert str(packet(head[:9] + bytes([6]) + head[10:], b"")) == "192.0.2.1 > 192.0.2.2 protocol 6"
    six = bytes([0x60, *[0] * 5, 44, 0]) + ip_address("2001:db8::1").packed + ip_address("2001:db8::2").packed
    assert str(packet(six, b"")) == "2001:db8::1 > 2001:db8::2"
    for broken in (b"", head[:19], six[:39], bytes(40)):
        assert packet(broken, b"") is None


def test_rules_are_known_by_their_place_in_the_chain():
    skeleton = "\tchain a {\n\t\ttype filter hook input priority 0; policy accept;\n\t\tone\n\t\ttwo\n\t}\n"
    chains = permanent(skeleton)
    assert chains == {"a": ["one", "two"]}
    assert rules_of({"a": [5, 9], "b": [1]}, chains) == {("a", 5): "one", ("a", 9): "two"}
    assert rules_of({"a": [5]}, chains) == {}, "somebody has changed it"
    named = {"dispatch", "balance4", "balance6", "refuse", "forward", "source", "input", "unserved"}
    assert named <= permanent().keys(), "the words are made by these names"


def test_persistence():
    persistent = ruleset(persistence="address", persistence_static={"192.0.2.0/24": "b1"})
    (chain,) = persistent.chains
    lines = list(chain.rules)
    by = Known.of(persistent, {chain.name: [1, 2, 3, 4, 5]}, link)
    assert by.rules[chain.name, 4] == lines[3]
    told = []
    for steps in ([(1, "return")], [(2, "return")], [(3, "continue"), (4, "jump turn_2_0"), (5, "continue")]):
        inside = [step("inet sluice", chain.name, verdict, handle=handle) for handle, verdict in steps]
        told.append(tell([begin(), *inside], by).words[1:-1])
    assert told == [
        ["Persistence: a static entry gives its network this backend."],
        ["Persistence: the client is remembered, and goes where it went before."],
        ["Persistence: no usable backend is remembered for the client.", "The choice is remembered."],
    ]


def test_the_table_asks_for_exactly_what_was_asked():
    text = commands(Origin(CLIENT, 4000), Service(VIRTUAL, 80, "tcp"), 7)
    assert "ip saddr 10.20.0.10 ip daddr 10.20.0.100 meta l4proto 6 th sport 4000 th dport 80 limit rate" in text
    assert "ct original proto-src 4000 ct original proto-dst 80 limit" in text
    assert "burst 7 packets" in text
    assert "flags owner" in text
    text = commands(Origin(ip_address("2001:db8::1")), Service(ip_address("2001:db8::2")), 7)
    assert "ip6 saddr 2001:db8::1 ip6 daddr 2001:db8::2 limit" in text
    assert "l4proto" not in text
    ping = Service(ip_address("2001:db8::2"), protocol="icmp")
    text = commands(Origin(ip_address("2001:db8::1")), ping, 7)
    assert "ip6 saddr 2001:db8::1 ip6 daddr 2001:db8::2 meta l4proto 58 limit" in text
    assert text.count("meta l4proto 58 ") == 2
    assert "daddr 10.20.0.100 meta l4proto 47 limit" in commands(Origin(CLIENT), Service(VIRTUAL, protocol="gre"), 7)
    assert "meta l4proto { tcp, udp, sctp } th sport 7" in commands(Origin(CLIENT, 7), Service(VIRTUAL), 7)


@pytest.mark.parametrize(
    ("written", "client", "service"),
    [
        (("192.0.2.7", "192.0.2.10"), ("192.0.2.7", None), ("192.0.2.10", None, None)),
        (("192.0.2.7:4000", "192.0.2.10:80"), ("192.0.2.7", 4000), ("192.0.2.10", 80, None)),
        (("2001:db8::7", "[2001:db8::10]:53/udp"), ("2001:db8::7", None), ("2001:db8::10", 53, "udp")),
        (("[2001:db8::7]:4000", "2001:db8::10"), ("2001:db8::7", 4000), ("2001:db8::10", None, None)),
        (("192.0.2.7", "192.0.2.10/icmp"), ("192.0.2.7", None), ("192.0.2.10", None, "icmp")),
        (("2001:db8::7", "2001:db8::10/gre"), ("2001:db8::7", None), ("2001:db8::10", None, "gre")),
        (("192.0.2.7:4000", "192.0.2.10/tcp"), ("192.0.2.7", 4000), ("192.0.2.10", None, "tcp")),
    ],
)
def test_forms_of_addresses(written, client, service):
    asked = conform(TraceRequest, {"from": written[0], "to": written[1]})
    assert (str(asked.client.address), asked.client.port) == client
    assert (str(asked.service.address), asked.service.port, asked.service.protocol) == service
    assert (str(asked.client), str(asked.service)) == written
    assert conform(TraceRequest, asked.model_dump(by_alias=True)) == asked
    assert (asked.seconds, asked.count) == (10, 10)


GOOD = {"from": "192.0.2.7", "to": "192.0.2.10:80/tcp"}


@pytest.mark.parametrize(
    ("change", "pointer", "words"),
    [
        ({"from": "nobody"}, "/from", '"nobody" is not an IP address'),
        ({"from": 7}, "/from", "7 is not of this form; write it like 192.0.2.7, 192.0.2.7:4000 or [2001:db8::7]:4000"),
        ({"from": "192.0.2.7:0"}, "/from", "has a port that is out of range; ports are 1 to 65535"),
        ({"from": "192.0.2.7:70000"}, "/from", "has a port that is out of range"),
        ({"from": "192.0.2.7:4000/tcp"}, "/from", "is not of this form"),
        ({"from": "192.0.2.7; drop"}, "/from", "is not an IP address"),
        ({"from": "192.0.2.0/24"}, "/from", "is not an IP address"),
        ({"from": "127.0.0.1"}, "/from", "is a special address"),
        ({"from": "[192.0.2.7"}, "/from", "is not of this form"),
        ({"to": "192.0.2.10:80/ospf"}, "/to", "has an unknown protocol; use tcp, udp, sctp, icmp, gre or esp"),
        ({"to": "192.0.2.0/24"}, "/to", "has an unknown protocol"),
        ({"to": "192.0.2.10/"}, "/to", "has an unknown protocol"),
        ({"to": "192.0.2.10:80/icmp"}, "/to", "has a port, which icmp knows nothing of; leave it out"),
        ({"from": "192.0.2.7:9", "to": "192.0.2.10/gre"}, "/to", "asked by gre, which has no ports, and the client"),
        ({"to": "192.0.2.10:80:81/tcp"}, "/to", "is not an IP address"),
        ({"to": "[2001:db8::10]:80"}, "/to", "is IPv6, the client is IPv4; use one family"),
        ({"to": "224.0.0.1"}, "/to", "is a special address"),
        ({"seconds": 0}, "/seconds", "must be at least 1, not 0"),
        ({"seconds": 61}, "/seconds", "must be at most 60, not 61"),
        ({"seconds": "10"}, "/seconds", "must be a whole number"),
        ({"count": 51}, "/count", "must be at most 50, not 51"),
        ({"colour": 1}, "/colour", "is not a field"),
    ],
)
def test_faults_of_what_is_asked(change, pointer, words):
    with pytest.raises(Invalid) as caught:
        conform(TraceRequest, GOOD | change)
    (fault,) = caught.value.faults
    assert fault.pointer == pointer
    assert words in fault.message


def test_all_faults_are_told():
    with pytest.raises(Invalid) as caught:
        conform(TraceRequest, {})
    assert caught.value.faults == [Fault(place, "is missing; it must be given") for place in ("/from", "/to")]
