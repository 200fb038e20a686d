# SPDX-License-Identifier: GPL-2.0-or-later
"""The links that the kernel has, and being told when they change."""

import asyncio
import errno
import socket
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_interface
from struct import Struct
from typing import Any

from pyroute2 import IPRoute, NetlinkError
from pyroute2.netlink import NLM_F_DUMP, NLM_F_REQUEST
from pyroute2.netlink.rtnl import RTM_GETLINK, RTM_NEWLINK
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from agent.model.types import Address, Interface
from agent.system.rtnetlink import PROTO_SLUICE, FoundAddress, dump_addresses

Network = IPv4Network | IPv6Network

_ETHERNET = 1
_TUNNELS = (768, 769)
"""ARPHRD_TUNNEL, ARPHRD_TUNNEL6 (linux/if_arp.h): IPv4 or IPv6 in packets of the one or the other."""
_HEADER, _LINK = Struct("=4xHH"), Struct("=2xHi")
"""Type and flags of a message; its body: type and index of a device (linux/netlink.h, linux/rtnetlink.h)."""
_BODY = 16
_CARRIER = 1 << 16
_UP = 1 << 0
_LOOPBACK = 1 << 3
_ADDRESSES_AND_LINKS = 0x1 | 0x10 | 0x100
"""RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR."""


@dataclass(frozen=True)
class LinkAddress:
    """An address of a link."""

    interface: Interface
    """With the prefix length."""
    ours: bool = False
    """Whether it is a virtual address that Sluice added, in this or an earlier run."""


@dataclass(frozen=True)
class SystemLink:
    """A link as the kernel has it."""

    index: int
    name: str
    mac: str | None
    up: bool
    """Whether it is switched on."""
    carrier: bool
    """Whether the other end is there."""
    physical: bool
    """Whether it is an Ethernet device of the machine's own: no loopback, bridge, tunnel, and no part of one."""
    addresses: tuple[LinkAddress, ...] = ()

    def networks(self) -> list[Network]:
        """The networks that the link's own addresses lie in: where virtual addresses can be. No link-local ones."""
        return [
            address.interface.network
            for address in self.addresses
            if not address.ours
            and not address.interface.is_link_local
            and not address.interface.is_loopback
            and address.interface.network.num_addresses > 1
        ]


def networks(links: Iterable[SystemLink]) -> list[Network]:
    """The networks of all links, each once, in the order of the links: what `model.unreachable` asks for."""
    return list(dict.fromkeys(network for link in links for network in link.networks()))


def near(links: Iterable[SystemLink]) -> list[tuple[str, int, Network]]:
    """Name and index of each link with each network that is on it: who is there talks to its neighbours without us."""
    return [(link.name, link.index, network) for link in links for network in link.networks()]


def ethernet(links: Iterable[SystemLink]) -> list[tuple[str, int]]:
    """Name and index of each Ethernet device of the machine's own: what forwards, and may offload."""
    return [(link.name, link.index) for link in links if link.physical]


def own_addresses(links: Iterable[SystemLink]) -> set[Address]:
    """The addresses of the appliance itself, without virtual ones: where the GUI answers."""
    return {address.interface.ip for link in links for address in link.addresses if not address.ours}


def placed_addresses(links: Iterable[SystemLink]) -> set[Address]:
    """The addresses that Sluice has given to links: virtual ones and those of source pools."""
    return {address.interface.ip for link in links for address in link.addresses if address.ours}


def read_links() -> list[SystemLink]:
    """Every link but the loopback and tunnels without an address, by ifindex. Blocks for milliseconds; raises OSError.

    Nobody comes in by such a tunnel. Those to backends may be a thousand.
    """
    try:
        with IPRoute() as netlink:
            addresses = dump_addresses(netlink)
            return _links(_dump(netlink, {each.index for each in addresses}), addresses)
    except NetlinkError as error:
        raise OSError(error.code, f"the kernel does not list its links: {error}") from None


def _dump(netlink: IPRoute, addressed: Collection[int]) -> Iterator[Any]:
    """What the kernel says of each link that is not a tunnel, or has an address."""

    def parse(data: bytes, offset: int, length: int) -> Any:
        """Only what is asked for: to read all of a thousand others takes a second."""
        kind, flags = _HEADER.unpack_from(data, offset)
        if kind == RTM_NEWLINK:
            device, index = _LINK.unpack_from(data, offset + _BODY)
            if device in _TUNNELS and index not in addressed:
                return None
        return netlink.marshal.parse_one_message(kind, flags, 0, data, offset, length)

    flags = NLM_F_REQUEST | NLM_F_DUMP
    yield from netlink.nlm_request(ifinfmsg(), msg_type=RTM_GETLINK, msg_flags=flags, parser=parse)


def _links(messages: Iterable[Any], found: Iterable[FoundAddress]) -> list[SystemLink]:
    addresses: dict[int, list[LinkAddress]] = {}
    for each in found:
        address = LinkAddress(ip_interface(each.interface), ours=each.proto == PROTO_SLUICE)
        addresses.setdefault(each.index, []).append(address)
    links = [
        SystemLink(
            index=message["index"],
            name=message.get_attr("IFLA_IFNAME"),
            mac=message.get_attr("IFLA_ADDRESS"),
            up=bool(message["flags"] & _UP),
            carrier=bool(message["flags"] & _CARRIER),
            physical=_physical(message),
            addresses=tuple(addresses.get(message["index"], ())),
        )
        for message in messages
        if not message["flags"] & _LOOPBACK
    ]
    return sorted(links, key=lambda link: link.index)


class Watch:
    """Tells when links or addresses change: the kernel says so, nothing is polled.

    What changed is not said: the listener reads the links again. So nothing is lost when the kernel had more to say
    than the socket could hold (ENOBUFS), and events that come in a burst become one call.
    """

    def __init__(self, on_change: Callable[[], None], *, settle: float = 0.02) -> None:
        """`on_change()` is called from the event loop, `settle` seconds after the first event of a burst."""
        self._on_change = on_change
        self._settle = settle
        self._socket: socket.socket | None = None
        self._due: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to listen; needs a running event loop. Raises OSError."""
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
        try:
            sock.bind((0, _ADDRESSES_AND_LINKS))
        except OSError:
            sock.close()
            raise
        self._socket = sock
        asyncio.get_running_loop().add_reader(sock, self._read, sock)

    def close(self) -> None:
        """Listen no longer."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _read(self, sock: socket.socket) -> None:
        while True:
            try:
                sock.recv(65536)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(self._settle, self._tell)

    def _tell(self) -> None:
        self._due = None
        self._on_change()


def _physical(message: Any) -> bool:
    info = message.get_attr("IFLA_LINKINFO")
    kind = info.get_attr("IFLA_INFO_KIND") if info else None
    return message["ifi_type"] == _ETHERNET and kind is None and not message.get_attr("IFLA_MASTER")
