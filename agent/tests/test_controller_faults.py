# SPDX-License-Identifier: GPL-2.0-or-later
"""Commits that are refused or fail at a step leave what was in force."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.controller import ApplyFailed
from agent.dataplane import Ruleset
from agent.model import Invalid, canonical
from agent.model.state import Trouble
from agent.snapshots import Conflict, StoreFailed, StoreFull
from agent.tests.controller_world import WEB, World, document, running


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as found:
        yield found


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
    assert world.in_force.number == 1


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
    assert world.in_force.document == canonical(document())
    assert world.host.configured[-1] == document()
    # The next commit works, and a restart finds the same.
    await world.controller.commit(document("192.0.2.50"), author="admin")
    await world.stop()
    await world.start()
    assert world.controller.config == document("192.0.2.50")


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
