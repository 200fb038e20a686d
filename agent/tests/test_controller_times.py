# SPDX-License-Identifier: GPL-2.0-or-later
"""What the controller does by the clock: it wakes itself, step by step."""

import socket
from pathlib import Path

from agent.dataplane import Ruleset
from agent.model import validate
from agent.tests.edges import HostEdge, KernelEdge, controller


class Shares(KernelEdge):
    """Keeps the share of a backend in each ruleset."""

    def __init__(self) -> None:
        super().__init__()
        self.shares: list[float] = []

    def apply(self, ruleset: Ruleset) -> None:
        super().apply(ruleset)
        self.shares.append(ruleset.share("web", "a"))


def own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("192.0.2.1", 9))
        return sock.getsockname()[0]


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
