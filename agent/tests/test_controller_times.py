# SPDX-License-Identifier: GPL-2.0-or-later
"""What the controller does by the clock: it wakes itself, step by step."""

import socket
from pathlib import Path
from time import monotonic

import pytest

from agent.controller import plan
from agent.dataplane import Ruleset, compile_ruleset
from agent.model import validate
from agent.scheduling import Times
from agent.tests.controller_world import own_address
from agent.tests.edges import HostEdge, KernelEdge, controller


class Shares(KernelEdge):
    """Keeps the share of a backend in each ruleset."""

    def __init__(self) -> None:
        super().__init__()
        self.shares: list[float] = []

    def apply(self, ruleset: Ruleset) -> None:
        self.shares.append(ruleset.share("web", "a"))
        super().apply(ruleset)


async def test_a_backend_that_comes_back_gets_its_share_in_steps(tmp_path: Path) -> None:
    host = own_address()
    kernel, edge = Shares(), HostEdge()
    agent = controller(tmp_path, kernel=kernel, host=edge)
    await agent.start()
    with socket.create_server((host, 0)) as other, socket.create_server((host, 0)) as probe:
        port, ports = probe.getsockname()[1], {"b": other.getsockname()[1]}
        probe.close()
        backends = {name: {"address": host, "port": number} for name, number in {"a": port, **ports}.items()}
        check = {"interval": 0.1, "timeout": 0.1, "rise": 1, "fall": 1}
        web = {"addresses": ["192.0.2.10"], "ports": [80], "checks": [check], "backends": backends, "slow_start": 1}
        await agent.commit(validate({"farms": {"web": web}}), author="admin")
        await edge.until(lambda: kernel.shares[-1] == 0)
        assert (await agent.state()).farms["web"].backends["a"].ramp is None
        with socket.create_server((host, port)):
            await edge.until(lambda: kernel.shares[-1] > 0)
            now = (await agent.state()).farms["web"].backends["a"]
            assert now.ramp is not None
            assert (now.weight, now.role) == (1, "active")
            await edge.until(lambda: kernel.shares[-1] == 0.5)
            assert (await agent.state()).farms["web"].backends["a"].ramp is None
    since = len(kernel.shares) - kernel.shares[::-1].index(0)
    steps = list(dict.fromkeys(kernel.shares[since:]))
    assert steps[0] == 1 / 11
    assert steps == sorted(steps)
    assert set(steps) <= {step / (step + 10) for step in range(1, 11)}
    await agent.stop()
    agent.store.close()
    agent.access.close()


def draining(port: int = 80, **check: object) -> dict[str, object]:
    """A document of two farms: in one a backend drains for an hour, the other's backend is checked."""
    host = own_address()
    drain = {"addresses": ["192.0.2.11"], "ports": [80], "drain_timeout": 3600}
    web = {"addresses": ["192.0.2.10"], "ports": [80], "backends": {"a": {"address": host, "port": port}}}
    web["checks"] = [{"interval": 0.1, "timeout": 0.1, "rise": 1, "fall": 1, **check}]
    return {"farms": {"drain": {**drain, "backends": {"b": {"address": host, "state": "drain"}}}, "web": web}}


def test_what_comes_due_while_a_plan_is_put_in_force_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    config = validate(draining())
    times = Times().after(config.farms, {}, 1000)
    made = plan.Plan(compile_ruleset(config, {}), times, 1000)
    for now, due in ((1000, 3600), (4599, 1), (4601, -1)):
        monkeypatch.setattr(plan, "monotonic", lambda now=now: now)
        assert made.due(config) == due
    assert plan.Plan(made.ruleset, Times(), 1000).due(config) is None


async def test_a_verdict_leaves_the_timer_of_other_farms_that_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel, edge = Shares(), HostEdge()
    agent = controller(tmp_path, kernel=kernel, host=edge)
    await agent.start()
    with socket.socket() as closed:
        closed.bind((own_address(), 0))
        await agent.commit(validate(draining(closed.getsockname()[1])), author="admin")
        timer = agent._due
        assert timer is not None
        monkeypatch.setattr(plan, "monotonic", lambda: monotonic() + 3601)
        await edge.until(lambda: kernel.shares[-1] == 0)
        await agent.state()
        assert agent._due is timer
        assert not timer.cancelled()
    await agent.stop()
    agent.store.close()
    agent.access.close()
