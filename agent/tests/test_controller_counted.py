# SPDX-License-Identifier: GPL-2.0-or-later
"""What is counted outlives the agent, is asked for once a second, and is told where it is not whole."""

import json
from pathlib import Path
from time import monotonic
from types import SimpleNamespace

import pytest
from edges import KernelEdge

from agent.controller import counted
from agent.controller.counted import Counted
from agent.dataplane import Counters, KernelRefused, compile_ruleset
from agent.dataplane.counting import Counting
from agent.model import validate


class Told(KernelEdge):
    """Tells what it is given, and counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.fails = False

    def counters(self) -> dict[tuple[str, str], Counters]:
        self.asked += 1
        if self.fails:
            raise KernelRefused("not now")
        return {("web", "a"): Counters(new=self.asked)}

    def export(self) -> dict[str, list[int]]:
        return {"asked": [self.asked]}

    def turned_away(self) -> dict[str, dict[str, int]]:
        return {}


async def by_itself(function):
    return function()


def test_the_kernel_is_asked_once_a_second_however_many_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Told()
    figures = Counted(kernel, tmp_path / "traffic.json")
    assert [figures.count().figures["web", "a"].new for _ in range(3)] == [1, 1, 1]
    monkeypatch.setattr(counted, "FRESH", 0.0)
    assert figures.count().figures["web", "a"].new == 2
    kernel.fails = True
    assert figures.count().figures["web", "a"].new == 2, "what is not told stays as it was"


async def test_what_is_counted_is_kept_at_the_end(tmp_path: Path) -> None:
    figures = Counted(Told(), tmp_path / "traffic.json")
    figures.start(by_itself)
    await figures.stop(by_itself)
    assert json.loads((tmp_path / "traffic.json").read_text()) == {"asked": [1]}


async def test_what_is_counted_is_kept_every_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Enough(Exception):
        pass

    async def no_time(_seconds: float) -> None:
        if (tmp_path / "traffic.json").exists():
            raise Enough

    monkeypatch.setattr(counted.asyncio, "sleep", no_time)
    figures = Counted(Told(), tmp_path / "traffic.json")
    figures.start(by_itself)
    assert figures._keeper is not None
    with pytest.raises(Enough):
        await figures._keeper


def test_what_was_lost_is_told_for_an_hour(tmp_path: Path) -> None:
    kernel = Told()
    figures = Counted(kernel, tmp_path / "traffic.json")
    assert list(figures.troubles()) == []
    kernel.counting._endings = SimpleNamespace(lost_at=monotonic() - 3000)  # type: ignore[assignment]
    assert [trouble.code for trouble in figures.troubles()] == ["traffic-incomplete"]
    kernel.counting._endings = SimpleNamespace(lost_at=monotonic() - 4000)  # type: ignore[assignment]
    assert list(figures.troubles()) == []


@pytest.mark.parametrize("known", [None, [], {"x": 1}, {"1": ["web", "a"]}, {"1": ["web", "a", [1], [2]]}, {"1": None}])
def test_nonsense_is_not_taken_up(known: object) -> None:
    counting = Counting()
    counting.restore(known)
    assert counting._known == {}


def test_only_what_an_earlier_run_counted_for_the_same_backends_is_taken_up(monkeypatch: pytest.MonkeyPatch) -> None:
    backends = {name: {"address": f"192.0.2.{number}"} for number, name in enumerate("ab", 1)}
    farm = {"addresses": ["192.0.2.10"], "ports": [80], "backends": backends}
    ruleset = compile_ruleset(validate({"version": 1, "farms": {"web": farm}}), {"web": {"a": 1, "b": 1}})
    restored: dict[int, object] = {}
    endings = SimpleNamespace(restore=restored.update, totals=lambda marks: ({1: 5}, {1: (1, 2, 3, 4)}))
    monkeypatch.setattr("agent.dataplane.counting.elements.counters", lambda *_: [])
    counting = Counting()
    counting._endings = endings  # type: ignore[assignment]
    kept = [[1, 2, 3, 4], [5, 6, 7, 8]]
    counting.restore({"1": ["web", "a", *kept], "2": ["web", "other", *kept], "9": ["web", "b", *kept]})
    assert counting.counters(ruleset) == {
        ("web", "a"): Counters(active=5, packets_in=1, bytes_in=2, packets_out=3, bytes_out=4),
        ("web", "b"): Counters(),
    }
    assert restored == {1: ((1, 2, 3, 4), (5, 6, 7, 8))}
