# SPDX-License-Identifier: GPL-2.0-or-later
"""The deadline of a drain: the agent's own loop and timer, a real kernel, real connections."""

import asyncio

import pytest
from edges import HostEdge
from kernel_agent import Agent, put
from kernel_net import backend_address, farm, serving

from agent.controller import Controller
from agent.model.state import BackendNow

pytestmark = pytest.mark.kernel


@pytest.fixture
def box():
    with serving(1, 2) as box:
        yield box


async def put_state(agent: Controller, seconds: int, state: str) -> None:
    web = farm(1, 2, protocols=["tcp", "udp"], drain_timeout=seconds)
    web["backends"]["b1"]["state"] = state
    await put(agent, web)


async def first(agent: Controller) -> BackendNow:
    return (await agent.state()).farms["web"].backends["b1"]


async def until_drained(agent: Controller, host: HostEdge) -> None:
    await host.until(lambda: bool(agent._ruleset and agent._ruleset.cut()))
    assert (await first(agent)).role == "drained"


def test_what_is_left_of_a_drain_is_cut_at_its_deadline(box, opened, tmp_path):
    connections, socks = [], []

    async def story(agent: Controller, host: HostEdge) -> None:
        await put_state(agent, 1, "enabled")
        connections.extend(opened.enter_context(box.connect()) for _ in range(2))
        socks.extend(opened.enter_context(box.datagram()) for _ in range(2))
        for sock in socks:
            sock.send(b"?")
            sock.recv(100)
        await put_state(agent, 1, "drain")
        now = await first(agent)
        assert (now.role, now.traffic.active) == ("draining", 2)
        assert now.drain_ends is not None
        assert all(connection.alive() for connection in connections)
        await until_drained(agent, host)
        assert (await asyncio.to_thread(agent._kernel.counters))["web", "b1"].active == 0

    Agent(box, tmp_path).run(story)
    for connection in connections:
        try:
            kept = connection.alive()
        except ConnectionResetError:
            kept = False
        assert kept == (connection.server == backend_address(2))
    for sock in socks:
        sock.send(b"?")
        assert sock.recv(100).decode().split()[0] == backend_address(2)


def test_a_drain_that_began_before_the_agent_did_ends_when_it_was_to_end(box, opened, tmp_path):
    connections, ends = [], []

    async def begin(agent: Controller, host: HostEdge) -> None:
        await put_state(agent, 2, "enabled")
        connections.extend(opened.enter_context(box.connect()) for _ in range(2))
        await put_state(agent, 2, "drain")
        ends.append((await first(agent)).drain_ends)

    async def end(agent: Controller, host: HostEdge) -> None:
        ends.append((await first(agent)).drain_ends)
        assert all(connection.alive() for connection in connections)
        await until_drained(agent, host)

    agent = Agent(box, tmp_path)
    agent.run(begin)
    agent.run(end)
    assert abs(ends[0] - ends[1]).total_seconds() <= 1, "to the second"
    (connection,) = (connection for connection in connections if connection.server == backend_address(1))
    with pytest.raises(ConnectionResetError):
        connection.alive()
