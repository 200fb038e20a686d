# SPDX-License-Identifier: GPL-2.0-or-later
"""Backends as machines of their own, which answer clients past the balancer. Needs root.

    client  10.20.0.10   --  10.20.0.1  balancer  10.30.0.1  --  switch  --  10.30.0.11-13  backends, each with the
            10.30.0.254  ----------------------------------------'           virtual addresses on its loopback

The same in IPv6, with fd00: in front.
"""

import re
import socket
import subprocess

import pytest
from kernel_namespaces import IFA_F_NODAD, Namespace, add_addresses, set_sysctl
from kernel_net import VIRTUAL, Box, backend_address
from kernel_peers import Server
from pyroute2 import IPRoute

RETURN = {4: "10.30.0.254", 6: "fd00:30::254"}
"""The client, as the backends' router."""


def newer_nft() -> bool:
    """Whether nftables makes right code of maps with IPv6 keys that packets fill."""
    version = re.search(r"v(\d+)\.(\d+)", subprocess.check_output(["nft", "--version"], text=True))
    return version is not None and (int(version[1]), int(version[2])) >= (1, 1)


def need(family: int, protocol: str = "tcp") -> None:
    """Skip what this machine cannot do and the image can."""
    if family == 6 and not newer_nft():
        pytest.skip("this nftables makes wrong code of maps with IPv6 keys; the image has a later one")
    if protocol == "sctp":
        try:
            socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
        except OSError as error:
            pytest.skip(f"this kernel has no SCTP: {error}")


class Servers(Box):
    """The balancer with backends 1 to 3 behind a switch."""

    def __init__(self) -> None:
        super().__init__()
        self.machines = {number: Namespace() for number in (1, 2, 3)}
        self.backends.run(_switch)
        self.backends.run(plug, "return", self.client.descriptor, "eth1")
        self.client.run(loosen)
        self.client.run(add_addresses, "eth1", list(RETURN.values()))
        for number, machine in self.machines.items():
            self.backends.run(plug, f"port{number}", machine.descriptor, "eth0")
            machine.run(self.set_up, number)

    def set_up(self, number: int) -> None:
        """Make this namespace backend `number`."""
        loosen()
        mine = [backend_address(number, family) for family in (4, 6)]
        add_addresses("eth0", mine, list(RETURN.values()))
        hold()

    def server(self, number: int, port: int = 80, family: int = 4, *, sctp: bool = False) -> Server:
        """Start backend `number` on the virtual address; it calls itself by its own."""
        name = backend_address(number, family)
        server = Server(self.machines[number], VIRTUAL[family], port, sctp=sctp, name=name)
        self._servers.append(server)
        return server

    serve = server

    def close(self) -> None:
        super().close()
        for machine in self.machines.values():
            machine.close()


def hold() -> None:
    """Hold the virtual addresses on the loopback, and never say so on the network: what docs/forwarding.md asks for."""
    for name in ("all", "eth0"):
        set_sysctl(f"net/ipv4/conf/{name}/arp_ignore", "1")
        set_sysctl(f"net/ipv4/conf/{name}/arp_announce", "2")
    with IPRoute() as netlink:
        index = netlink.link_lookup(ifname="lo")[0]
        for address in VIRTUAL.values():
            # At once: until it is known to be nobody else's, which is found out later, no server can have it.
            flags = {"flags": IFA_F_NODAD} if ":" in address else {}
            netlink.addr("add", index=index, address=address, prefixlen=128 if ":" in address else 32, **flags)


def loosen() -> None:
    """Take packets in by another link than the one that leads back."""
    for name in ("all", "default"):
        set_sysctl(f"net/ipv4/conf/{name}/rp_filter", "0")


def _switch() -> None:
    """Make the namespace a switch; what held the backends' addresses is its port to the balancer."""
    with IPRoute() as netlink:
        netlink.link("add", ifname="switch", kind="bridge")
        switch, back = (netlink.link_lookup(ifname=name)[0] for name in ("switch", "eth0"))
        netlink.flush_addr(index=back)
        netlink.link("set", index=back, state="down")  # its routes go, too
        netlink.link("set", index=back, master=switch, state="up")
        netlink.link("set", index=switch, state="up")


def plug(name: str, other: int, peer: str) -> None:
    """Connect another namespace to the switch in this one: by the port `name` here, by the link `peer` there."""
    with IPRoute() as netlink:
        netlink.link("add", ifname=name, kind="veth", peer={"ifname": peer, "net_ns_fd": other})
        switch, port = (netlink.link_lookup(ifname=each)[0] for each in ("switch", name))
        netlink.link("set", index=port, master=switch, state="up")
