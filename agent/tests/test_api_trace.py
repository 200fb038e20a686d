# SPDX-License-Identifier: GPL-2.0-or-later
"""Traces by the API and the command line; the kernel tells what another one has told of real packets."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli import main
from agent.client import Client, Problem
from agent.tests.api_world import World
from agent.tests.command_line import at_hand
from agent.tests.trace_records import farm

CLIENT, SERVICE = "10.20.0.10", "10.20.0.100:80/tcp"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with at_hand(tmp_path, monkeypatch) as found:
        found.client().put_farm("web", farm())
        yield found


@pytest.fixture
def client(world: World) -> Client:
    return world.client()


def test_a_trace_tells_what_became_of_the_packets(world: World, client: Client):
    world.kernel.tells = "balanced"
    trace = client.trace(CLIENT, SERVICE, seconds=60, count=2)
    assert trace.summary.startswith("1 packet was forwarded to backend b1 of farm web. The backend answered")
    there, back = trace.packets
    assert (there.direction, there.outcome, there.farm, there.backend) == ("request", "forwarded", "web", "b1")
    assert (back.direction, back.outcome) == ("answer", "forwarded")
    assert "jump turn_2_0" in [event.verdict for event in there.events]
    assert world.kernel.tracers[0].closed
    assert client.configuration().snapshot == 2, "nothing has changed"


def test_when_nothing_comes_the_time_counts(world: World, client: Client):
    trace = client.trace(CLIENT, SERVICE, seconds=1)
    assert trace.packets == []
    assert trace.summary.startswith(f"No packet from {CLIENT} to {SERVICE} arrived within 1 s.")
    assert world.kernel.tracers[0].closed


def test_there_is_one_trace_at_a_time_and_everything_else_goes_on(world: World, client: Client):
    done: list[object] = []
    waiting = threading.Thread(target=lambda: done.append(client.trace(CLIENT, SERVICE, seconds=3)))
    waiting.start()
    while not world.kernel.tracers:
        client.state()
    with pytest.raises(Problem) as caught:
        client.trace(CLIENT, SERVICE)
    assert caught.value.status == 409
    assert "another trace is running" in caught.value.detail.lower()
    assert 1 <= (caught.value.retry_after or 0) <= 3
    assert client.put_farm("web", farm(ports=[81])).number == 3
    assert not done
    waiting.join()
    assert done


def test_faults_have_their_places(client: Client):
    for content, pointers in (
        ({}, ["/from", "/to"]),
        ({"from": "x", "to": "192.0.2.1:80/gre", "seconds": 61}, ["/from", "/seconds", "/to"]),
        ({"from": "192.0.2.7", "to": "2001:db8::1"}, ["/to"]),
    ):
        with pytest.raises(Problem) as caught:
            client.request("POST", "/trace", content=content)
        assert caught.value.status == 422
        assert [fault.pointer for fault in caught.value.errors] == pointers


def test_what_the_kernel_refuses_is_told(world: World, client: Client):
    world.kernel.refuses = {"trace"}
    with pytest.raises(Problem) as caught:
        client.trace(CLIENT, SERVICE)
    assert caught.value.status == 500
    assert caught.value.detail == "The kernel cannot trace: Operation not permitted."
    world.kernel.refuses = set()
    world.kernel.tells = "hashed"
    assert client.trace(CLIENT, SERVICE, count=1).packets[0].outcome == "forwarded", "the next one may try"


def test_a_trace_is_for_those_who_are_logged_in(world: World):
    with pytest.raises(Problem) as caught:
        world.client(token=None).trace(CLIENT, SERVICE)
    assert caught.value.status == 401


def test_the_command_says_it_in_words(world: World, capsys: pytest.CaptureFixture[str]):
    world.kernel.tells = "balanced"
    assert main(["trace", "--from", CLIENT, "--to", SERVICE, "--count", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1 packet was forwarded to backend b1 of farm web.")
    assert lines[2] == "-> 10.20.0.10:52858 > 10.20.0.100:80 TCP SYN: forwarded"
    assert "   Picker turn_2_0 chose the next in turn of 2 buckets." in lines
    assert "<- 10.30.0.11:80 > 10.20.0.10:52858 TCP SYN ACK: forwarded" in lines
    assert main(["trace", "--from", CLIENT, "--to", SERVICE, "--count", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["packets"][0]["events"]


def test_the_command_tells_faults(world: World, capsys: pytest.CaptureFixture[str]):
    assert main(["trace", "--from", "x", "--to", SERVICE, "--seconds", "99"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines[1:]] == ["/from", "/seconds"]
    for wrong in (["--seconds", "x"], ["--count", "-1"]):
        with pytest.raises(SystemExit):
            main(["trace", "--from", CLIENT, "--to", SERVICE, *wrong])
        assert "is no whole number" in capsys.readouterr().err
