# SPDX-License-Identifier: GPL-2.0-or-later
"""The metrics are what Prometheus can read."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.api.metrics import render
from agent.client import Problem
from agent.model.state import (
    BackendNow,
    FarmNow,
    LinkNow,
    SorryServerNow,
    StateNow,
    SystemNow,
    Traffic,
    Trouble,
    TurnedAway,
)
from agent.tests.api_world import FARM, running

SAMPLE = re.compile(r'[a-z_]+(\{[a-z_]+="(?:[^"\\\n]|\\.)*"(,[a-z_]+="(?:[^"\\\n]|\\.)*")*\})? -?[0-9.e+-]+')
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def backend(**changes) -> BackendNow:
    given = {
        "address": "192.0.2.21",
        "port": None,
        "state": "enabled",
        "role": "active",
        "health": "healthy",
        "reason": "",
        "since": None,
        "latency_ms": 2.5,
        "weight": 3,
        "share": 0.75,
        "traffic": Traffic(active=1, new=2, bytes_in=3, bytes_out=4),
    }
    return BackendNow(**{**given, **changes})


def farm(status: str, backends: dict[str, BackendNow]) -> FarmNow:
    return FarmNow(
        status=status,
        addresses=["192.0.2.10"],
        protocols=["tcp"],
        ports=[80],
        scheduler="weighted",
        forwarding="dnat",
        when_down="reject",
        exact_turn=True,
        traffic=Traffic(active=5, new=6, bytes_in=7, bytes_out=8),
        dropped={"rate_in": 9} if status == "degraded" else {},
        backends=backends,
    )


def state(farms: dict[str, FarmNow], troubles: list[Trouble] | None = None) -> StateNow:
    return StateNow(time=NOW, snapshot=4, farms=farms, troubles=troubles or [])


def system(**changes) -> SystemNow:
    given = {
        "product": "Sluice",
        "version": "1.2.3",
        "hostname": "lb1",
        "time": NOW,
        "uptime_s": 12.5,
        "claimed": True,
        "snapshot": 4,
        "links": [LinkNow(name="eth0", mac=None, up=False, addresses=[])],
        "memory_total": 1000,
        "memory_available": 500,
        "load": (0.5, 1, 2.25),
        "data_total": None,
        "data_available": None,
        "conntrack_count": 1,
        "conntrack_max": 2,
        "kernel_settings": [],
        "troubles": [],
    }
    return SystemNow(**{**given, **changes})


def test_every_line_is_of_the_format_and_each_name_is_described_once():
    farms = {"web": farm("degraded", {"a": backend(), "b": backend(health="unhealthy", weight=0, share=0)})}
    described = []
    for line in render(state(farms), system()).removesuffix("\n").split("\n"):
        if line.startswith("# HELP "):
            described.append(line.split()[2])
        elif not line.startswith("# TYPE "):
            assert SAMPLE.fullmatch(line), line
            assert line.split("{")[0].split()[0] == described[-1]
    assert len(described) == len(set(described))
    assert all(name.startswith("sluice_") for name in described)


def test_farms_and_backends_with_their_figures():
    farms = {
        "web": farm("degraded", {"a": backend(), "b": backend(health="unhealthy", latency_ms=None, weight=0)}),
        "narrow": farm("up", {}).model_copy(update={"turned_away": TurnedAway(rate=4, connections=2)}),
        "off": farm("disabled", {"c": backend(health="unknown", latency_ms=None)}),
        "dead": farm("down", {}).model_copy(
            update={
                "sorry_servers": [
                    SorryServerNow(address="192.0.2.9", port=None, answers=True, traffic=Traffic(active=7)),
                    SorryServerNow(address="2001:db8::9", port=None, answers=False, traffic=Traffic()),
                ]
            }
        ),
    }
    lines = render(state(farms), system()).splitlines()
    for line in (
        'sluice_farm_up{farm="web"} 1',
        'sluice_farm_degraded{farm="web"} 1',
        'sluice_farm_up{farm="dead"} 0',
        'sluice_backend_healthy{farm="web",backend="a"} 1',
        'sluice_backend_healthy{farm="web",backend="b"} 0',
        'sluice_backend_weight{farm="web",backend="a"} 3',
        'sluice_backend_share{farm="web",backend="a"} 0.75',
        'sluice_backend_latency_seconds{farm="web",backend="a"} 0.0025',
        'sluice_backend_connections_total{farm="web",backend="a"} 2',
        'sluice_farm_bytes_total{farm="web",direction="out"} 8',
        'sluice_farm_dropped_packets_total{farm="web",setting="rate_in"} 9',
        'sluice_farm_turned_away_total{farm="narrow",limit="rate"} 4',
        'sluice_farm_turned_away_total{farm="narrow",limit="connections"} 2',
        'sluice_sorry_server_answers{farm="dead",family="4"} 1',
        'sluice_sorry_server_answers{farm="dead",family="6"} 0',
        'sluice_sorry_server_connections_active{farm="dead",family="4"} 7',
        'sluice_farm_turned_away_total{farm="narrow",limit="resets"} 0',
        'sluice_link_up{link="eth0"} 0',
        "sluice_snapshot 4",
        "sluice_uptime_seconds 12.5",
        'sluice_load{minutes="15"} 2.25',
    ):
        assert line in lines
    text = "\n".join(lines)
    assert 'sluice_farm_up{farm="off"}' not in text
    assert 'sluice_backend_healthy{farm="off"' not in text
    assert 'sluice_sorry_server_answers{farm="web"' not in text
    assert 'sluice_farm_turned_away_total{farm="web"' not in text
    assert 'latency_seconds{farm="web",backend="b"}' not in text
    assert not re.search(r"^sluice_data_total_bytes", text, re.MULTILINE)


def test_labels_are_escaped():
    lines = render(state({}), system(hostname='a"b\\c\nd')).splitlines()
    assert 'sluice_info{version="1.2.3",hostname="a\\"b\\\\c\\nd"} 1' in lines


def test_a_trouble_is_told_once_by_its_code():
    trouble = Trouble(code="data-missing", message="x")
    lines = render(state({}, [trouble]), system(troubles=[trouble])).splitlines()
    assert lines.count('sluice_trouble{code="data-missing"} 1') == 1


def test_a_scrape_needs_a_token(tmp_path: Path):
    with running(tmp_path) as world:
        world.client().put_farm("web", FARM)
        answer = world.client().request("GET", "/metrics")
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert 'sluice_backend_connections_active{farm="web",backend="web1"} 2' in world.client().metrics()
        with pytest.raises(Problem, match="token"):
            world.client(token=None).metrics()
