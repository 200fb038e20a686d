# SPDX-License-Identifier: GPL-2.0-or-later
"""What is committed and what checks find is in the kernel, and told."""

import json
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from agent.controller import ApplyFailed
from agent.dataplane import KernelRefused
from agent.dataplane.assignment import Side
from agent.model import Configuration, Invalid, canonical, validate
from agent.snapshots import NotFound
from agent.tests.controller_world import World, document, own_address, running, serves


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as found:
        yield found


@pytest.fixture
def closed() -> Iterator[socket.socket]:
    """A port of this host that refuses, and that nobody else can get; it accepts once it listens."""
    with socket.socket() as sock:
        sock.bind((own_address(), 0))
        yield sock


async def test_a_commit_is_in_the_kernel_and_in_force(world: World) -> None:
    snapshot = await world.controller.commit(document(), author="admin", comment="web", parent=1)
    assert snapshot.number == 2
    assert world.controller.in_force == snapshot
    assert serves(world) == {"web"}
    assert world.host.configured[-1] == document()


async def test_the_same_document_makes_no_new_snapshot(world: World) -> None:
    first = await world.controller.commit(document(), author="admin")
    assert await world.controller.commit(document(), author="admin") == first


async def test_what_would_be_too_large_to_be_put_again_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = document()
    size = len(canonical(config))
    monkeypatch.setattr("agent.controller.plan.MAX_BYTES", size - 1)
    with pytest.raises(Invalid, match=f"takes {size} bytes with every field; the appliance takes {size - 1}"):
        await world.controller.commit(config, author="admin")
    assert serves(world) == set()
    monkeypatch.setattr("agent.controller.plan.MAX_BYTES", size)
    await world.controller.commit(config, author="admin")
    assert serves(world) == {"web"}


async def test_a_rollback_is_a_new_snapshot_with_the_old_document(world: World) -> None:
    await world.controller.commit(document(), author="admin")
    back = await world.controller.rollback(1, author="admin")
    assert (back.number, back.comment) == (3, "Rollback to snapshot 1")
    assert serves(world) == set()
    forth = await world.controller.rollback(2, author="admin", comment="again")
    assert (forth.number, forth.comment) == (4, "again")
    assert serves(world) == {"web"}
    with pytest.raises(NotFound):
        await world.controller.rollback(99, author="admin")


async def test_a_fallen_backend_gets_nothing_and_comes_back(world: World, closed: socket.socket) -> None:
    host, port = closed.getsockname()
    check = {"interval": 0.1, "timeout": 0.1, "rise": 1, "fall": 1, "port": port}
    config = validate(
        {
            "farms": {
                "web": {
                    "addresses": ["192.0.2.10"],
                    "ports": [80],
                    "checks": [check],
                    "backends": {"a": {"address": host, "port": port}},
                }
            }
        }
    )
    await world.controller.commit(config, author="admin")
    await world.host.until(lambda: world.kernel.holds.share("web", "a") == 0)
    state = await world.controller.state()
    assert state.farms["web"].status == "down"
    assert "refused" in state.farms["web"].backends["a"].reason
    closed.listen()
    await world.host.until(lambda: world.kernel.holds.share("web", "a") == 1)
    assert (await world.controller.state()).farms["web"].status == "up"
    assert json.loads((world.data / "health.json").read_bytes())


async def test_a_verdict_changes_the_farms_that_ask_for_it_and_nothing_else(
    world: World, closed: socket.socket
) -> None:
    host, port = closed.getsockname()
    check = {"interval": 0.1, "timeout": 0.1, "rise": 1, "fall": 1, "port": port}
    farm = {"ports": [80], "checks": [check], "backends": {"a": {"address": host}}}
    farms = {f"f{n}": {**farm, "addresses": [f"192.0.2.{n}"]} for n in (10, 11)}
    farms["quiet"] = {**farm, "addresses": ["192.0.2.12"], "checks": []}
    await world.controller.commit(validate({"farms": farms}), author="admin")
    first, configured = world.kernel.holds, len(world.host.configured)
    await world.host.until(
        lambda: not world.kernel.holds.share("f10", "a") and not world.kernel.holds.share("f11", "a")
    )
    assert world.kernel.holds.parts[Side("quiet", 4)] is first.parts[Side("quiet", 4)]
    assert world.kernel.holds.common is first.common
    assert len(world.host.configured) == configured


@pytest.mark.parametrize("error", [KernelRefused("no memory"), KeyError("a fault of ours")], ids=["refused", "fault"])
async def test_a_verdict_that_cannot_be_followed_makes_everything_converge(
    world: World, closed: socket.socket, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object) -> None:
        raise error

    host, port = closed.getsockname()
    check = {"interval": 0.1, "timeout": 0.1, "rise": 1, "fall": 1, "port": port}
    monkeypatch.setattr("agent.controller.controller.plan_after", fails)
    await world.controller.commit(document(checks=[check], backends={"a": {"address": host}}), author="admin")
    configured = len(world.host.configured)
    await world.host.until(lambda: len(world.host.configured) > configured)
    assert world.kernel.holds.share("web", "a") == 0
    assert (await world.controller.state()).troubles == []


async def test_state_tells_counters_shares_and_totals(world: World) -> None:
    await world.controller.commit(document(), author="admin")
    farm = (await world.controller.state()).farms["web"]
    assert farm.exact_turn
    assert farm.traffic.new == 14
    assert farm.traffic.active == 6
    assert farm.backends["a"].traffic.bytes_out == 7000
    assert farm.backends["a"].share == 0.5
    assert farm.backends["a"].health == "unknown"


async def test_the_sorry_server_is_counted_and_said_to_answer_while_nobody_else_does(world: World) -> None:
    sorry = {"address": "198.51.100.9"}
    await world.controller.commit(document(sorry_servers=[sorry]), author="admin")
    farm = (await world.controller.state()).farms["web"]
    (server,) = farm.sorry_servers
    assert (farm.status, server.answers) == ("up", False)
    assert (farm.traffic.new, server.traffic.new) == (21, 7)
    backends = {"a": {"address": "198.51.100.1", "state": "disabled"}}
    await world.controller.commit(document(sorry_servers=[sorry], backends=backends), author="admin")
    farm = (await world.controller.state()).farms["web"]
    (server,) = farm.sorry_servers
    assert (farm.status, server.answers) == ("down", True)


async def test_system_tells_links_and_the_snapshot(world: World) -> None:
    system = await world.controller.system()
    assert system.snapshot == 1
    assert not system.claimed
    assert [link.name for link in system.links] == ["eth0"]


async def test_a_commit_that_fails_takes_no_verdict_away(world: World, closed: socket.socket) -> None:
    host, port = closed.getsockname()
    check = {"interval": 3600, "timeout": 0.2, "rise": 1, "fall": 1, "port": port}
    config = document(checks=[check], backends={"a": {"address": host, "port": port}})
    await world.controller.commit(config, author="admin")
    await world.host.until(lambda: world.kernel.holds.share("web", "a") == 0)
    world.kernel.refuse = {"apply"}
    with pytest.raises(ApplyFailed):
        await world.controller.commit(Configuration(), author="admin")
    assert (await world.controller.state()).farms["web"].backends["a"].health == "unhealthy"
    assert world.kernel.holds.share("web", "a") == 0


async def test_udp_flows_of_a_draining_backend_that_dies_are_forgotten(world: World) -> None:
    host = own_address()
    with socket.create_server((host, 0)) as server:
        port = server.getsockname()[1]
        check = {"interval": 0.1, "timeout": 0.1, "rise": 1, "fall": 1, "port": port}
        await world.controller.commit(
            document(protocols=["udp"], checks=[check], backends={"a": {"address": host, "state": "drain"}}),
            author="admin",
        )
        assert world.kernel.holds.failed() == set()
    await world.host.until(lambda: world.kernel.holds.failed() == set(world.kernel.holds.marks()))
    assert world.kernel.holds.cut() == set()


async def test_health_survives_a_restart_of_the_agent(world: World, closed: socket.socket) -> None:
    host, port = closed.getsockname()
    check = {"interval": 3600, "timeout": 0.2, "rise": 1, "fall": 1, "port": port}
    config = document(checks=[check], backends={"a": {"address": host, "port": port}})
    await world.controller.commit(config, author="admin")
    await world.host.until(lambda: world.kernel.holds.share("web", "a") == 0)
    await world.stop()
    world.kernel.holds = None
    await world.start()
    assert world.kernel.holds.share("web", "a") == 0
