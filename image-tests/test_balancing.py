# SPDX-License-Identifier: GPL-2.0-or-later
"""Balancing with real clients and real web servers, set up through the API."""

import http.client

import pytest

from lab.appliance import VIRTUAL_ADDRESS, VIRTUAL_ADDRESS6, Appliance, demo_farm
from lab.client import REFUSED, TIMEOUT, Client
from lab.laboratory import Laboratory
from lab.namespaces import APPLIANCE_NUMBER, BACKENDS
from lab.waiting import wait_until

OFFLOADED = "print(sum('OFFLOAD]' in line and 'mark=0' not in line for line in open('/proc/net/nf_conntrack')))"
"""Says how many of the farm's connections pass the rules by."""


def test_clients_take_turns_exactly(lab: Laboratory, claimed: Appliance) -> None:
    claimed.put_farm("shop", demo_farm(lab.backends))
    claimed.wait_healthy("shop", "web1", "web2")

    answers = lab.client.turns(20, VIRTUAL_ADDRESS)

    assert sorted(answers[:2]) == ["web1", "web2"]
    assert answers == answers[:2] * 10
    # dnat: the backend sees who asks.
    assert {seen.client for seen in lab.backend("web1").seen} == {lab.client.address}


def test_backends_and_the_appliance_itself_reach_the_farm(lab: Laboratory, claimed: Appliance) -> None:
    claimed.put_farm("shop", demo_farm(lab.backends))
    claimed.wait_healthy("shop", "web1", "web2")
    own = BACKENDS.address(APPLIANCE_NUMBER)

    # web1 asks the farm that it is in: every second time it is its own turn.
    answers = Client(lab.backend("web1").host).turns(4, VIRTUAL_ADDRESS)
    assert sorted(answers) == ["web1", "web1", "web2", "web2"]
    assert {seen.client for seen in lab.backend("web1").seen} == {own}

    ask = (
        f"import urllib.request; print(urllib.request.urlopen('http://{VIRTUAL_ADDRESS}/', timeout=10).read().decode())"
    )
    answers = [claimed.run("/usr/bin/python3", "-c", ask).strip() for _ in range(2)]
    assert sorted(answers) == ["web1", "web2"]
    assert {seen.client for seen in lab.backend("web2").seen} == {own}


def test_weights_are_kept_in_every_round(lab: Laboratory, claimed: Appliance) -> None:
    farm = demo_farm(lab.backends, scheduler="weighted")
    farm["backends"]["web1"]["weight"] = 3
    claimed.put_farm("shop", farm)
    claimed.wait_healthy("shop", "web1", "web2")

    answers = lab.client.turns(40, VIRTUAL_ADDRESS)

    for start in range(0, 40, 4):
        assert sorted(answers[start : start + 4]) == ["web1", "web1", "web1", "web2"]


def test_both_families_and_udp_take_turns_by_themselves(lab: Laboratory, claimed: Appliance) -> None:
    six = {f"{name}-six": {"address": lab.backend(name).address6} for name in lab.backends}
    farm = demo_farm(lab.backends, addresses=[VIRTUAL_ADDRESS, VIRTUAL_ADDRESS6], protocols=["tcp", "udp"])
    farm["backends"] |= six
    claimed.put_farm("shop", farm)
    claimed.wait_healthy("shop", *lab.backends, *six)

    for address in (VIRTUAL_ADDRESS, VIRTUAL_ADDRESS6):
        answers = [lab.client.get(address), lab.client.ask(address), lab.client.get(address), lab.client.ask(address)]
        assert answers == answers[:2] * 2
        assert sorted(answers[:2]) == ["web1", "web2"]


def test_a_client_comes_back_to_its_backend_until_that_dies(lab: Laboratory, claimed: Appliance) -> None:
    farm = demo_farm(lab.backends, addresses=[VIRTUAL_ADDRESS, VIRTUAL_ADDRESS6], persistence="address")
    farm["backends"] |= {f"{name}-six": {"address": lab.backend(name).address6} for name in lab.backends}
    claimed.put_farm("shop", farm)
    claimed.wait_healthy("shop", *farm["backends"])

    mine, mine6 = lab.client.get(VIRTUAL_ADDRESS), lab.client.get(VIRTUAL_ADDRESS6)
    assert lab.client.tally(6, VIRTUAL_ADDRESS) == {mine: 6}
    assert lab.client.tally(6, VIRTUAL_ADDRESS6) == {mine6: 6}

    lab.backend(mine).stop()
    claimed.wait_health("shop", mine, "unhealthy")
    other = lab.client.get(VIRTUAL_ADDRESS)
    assert other in lab.backends.keys() - {mine}
    lab.backend(mine).start()
    claimed.wait_healthy("shop", mine)
    assert lab.client.tally(6, VIRTUAL_ADDRESS) == {other: 6}


def test_a_drained_backend_gets_nothing_new(lab: Laboratory, claimed: Appliance) -> None:
    farm = demo_farm(lab.backends)
    farm["backends"]["web2"]["state"] = "drain"
    claimed.put_farm("shop", farm)
    claimed.wait_healthy("shop", "web1", "web2")

    assert lab.client.tally(10, VIRTUAL_ADDRESS) == {"web1": 10}


def test_source_nat_hides_the_client(lab: Laboratory, claimed: Appliance) -> None:
    claimed.put_farm("shop", demo_farm(lab.backends, forwarding="snat"))
    claimed.wait_healthy("shop", "web1", "web2")

    assert lab.client.tally(4, VIRTUAL_ADDRESS) == {"web1": 2, "web2": 2}
    assert {seen.client for seen in lab.backend("web1").seen} == {"10.30.0.2"}


def test_new_connections_are_in_the_journal_where_the_farm_says_so(lab: Laboratory, claimed: Appliance) -> None:
    claimed.put_farm("shop", demo_farm(lab.backends, log_prefix="shop.web"))
    claimed.wait_healthy("shop", "web1", "web2")
    lab.client.get(VIRTUAL_ADDRESS)

    def logged() -> list[str]:
        return [entry.message for entry in claimed.journal() if entry.message.startswith("shop.web ")]

    (line,) = wait_until(lambda: logged() or None, "the line of the connection", 15)
    assert line.startswith("shop.web new: IN=")
    assert f" SRC={lab.client.address} DST={VIRTUAL_ADDRESS} " in line


def test_other_ports_and_addresses_are_refused(lab: Laboratory, claimed: Appliance) -> None:
    claimed.put_farm("shop", demo_farm(lab.backends, ports=[80, 8000]))
    claimed.wait_healthy("shop", "web1", "web2")

    assert lab.client.get(VIRTUAL_ADDRESS, 81) == REFUSED
    # The GUI is for the appliance's own addresses.
    assert lab.client.get(VIRTUAL_ADDRESS, 443) == REFUSED
    # Nothing listens on the backends' port 8000: the backend's own refusal comes back.
    assert lab.client.get(VIRTUAL_ADDRESS, 8000) == REFUSED


def test_the_appliance_is_no_router(lab: Laboratory, claimed: Appliance) -> None:
    claimed.put_farm("shop", demo_farm(lab.backends))

    # The client's default route is the appliance; what is not balanced is not passed on.
    assert lab.client.get(lab.backends["web1"], timeout=3) == TIMEOUT


def test_a_backend_that_dies_is_left_out_until_it_is_back(lab: Laboratory, claimed: Appliance) -> None:
    claimed.put_farm("shop", demo_farm(lab.backends))
    claimed.wait_healthy("shop", "web1", "web2")

    lab.backend("web2").stop()
    claimed.wait_health("shop", "web2", "unhealthy")
    assert lab.client.tally(10, VIRTUAL_ADDRESS) == {"web1": 10}
    assert claimed.farm_now("shop")["status"] == "degraded"

    lab.backend("web2").start()
    claimed.wait_health("shop", "web2", "healthy")
    assert lab.client.tally(10, VIRTUAL_ADDRESS) == {"web1": 5, "web2": 5}


def test_a_backend_that_vanishes_silently_is_left_out_as_well(lab: Laboratory, claimed: Appliance) -> None:
    claimed.put_farm("shop", demo_farm(lab.backends))
    claimed.wait_healthy("shop", "web1", "web2")

    lab.backend("web1").host.unplug()
    claimed.wait_health("shop", "web1", "unhealthy")

    assert lab.client.tally(6, VIRTUAL_ADDRESS) == {"web2": 6}


def test_a_farm_is_counted(lab: Laboratory, claimed: Appliance) -> None:
    claimed.put_farm("shop", demo_farm(lab.backends))
    claimed.wait_healthy("shop", "web1", "web2")
    lab.client.turns(10, VIRTUAL_ADDRESS)

    # The figures are read from the kernel every few seconds.
    wait_until(lambda: claimed.farm_now("shop")["traffic"]["new"] == 10, "10 connections counted", 15)
    farm = claimed.farm_now("shop")
    assert [farm["backends"][name]["traffic"]["new"] for name in ("web1", "web2")] == [5, 5]
    assert farm["traffic"]["bytes_out"] > 10 * len("web1\n")
    metrics = claimed.api("GET", "/api/v1/metrics")
    assert metrics.status == 200
    assert metrics.headers["content-type"].startswith("text/plain")


def _ask_again(connection: http.client.HTTPConnection, times: int) -> int:
    """Ask on an open connection; how many octets the answers' bodies had."""
    octets = 0
    for _ in range(times):
        connection.request("GET", "/")
        octets += len(connection.getresponse().read())
    return octets


def test_established_connections_are_offloaded_counted_and_cut(lab: Laboratory, claimed: Appliance) -> None:
    farm = demo_farm(lab.backends)
    claimed.put_farm("shop", farm)
    claimed.wait_healthy("shop", "web1", "web2")
    now = claimed.farm_now("shop")
    assert (now["offload"], now["offload_reasons"]) == ("software", [])
    assert claimed.must("GET", "/api/v1/system")["offload"] == "software"

    with lab.client.stay(VIRTUAL_ADDRESS) as connection:
        _ask_again(connection, 10)
        assert claimed.run("/usr/bin/python3", "-c", OFFLOADED) == "1\n"
        wait_until(lambda: claimed.farm_now("shop")["traffic"]["bytes_out"] > 0, "bytes counted", 15)
        before = claimed.farm_now("shop")["traffic"]
        octets = _ask_again(connection, 200)
        assert claimed.run("/usr/bin/python3", "-c", OFFLOADED) == "1\n"
        wait_until(
            lambda: claimed.farm_now("shop")["traffic"]["bytes_out"] > before["bytes_out"] + octets,
            "bytes of an offloaded connection counted", 15,
        )  # fmt: skip
        assert claimed.farm_now("shop")["traffic"]["new"] == 1

        for backend in farm["backends"].values():
            backend["state"] = "disabled"
        claimed.put_farm("shop", farm)
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            _ask_again(connection, 1)

    for backend in farm["backends"].values():
        backend["state"] = "enabled"
    claimed.put_farm("shop", farm | {"offload": False})
    claimed.wait_healthy("shop", "web1", "web2")
    with lab.client.stay(VIRTUAL_ADDRESS) as connection:
        _ask_again(connection, 10)
        assert claimed.run("/usr/bin/python3", "-c", OFFLOADED) == "0\n"
        assert claimed.farm_now("shop")["offload_reasons"] == ["it is switched off for this farm"]
