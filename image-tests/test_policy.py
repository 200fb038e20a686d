# SPDX-License-Identifier: GPL-2.0-or-later
"""What a farm's settings do on the appliance, set by its sandboxed agent and felt by real clients."""

from concurrent.futures import ThreadPoolExecutor

from lab.appliance import VIRTUAL_ADDRESS, VIRTUAL_ADDRESS6, Appliance, demo_farm
from lab.client import REFUSED, TIMEOUT
from lab.laboratory import Laboratory

BULK_SENT = """
from pyroute2 import IPRoute
with IPRoute() as netlink:
    for each in netlink.get_classes(netlink.link_lookup(ifname=LINK)[0]):
        if each["handle"] == 0x51500030:
            print(each.get_attr("TCA_STATS2").get_attr("TCA_STATS_BASIC")["packets"])
"""
"""Says how many packets the class for bulk of a link has sent."""


def test_lists_and_limits_turn_clients_away(lab: Laboratory, claimed: Appliance) -> None:
    claimed.must("PUT", "/api/v1/network-lists/office", {"networks": [f"{lab.client.address}/32", "fd00:20::/64"]})
    farm = demo_farm(lab.backends)
    claimed.put_farm("shop", farm | {"allow": ["office"]})
    claimed.wait_healthy("shop", "web1", "web2")
    assert lab.client.tally(4, VIRTUAL_ADDRESS) == {"web1": 2, "web2": 2}

    claimed.put_farm("shop", farm | {"deny": ["office"]})
    assert lab.client.get(VIRTUAL_ADDRESS, timeout=3) == TIMEOUT
    assert lab.client.host.address in claimed.must("GET", "/api/v1/network-lists/office")["networks"][0]

    claimed.put_farm("shop", farm | {"limit_connections": 1, "limit_action": "reject"})
    with lab.client.stay(VIRTUAL_ADDRESS):
        assert lab.client.get(VIRTUAL_ADDRESS) == REFUSED
    now = claimed.farm_now("shop")["turned_away"]
    assert now["connections"] >= 1, now


def test_a_links_bandwidth_has_a_queue_for_each_class(lab: Laboratory, claimed: Appliance) -> None:
    links = claimed.must("GET", "/api/v1/links")
    name, link = next((name, each) for name, each in links.items() if any("10.30." in a for a in each["addresses"]))
    claimed.must("PUT", f"/api/v1/links/{name}", link | {"bandwidth": "100M"})
    claimed.put_farm("shop", demo_farm(lab.backends, traffic_class="bulk", rate_in="50M"))
    claimed.wait_healthy("shop", "web1", "web2")

    assert lab.client.tally(4, VIRTUAL_ADDRESS) == {"web1": 2, "web2": 2}

    assert int(claimed.run("/usr/bin/python3", "-c", BULK_SENT.replace("LINK", repr(name)))) >= 4 * 3
    assert claimed.must("GET", "/api/v1/state")["troubles"] == []


def test_hashed_clients_and_addresses_of_a_pool(lab: Laboratory, claimed: Appliance) -> None:
    farm = demo_farm(lab.backends, scheduler="source-hash", forwarding="snat", source_pool=["10.30.0.50-10.30.0.52"])
    claimed.put_farm("shop", farm)
    claimed.wait_healthy("shop", "web1", "web2")

    ((mine, times),) = lab.client.tally(6, VIRTUAL_ADDRESS).items()

    assert times == 6
    assert {seen.client for seen in lab.backend(mine).seen} == {f"10.30.0.{number}" for number in (50, 51, 52)}


def test_every_protocol_is_taken(lab: Laboratory, claimed: Appliance) -> None:
    six = {f"{name}-six": {"address": lab.backend(name).address6} for name in lab.backends}
    both = {"addresses": [VIRTUAL_ADDRESS, VIRTUAL_ADDRESS6], "backends": demo_farm(lab.backends)["backends"] | six}
    claimed.put_farm("associations", demo_farm({}, protocols=["sctp"], ports=["5000-5099"], checks=[]) | both)
    whole = demo_farm(lab.backends, addresses=["10.20.0.101"], protocols=["all"], ports=["all"], checks=[])
    claimed.put_farm("whole", whole)

    assert claimed.farm_now("associations")["status"] == "up"
    for port in (80, 80):
        assert lab.client.get("10.20.0.101", port) in lab.backends
        assert lab.client.ask("10.20.0.101", port) in lab.backends


def test_a_trace_tells_which_way_a_connection_took(lab: Laboratory, claimed: Appliance) -> None:
    claimed.put_farm("shop", demo_farm(lab.backends))
    claimed.wait_healthy("shop", "web1", "web2")
    asked = {"from": lab.client.address, "to": f"{VIRTUAL_ADDRESS}:80/tcp", "seconds": 30, "count": 20}

    with ThreadPoolExecutor() as pool:
        trace = pool.submit(claimed.must, "POST", "/api/v1/trace", asked, seconds=60)
        answers = []
        while not trace.done():
            answers.append(lab.client.get(VIRTUAL_ADDRESS))
        told = trace.result()

    # It may have begun in the middle of a connection; there is a whole one behind that.
    assert {packet["outcome"] for packet in told["packets"]} == {"forwarded"}
    first = [packet for packet in told["packets"] if "It opens a connection." in " ".join(packet["words"])]
    assert {packet["backend"] for packet in first} <= set(answers)
    assert "of farm shop" in told["summary"]
    assert first
