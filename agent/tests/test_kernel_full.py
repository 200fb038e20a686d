# SPDX-License-Identifier: GPL-2.0-or-later
"""Backends that may have so many connections only: the agent's own loop, a real kernel, real connections."""

import asyncio

import pytest
from kernel_agent import Agent, put
from kernel_net import backend_address, farm, serving

from agent.dataplane import Kernel

pytestmark = pytest.mark.kernel


@pytest.fixture
def box():
    with serving(1, 2) as box:
        yield box


def narrow(*limits, **settings):
    """A farm of backends that may have so many connections."""
    web = farm(*range(1, len(limits) + 1), **settings)
    for backend, limit in zip(web["backends"].values(), limits, strict=True):
        backend["max_connections"] = limit
    return web


async def roles(agent):
    return {name: each.role for name, each in (await agent.state()).farms["web"].backends.items()}


def holds(agent, **share):
    """Whether these backends have these shares of the buckets."""
    return lambda: all(agent._kernel._applied.share("web", name) == part for name, part in share.items())


def opens(box, opened, number):
    """Open connections, and keep them: which backends they are to."""
    return [opened.enter_context(box.connect()) for _ in range(number)]


def test_a_full_backend_is_left_out_until_a_tenth_has_ended(box, opened, tmp_path):
    async def story(agent, host):
        await put(agent, narrow(3, None))
        kept = await asyncio.to_thread(opens, box, opened, 6)
        assert [each.server for each in kept].count(backend_address(1)) == 3
        await host.until(holds(agent, b1=0, b2=1))
        assert await roles(agent) == {"b1": "full", "b2": "active"}
        more = await asyncio.to_thread(opens, box, opened, 4)
        assert {each.server for each in more} == {backend_address(2)}
        assert all(each.alive() for each in kept + more)
        next(each for each in kept if each.server == backend_address(1)).close()
        await host.until(holds(agent, b1=0.5, b2=0.5))
        assert await roles(agent) == {"b1": "active", "b2": "active"}

    Agent(box, tmp_path).run(story)


def test_where_all_are_full_the_farm_is_down_and_the_sorry_server_answers(box, opened, tmp_path):
    async def story(agent, host):
        await put(agent, narrow(1))
        kept = await asyncio.to_thread(opens, box, opened, 1)
        await host.until(holds(agent, b1=0))
        assert await asyncio.to_thread(box.refused)
        assert (await agent.state()).farms["web"].status == "down"
        await put(agent, narrow(1, sorry_servers=[{"address": backend_address(2)}]))
        assert await asyncio.to_thread(box.ask) == backend_address(2)
        assert kept[0].alive()
        # A limit that is taken away, or raised, is no limit any more.
        await put(agent, narrow(None))
        await host.until(holds(agent, b1=1))
        assert await roles(agent) == {"b1": "active"}

    Agent(box, tmp_path).run(story)


def test_persistent_clients_of_a_full_backend_go_elsewhere_and_stay_there(box, opened, tmp_path):
    async def story(agent, host):
        await put(agent, narrow(2, None, persistence="address"))
        kept = await asyncio.to_thread(opens, box, opened, 2)
        assert {each.server for each in kept} == {backend_address(1)}
        await host.until(holds(agent, b1=0))
        assert await asyncio.to_thread(box.ask) == backend_address(2)
        kept[0].close()
        await host.until(holds(agent, b1=0.5))
        assert await asyncio.to_thread(box.turn, 4) == [backend_address(2)] * 4

    Agent(box, tmp_path).run(story)


def test_an_agent_that_restarts_finds_who_is_full(box, opened, tmp_path):
    served = []

    async def begin(agent, host):
        await put(agent, narrow(1, None))
        served.extend(await asyncio.to_thread(opens, box, opened, 2))
        await host.until(holds(agent, b1=0))

    async def go_on(agent, host):
        assert holds(agent, b1=0, b2=1)()
        assert (await roles(agent))["b1"] == "full"

    agent = Agent(box, tmp_path)
    agent.run(begin)
    agent.run(go_on)


@pytest.mark.parametrize("number", [2, 9])
def test_what_is_counted_is_what_is_open(box, opened, number):
    """Few marks are asked for one by one, many at once."""
    web = farm(1, 2, protocols=["tcp", "udp"])
    web["backends"] |= {f"x{n}": {"address": f"10.30.0.{100 + n}"} for n in range(number - 2)}
    weights = {"web": {"b1": 1, "b2": 1}}
    box.apply({"web": web}, weights)
    opens(box, opened, 5)
    with box.datagram() as sock:
        sock.send(b"?")
        sock.recv(100)
        everybody = {("web", name) for name in web["backends"]}

        def count(who):
            found = box.balancer.run(box.kernel.open_connections, who)
            return {name: each for name, each in found.items() if each}

        assert count(everybody) == {("web", "b1"): 3, ("web", "b2"): 3}
        assert count({("web", "b2")}) == {("web", "b2"): 3}
        assert count(set()) == {}
        box.kernel = Kernel()
        box.balancer.run(box.kernel.adopt)
        assert count(everybody) == {("web", "b1"): 3, ("web", "b2"): 3}
