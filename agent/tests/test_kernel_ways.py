# SPDX-License-Identifier: GPL-2.0-or-later
"""A check that begins before its link is up, with a real link."""

import asyncio
import socket
from functools import partial
from ipaddress import ip_address, ip_interface

import pytest
from kernel_namespaces import Namespace, add_addresses
from kernel_peers import PLENTY
from pyroute2 import IPRoute

from agent.health import Checker, Target
from agent.model import Link, TcpCheck
from agent.model.types import Address
from agent.system.links import read_links
from agent.system.ways import not_yet

pytestmark = pytest.mark.kernel

OURS, THEIRS = "10.40.0.1", "10.40.0.2"


def cable(other: int) -> None:
    with IPRoute() as netlink:
        netlink.link("add", ifname="lan0", kind="veth", peer={"ifname": "eth0", "net_ns_fd": other})


def test_a_backend_behind_a_link_that_comes_up_is_never_unhealthy():
    ours, theirs = Namespace(), Namespace()
    ours.run(cable, theirs.descriptor)
    wanted = {"lan0": Link(addresses=[ip_interface(f"{OURS}/24")])}
    pace = {"interval": 0.01, "timeout": 2.0, "rise": 2, "fall": 1}
    target = Target(ip_address(THEIRS), 80, TcpCheck.model_construct(type="tcp", port=None, **pace))

    async def story() -> list[str]:
        loop, told, ways = asyncio.get_running_loop(), asyncio.Queue(), asyncio.Queue()

        def way(address: Address) -> str | None:
            words = not_yet(address, wanted, read_links())
            ways.put_nowait(words)
            return words

        async def until_said(words: str) -> None:
            for _ in range(2):  # when the second try begins the first has been concluded
                while await ways.get() != words:
                    pass
            assert checker.verdict(target).reason.endswith(f"; not counted: {words}")

        checker = Checker(lambda _target, verdict: told.put_nowait(verdict.health), not_yet=way)
        checker.update([target])
        async with asyncio.timeout(PLENTY):
            await until_said("link lan0 has no carrier yet")
            # The backend has its end up first, so that its network answers as soon as the appliance's does.
            await loop.run_in_executor(None, partial(theirs.run, add_addresses, "eth0", [THEIRS]))
            server = theirs.run(socket.create_server, (THEIRS, 80))
            with IPRoute() as netlink:
                netlink.link("set", index=socket.if_nametoindex("lan0"), state="up")
            await until_said(f"link lan0 has no address in the network of {THEIRS} yet")
            add_addresses("lan0", [OURS])
            first = await told.get()
            server.close()
            second = await told.get()
        await checker.stop()
        return [first, second]

    try:
        assert ours.run(asyncio.run, story()) == ["healthy", "unhealthy"]
    finally:
        ours.close()
        theirs.close()
