# SPDX-License-Identifier: GPL-2.0-or-later
"""What the controller has in force after a start: the first one, one that was provisioned, one after faults."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.model import Configuration, canonical, parse
from agent.model.state import Trouble
from agent.snapshots import Store, StoreFull
from agent.system.credentials import Provisioning
from agent.tests.controller_world import WEB, World, document, running, serves
from agent.tests.edges import HostEdge


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as found:
        yield found


async def test_the_first_start_makes_snapshot_1_of_the_default(world: World) -> None:
    snapshot = world.controller.in_force
    assert snapshot is not None
    assert (snapshot.number, snapshot.author, snapshot.comment) == (1, "system", "First start")
    assert world.controller.config == Configuration()
    assert world.controller.troubles() == []


async def test_a_link_that_changes_while_the_agent_starts_is_not_missed(tmp_path: Path) -> None:
    class Plugged(HostEdge):
        """A cable comes when the links have been read for the first time."""

        def watch(self, changed: Callable[[], None]) -> None:
            self._changed = changed

        async def configure(self, config: Configuration) -> list[Trouble]:
            if not self.configured:
                self._changed()
            return await super().configure(config)

    world = World(tmp_path)
    world.host = Plugged()
    await world.start()
    await world.host.until(lambda: len(world.host.configured) > 1)
    await world.stop()


async def test_a_commit_that_power_ended_is_undone_at_the_next_start(world: World) -> None:
    await world.controller.commit(document(), author="admin")
    world.controller.store.prepare(document("192.0.2.99"), author="admin")
    await world.stop()
    await world.start()
    assert world.controller.config == document()
    assert serves(world) == {"web"}


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
