# SPDX-License-Identifier: GPL-2.0-or-later
"""`sluice status`, against a real agent."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.cli import main
from agent.model.state import FarmNow, StateNow
from agent.tests.api_world import FARM, World
from agent.tests.command_line import at_hand


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with at_hand(tmp_path, monkeypatch) as found:
        yield found


def test_status_shows_farms_and_backends(world: World, capsys: pytest.CaptureFixture[str]):
    world.client().put_farm("web", FARM)
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    assert "Snapshot 2 is in force." in out
    assert "web: up, 192.0.2.10, tcp 80, round-robin, dnat" in out
    line = next(line for line in out.splitlines() if "web1" in line)
    assert line.split()[:8] == ["web1", "192.0.2.21", "unknown", "1", "50.0%", "2", "7", "1.5"]


def test_status_says_why_a_backend_takes_nothing(world: World, capsys: pytest.CaptureFixture[str]):
    backends = {
        "first": {},
        "second": {"tier": 2},
        "third": {"state": "drain"},
        "fourth": {"state": "disabled"},
    }
    for number, backend in enumerate(backends.values(), 1):
        backend["address"] = f"192.0.2.2{number}"
    world.client().put_farm("web", FARM | {"backends": backends})
    assert main(["status"]) == 0
    told = {line.split()[0]: line.split()[2] for line in capsys.readouterr().out.splitlines() if "192.0.2.2" in line}
    assert told == {"first": "unknown", "second": "standby", "third": "drain", "fourth": "disabled"}


def test_status_says_who_starts_slowly_and_what_ends_when(world: World, monkeypatch, capsys):
    world.client().put_farm("web", FARM)
    state = world.client().state()
    web = state.farms["web"]
    starting = web.backends["web1"].model_copy(update={"ramp": 0.3})
    ends = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
    draining = web.backends["web2"].model_copy(update={"state": "drain", "role": "draining", "drain_ends": ends})
    full = web.backends["web2"].model_copy(update={"role": "full", "address": "192.0.2.23", "max_connections": 12000})
    dead = {"health": "unhealthy", "reason": "refused", "since": ends, "latency_ms": 1.25, "address": "192.0.2.24"}
    failed = web.backends["web2"].model_copy(update=dead)
    farms = {
        "web": web.model_copy(update={"backends": {"web1": starting, "web2": draining, "web3": full, "web4": failed}})
    }

    async def answer(_: object) -> StateNow:
        return state.model_copy(update={"farms": farms})

    monkeypatch.setattr(type(world.controller), "state", answer)
    assert main(["status"]) == 0
    told = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if "192.0.2.2" in line}
    assert told["web1"].split()[2] == "starting"
    assert told["web1"].endswith("starts slowly, 30% of its weight")
    assert told["web2"].split()[2] == "drain"
    assert told["web3"].split()[2] == "full"
    assert told["web3"].endswith("has the 12.0k connections that it may have")
    assert told["web4"].endswith("1.2  refused since 2026-01-01 12:30:00")
    assert told["web2"].endswith("what is left at 2026-01-01 12:30:00 UTC is cut")


def test_status_says_that_the_sorry_server_answers(world: World, capsys: pytest.CaptureFixture[str]):
    sorry = {"sorry_servers": [{"address": "192.0.2.99", "port": 8080}]}
    world.client().put_farm("web", FARM | sorry | {"backends": {}})
    assert main(["status"]) == 0
    assert "sorry server 192.0.2.99:8080 answers, since no backend takes connections" in capsys.readouterr().out
    world.client().put_farm("web", FARM | sorry)
    assert main(["status"]) == 0
    assert "sorry server 192.0.2.99:8080 finishes what it has; active: 2" in capsys.readouterr().out


def test_status_says_what_limits_turned_away(world: World, capsys: pytest.CaptureFixture[str]):
    world.client().put_farm("web", FARM | {"limit_rate": 10})
    assert main(["status"]) == 0
    assert "turned away by limits: rate 5, connections 0, strict 0, resets 0" in capsys.readouterr().out
    world.client().put_farm("web", FARM)
    assert main(["status"]) == 0
    assert "turned away" not in capsys.readouterr().out


def test_status_of_an_empty_appliance(world: World, capsys: pytest.CaptureFixture[str]):
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    assert "There are no farms." in out
    assert re.search(
        r"^Memory: [0-9.]+ [KMGT]iB of [0-9.]+ [KMGT]iB used; load: [0-9.]+ [0-9.]+ [0-9.]+\.$", out, re.MULTILINE
    )
    assert re.search(r"^Tracked connections: [0-9.]+k? of [0-9.]+k?\.$", out, re.MULTILINE)
    assert re.search(r"^Link \w+: (up|no carrier), .*\.$", out, re.MULTILINE)


def test_status_says_how_connections_pass_and_whose_turn_is_shared(world: World, monkeypatch, capsys):
    world.client().put_farm("web", FARM | {"offload": False})
    state = world.client().state()

    def told(**now: object) -> str:
        async def answer(_: object) -> StateNow:
            web = FarmNow.model_validate(state.farms["web"].model_dump() | now)
            return state.model_copy(update={"farms": {"web": web}})

        monkeypatch.setattr(type(world.controller), "state", answer)
        assert main(["status"]) == 0
        return capsys.readouterr().out

    assert "\n  not offloaded: it is switched off for this farm\n" in told()
    assert "\n  offloaded: SCTP cannot be offloaded\n" in told(
        offload="software", offload_reasons=["SCTP cannot be offloaded"]
    )
    assert "\n  offloaded to the network cards\n" in told(offload="hardware", offload_reasons=[])
    assert "turn is shared" in told(exact_turn=False)
    # There is no turn where nobody takes connections.
    assert not any("turn is shared" in told(exact_turn=False, status=status) for status in ("down", "disabled"))
    assert "turn is shared" not in told(exact_turn=True)


def test_status_says_which_settings_do_nothing(world: World, capsys: pytest.CaptureFixture[str]):
    words = "its class of traffic, bulk, does nothing: no link has a bandwidth"
    world.client().put_farm("web", FARM | {"traffic_class": "bulk"})
    assert world.client().state().farms["web"].without_effect == [words]
    assert main(["status"]) == 0
    assert f"\n  {words}\n" in capsys.readouterr().out
    world.client().put_farm("web", FARM)
    assert world.client().state().farms["web"].without_effect == []
