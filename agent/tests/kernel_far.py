# SPDX-License-Identifier: GPL-2.0-or-later
"""Backends behind a router, which packets reach in tunnels, and which answer clients past the balancer. Needs root.

    client  10.20.0.10  --  10.20.0.1  balancer  10.30.0.1  --  10.30.0.254  router  10.50.N.1  --  10.50.N.2  backend N
            10.60.0.10  --------------------------------------  10.60.0.254

The same in IPv6, with fd00: in front. Backends have the virtual addresses on their loopback.
"""

import errno
import socket
import subprocess
from typing import Any

from kernel_namespaces import Namespace, add_addresses, add_route, set_sysctl
from kernel_net import VIRTUAL, Box, backend_address
from kernel_peers import Server
from kernel_servers import hold, loosen
from pyroute2 import IPRoute, NetlinkError

ROUTER = {4: "10.30.0.254", 6: "fd00:30::254"}
"""Towards the balancer."""
_RETURN = {4: ("10.60.0.254", "10.60.0.10"), 6: ("fd00:60::254", "fd00:60::10")}
"""The router's and the client's end of the way back."""


def address(number: int, family: int = 4) -> str:
    """The address of backend 1 to 3."""
    return {4: f"10.50.{number}.2", 6: f"fd00:50:{number}::2"}[family]


def _gateway(number: int, family: int) -> str:
    """The router's address where backend `number` is."""
    return {4: f"10.50.{number}.1", 6: f"fd00:50:{number}::1"}[family]


def has_tunnels() -> bool:
    """Whether this kernel has them, as the image's has."""
    namespace = Namespace()
    try:
        namespace.run(_try_tunnels)
    except NetlinkError as error:
        if error.code != errno.EOPNOTSUPP:
            raise
        return False
    finally:
        namespace.close()
    return True


def _try_tunnels() -> None:
    """Make a tunnel of each kind in this namespace, by which their modules are loaded. Raises NetlinkError."""
    with IPRoute() as netlink:
        netlink.link("add", ifname="try4", kind="ipip", ipip_remote="192.0.2.1")
        netlink.link("add", ifname="try6", kind="ip6tnl", ip6tnl_remote="2001:db8::1")


def far(*backends: int, family: int = 4, ports: tuple[int | str, ...] = (80,), **settings: Any) -> dict[str, Any]:
    """A farm of the document: on the virtual address, backends b1 to b3 by number."""
    named = {f"b{number}": {"address": address(number, family)} for number in backends}
    made = {"addresses": [VIRTUAL[family]], "ports": list(ports), "backends": named, "protocols": ["tcp", "udp"]}
    return {**made, "forwarding": "tunnel", **settings}


class Far(Box):
    """The balancer with backends 1 to 3 behind a router; what is called `backends` elsewhere is the router."""

    def __init__(self) -> None:
        super().__init__()
        self.machines = {number: Namespace() for number in (1, 2, 3)}
        self.backends.run(self._route)
        self.balancer.run(add_route, "10.50.0.0/16", ROUTER[4])
        self.balancer.run(add_route, "fd00:50::/32", ROUTER[6])
        self.client.run(loosen)
        self.client.run(add_addresses, "eth1", [_RETURN[4][1], _RETURN[6][1]])
        for number, machine in self.machines.items():
            machine.run(_set_up, number)

    def _route(self) -> None:
        loosen()
        set_sysctl("net/ipv4/ip_forward", "1")
        set_sysctl("net/ipv6/conf/all/forwarding", "1")
        with IPRoute() as netlink:
            netlink.flush_addr(index=netlink.link_lookup(ifname="eth0")[0])
            for number, machine in self.machines.items():
                netlink.link("add", ifname=f"far{number}", kind="veth", peer=_peer("eth0", machine))
            netlink.link("add", ifname="return", kind="veth", peer=_peer("eth1", self.client))
        add_addresses("eth0", list(ROUTER.values()))
        add_addresses("return", [_RETURN[4][0], _RETURN[6][0]])
        for number in self.machines:
            add_addresses(f"far{number}", [_gateway(number, 4), _gateway(number, 6)])
        for family, clients in ((4, "10.20.0.0/24"), (6, "fd00:20::/48")):
            add_route(clients, _RETURN[family][1])

    def server(self, number: int, port: int = 80, family: int = 4, *, sctp: bool = False) -> Server:
        """Start backend `number` on the virtual address; it calls itself as backends elsewhere do."""
        server = Server(self.machines[number], VIRTUAL[family], port, sctp=sctp, name=backend_address(number, family))
        self._servers.append(server)
        return server

    serve = server

    def close(self) -> None:
        super().close()
        for machine in self.machines.values():
            machine.close()


def tunnels() -> dict[str, tuple[int, str | None]]:
    """Index and far end of every tunnel of the namespace that this is called in, by name; not the kernel's own two."""
    found = {}
    with IPRoute() as netlink:
        for link in netlink.get_links():
            info = link.get_attr("IFLA_LINKINFO")
            kind = info and info.get_attr("IFLA_INFO_KIND")
            name = link.get_attr("IFLA_IFNAME")
            if kind in ("ipip", "ip6tnl") and name not in ("tunl0", "ip6tnl0"):
                remote = info.get_attr("IFLA_INFO_DATA").get_attr(f"IFLA_{kind.upper()}_REMOTE")
                found[name] = (link["index"], remote)
    return found


def _set_up(number: int) -> None:
    """Make this namespace backend `number`, as docs/forwarding.md says."""
    loosen()
    add_addresses(
        "eth0", [address(number, family) for family in (4, 6)], [_gateway(number, family) for family in (4, 6)]
    )
    for name in ("tunl0", "ip6tnl0"):
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
    set_sysctl("net/ipv4/conf/tunl0/rp_filter", "0")
    hold()


def _peer(name: str, namespace: Namespace) -> dict[str, Any]:
    return {"ifname": name, "net_ns_fd": namespace.descriptor}


def send_within(inner_source: str, inner_to: str, port: int, outer_to: str) -> None:
    """Send a datagram within an IP packet, as a backend that is nobody's would; IPv4."""
    data = b"within"
    udp = (40000).to_bytes(2) + port.to_bytes(2) + (8 + len(data)).to_bytes(2) + b"\0\0" + data
    head = bytearray(b"\x45\0" + (20 + len(udp)).to_bytes(2) + b"\0\0\0\0\x40\x11\0\0")
    head += socket.inet_aton(inner_source) + socket.inet_aton(inner_to)
    total = sum(int.from_bytes(head[at : at + 2]) for at in range(0, 20, 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    head[10:12] = (total ^ 0xFFFF).to_bytes(2)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IPIP) as sock:
        sock.sendto(bytes(head) + udp, (outer_to, 0))
