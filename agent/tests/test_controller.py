# SPDX-License-Identifier: GPL-2.0-or-later
import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.controller import ApplyFailed, Controller
from agent.dataplane import KernelRefused, Ruleset
from agent.dataplane.assignment import Side
from agent.model import Configuration, Invalid, canonical, parse, validate
from agent.model.state import Trouble
from agent.snapshots import Conflict, NotFound, Store, StoreFailed, StoreFull
from agent.system.credentials import Provisioning
from agent.tests.edges import HostEdge, KernelEdge, controller

WEB = Side("web", 4)


def document(address: str = "192.0.2.10", **farm: object) -> Configuration:
    backends = {"a": {"address": "127.0.0.1"}, "b": {"address": "198.51.100.2"}}
    backends["a"]["address"] = "198.51.100.1"
    return validate({"farms": {"web": {"addresses": [address], "ports": [80], "backends": backends, **farm}}})


class World:
    """A running controller and its edges."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.kernel, self.host = KernelEdge(), HostEdge()
        self.controller: Controller

    async def start(self, provisioning: Provisioning | None = None) -> Controller:
        self.controller = controller(self.data, kernel=self.kernel, host=self.host, provisioning=provisioning)
        await self.controller.start()
        return self.controller

    async def stop(self) -> None:
        await self.controller.stop()
        self.controller.store.close()
        self.controller.access.close()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    await world.start()
    yield world
    await world.stop()


@pytest.fixture
def closed() -> Iterator[socket.socket]:
    """A port of this host that refuses, and that nobody else can get; it accepts once it listens.

    The model takes no loopback backends, so it is on the host's own address.
    """
    with socket.socket() as sock:
        sock.bind((_own_address(), 0))
        yield sock


def serves(world: World) -> set[str]:
    """The farms that the kernel holds."""
    assert world.kernel.holds is not None
    return {farm for farm, _ in world.kernel.holds.marks().values()}


async def test_the_first_start_makes_snapshot_1_of_the_default(world: World) -> None:
    snapshot = world.controller.in_force
    assert snapshot is not None
    assert (snapshot.number, snapshot.author, snapshot.comment) == (1, "system", "First start")
    assert world.controller.config == Configuration()
    assert world.controller.troubles() == []


async def test_a_commit_is_in_the_kernel_and_in_force(world: World) -> None:
    snapshot = await world.controller.commit(document(), author="admin", comment="web", parent=1)
    assert snapshot.number == 2
    assert world.controller.in_force == snapshot
    assert serves(world) == {"web"}
    assert world.host.configured[-1] == document()


async def test_the_same_document_makes_no_new_snapshot(world: World) -> None:
    first = await world.controller.commit(document(), author="admin")
    assert await world.controller.commit(document(), author="admin") == first


async def test_a_commit_from_an_old_snapshot_is_a_conflict(world: World) -> None:
    await world.controller.commit(document(), author="admin", parent=1)
    with pytest.raises(Conflict) as caught:
        await world.controller.commit(document(ports=[81]), author="admin", parent=1)
    assert caught.value.current == 2
    assert world.controller.config == document()


async def test_an_address_in_no_network_is_refused(world: World) -> None:
    with pytest.raises(Invalid) as caught:
        await world.controller.commit(document("203.0.113.5"), author="admin")
    assert [fault.pointer for fault in caught.value.faults] == ["/farms/web/addresses/0"]
    assert world.controller.in_force.number == 1  # type: ignore[union-attr]


async def test_what_the_kernel_refuses_is_a_fault_of_the_farm_and_changes_nothing(world: World) -> None:
    held = world.kernel.holds
    world.kernel.refuse = {"check"}
    with pytest.raises(Invalid) as caught:
        await world.controller.commit(document(), author="admin")
    assert [fault.pointer for fault in caught.value.faults] == ["/farms/web/addresses"]
    assert "the kernel refuses it" in caught.value.faults[0].message
    assert [entry.number for entry in world.controller.store.list()] == [1]
    assert world.kernel.holds is held


@pytest.mark.parametrize("step", ["prepare", "apply", "configure", "confirm"])
async def test_a_commit_that_fails_at_any_step_leaves_the_old_document_in_force(
    world: World, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.controller.commit(document(), author="admin")
    if step == "apply":
        world.kernel.refuse = {"apply"}
    elif step == "configure":
        world.host.fails = True
    else:

        def full(*_: object, **__: object) -> None:
            raise StoreFull("no space left on the data partition")

        monkeypatch.setattr(world.controller.store, step, full)
    expected = ApplyFailed if step in ("apply", "configure") else StoreFull
    with pytest.raises(expected):
        await world.controller.commit(document("192.0.2.99", ports=[81]), author="admin")
    monkeypatch.undo()
    assert world.controller.config == document()
    assert world.controller.in_force.document == canonical(document())  # type: ignore[union-attr]
    assert world.host.configured[-1] == document()
    # The next commit works, and a restart finds the same.
    await world.controller.commit(document("192.0.2.50"), author="admin")
    await world.stop()
    await world.start()
    assert world.controller.config == document("192.0.2.50")


async def test_a_commit_that_power_ended_is_undone_at_the_next_start(world: World) -> None:
    await world.controller.commit(document(), author="admin")
    world.controller.store.prepare(document("192.0.2.99"), author="admin")
    await world.stop()
    await world.start()
    assert world.controller.config == document()
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


async def test_a_verdict_that_comes_during_a_commit_is_not_lost(world: World, closed: socket.socket) -> None:
    host, port = closed.getsockname()
    check = {"interval": 0.1, "timeout": 0.1, "rise": 1, "fall": 1, "port": port}
    backends = {"a": {"address": host, "port": port}}
    await world.controller.commit(document(checks=[check], backends=backends), author="admin")
    await world.host.until(lambda: world.kernel.holds.share("web", "a") == 0)
    compiled, well = threading.Event(), threading.Event()
    turned = asyncio.Event()
    follow = world.controller._checker._on_change

    def on_change(*arguments: Any) -> None:
        follow(*arguments)
        turned.set()

    def check_of_the_kernel(_ruleset: Ruleset) -> None:
        compiled.set()
        assert well.wait(10)

    world.controller._checker._on_change = on_change
    world.kernel.check = check_of_the_kernel
    commit = asyncio.create_task(
        world.controller.commit(document("192.0.2.11", checks=[check], backends=backends), author="admin")
    )
    assert await asyncio.to_thread(compiled.wait, 10)
    closed.listen()
    await turned.wait()
    well.set()
    await commit
    await world.host.until(lambda: world.kernel.holds.share("web", "a") == 1)


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


async def test_a_provisioned_document_is_snapshot_1_and_is_not_taken_twice(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.start(Provisioning(configuration=canonical(document()), admin_password="correct horse"))
    assert world.controller.config == document()
    assert world.controller.access.claimed
    await world.controller.commit(Configuration(), author="admin")
    await world.stop()
    await world.start(Provisioning(configuration=canonical(document())))
    assert world.controller.config == Configuration()
    await world.stop()


@pytest.mark.parametrize("own", ['"system": {"hostname": "common"}, ', ""])
async def test_a_provisioned_name_is_that_of_the_provisioned_document(tmp_path: Path, own: str) -> None:
    world = World(tmp_path)
    farms = '"farms": {"web": {"addresses": ["192.0.2.10"], "ports": [80]}}'
    given = Provisioning(configuration=f"{{{own}{farms}}}".encode(), hostname="lb7.example")
    await world.start(given)
    assert world.controller.config == parse(f'{{"system": {{"hostname": "lb7.example"}}, {farms}}}')
    assert world.controller.in_force is not None
    assert world.controller.in_force.configuration() == world.controller.config
    assert world.controller.troubles() == []
    await world.controller.commit(Configuration(), author="admin")
    await world.stop()
    await world.start(given)
    assert world.controller.config.system.hostname == "sluice", "at the first start only"
    await world.stop()


async def test_a_bad_provisioned_document_is_told_and_the_default_taken(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.start(Provisioning(configuration=b'{"farms": 1}', hostname="lb1"))
    assert world.controller.config == parse('{"system": {"hostname": "lb1"}}')
    assert [trouble.code for trouble in world.controller.troubles()] == ["credential-unusable"]
    assert "/farms must be an object" in world.controller.troubles()[0].message
    await world.stop()


async def test_a_kernel_that_refuses_at_start_is_a_trouble_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.controller.controller.RETRY", 0.01)
    world = World(tmp_path)
    world.kernel.refuse = {"apply"}
    await world.start()
    assert [trouble.code for trouble in world.controller.troubles()] == ["kernel-refused"]
    await world.host.until(lambda: world.kernel.holds is not None)
    await world.host.until(lambda: world.controller.troubles() == [])
    await world.stop()


async def test_numbers_of_an_earlier_run_are_kept_though_the_first_try_to_load_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.controller.controller.RETRY", 0.01)
    world = World(tmp_path)
    await world.start(Provisioning(configuration=canonical(document())))
    assert world.kernel.holds is not None
    numbers = world.kernel.holds.assignment
    world.kernel.earlier = replace(numbers, sides={WEB: replace(numbers.sides[WEB], mark=77)})
    await world.stop()
    world.kernel.holds, world.kernel.refuse = None, {"apply"}
    await world.start()
    await world.host.until(lambda: world.kernel.holds is not None)
    assert world.kernel.holds.assignment.sides[WEB].mark == 77
    await world.stop()


async def test_what_the_machine_could_not_do_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.controller.controller.RETRY", 0.01)
    world.host.troubles = [Trouble(code="hostname-failed", message="not now")]
    await world.controller.commit(document(), author="admin")
    assert [trouble.code for trouble in world.controller.troubles()] == ["hostname-failed"]
    world.host.troubles = []
    await world.host.until(lambda: world.controller.troubles() == [])


async def test_a_disk_that_dies_in_a_commit_leaves_the_kernel_with_the_old_document(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dead(*_: object) -> None:
        raise StoreFailed("I/O error")

    await world.controller.commit(document(), author="admin")
    apply = world.kernel.apply

    def apply_and_die(ruleset: Ruleset) -> None:
        apply(ruleset)
        monkeypatch.setattr("agent.snapshots.rows.current", dead)

    monkeypatch.setattr(world.kernel, "apply", apply_and_die)
    with pytest.raises(StoreFailed):
        await world.controller.commit(document(ports=[81]), author="admin")
    monkeypatch.undo()
    assert world.kernel.holds is not None
    assert world.kernel.holds.parts[WEB].farm == document().farms["web"]
    assert (await world.controller.commit(document(ports=[82]), author="admin")).number == 4


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


async def test_a_first_snapshot_that_cannot_be_confirmed_is_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StoreFull("no space left on the data partition")

    monkeypatch.setattr(Store, "confirm", full)
    world = World(tmp_path)
    await world.start()
    assert world.controller.in_force is None
    monkeypatch.undo()
    assert (await world.controller.commit(document(), author="admin")).number == 2
    await world.stop()


async def test_without_a_data_directory_it_balances_and_says_that_nothing_lasts(tmp_path: Path) -> None:
    world = World(tmp_path / "missing")
    await world.start(Provisioning(configuration=canonical(document())))
    assert serves(world) == {"web"}
    assert "data-missing" in [trouble.code for trouble in world.controller.troubles()]
    await world.stop()


async def test_a_document_that_todays_rules_refuse_gives_way_to_the_newest_that_they_take(world: World) -> None:
    await world.controller.commit(document(), author="admin")
    store: Store = world.controller.store
    # Two farms that overlap: what an earlier software's rules might have let through.
    bad = document().model_copy(update={"farms": dict.fromkeys(["x", "y"], document().farms["web"])})
    store.confirm(store.prepare(bad, author="old software").number)
    await world.stop()
    await world.start()
    assert world.controller.config == document()
    assert [trouble.code for trouble in world.controller.troubles()] == ["configuration-unusable"]
    # Going back to what is balanced by is a commit like any other, and ends the trouble.
    assert (await world.controller.rollback(2, author="admin")).number == 4
    assert world.controller.troubles() == []


async def test_udp_flows_of_a_draining_backend_that_dies_are_forgotten(world: World) -> None:
    host = _own_address()
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


def _own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("192.0.2.1", 9))
        return str(sock.getsockname()[0])
