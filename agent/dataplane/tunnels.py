# SPDX-License-Identifier: GPL-2.0-or-later
"""The network devices that packets for farms with the forwarding `tunnel` leave by: one for each server's address.

Its index is told beforehand (assignment.tunnel_indexes), so that rules can name a device that is not there yet. By
index and name together it is known as ours; no other device is ever touched.
"""

import errno
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from struct import Struct
from typing import Any

from pyroute2 import IPRoute, NetlinkError
from pyroute2.netlink import NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE
from pyroute2.netlink.rtnl import RTM_GETLINK, RTM_NEWLINK
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from agent.dataplane.assignment import FIRST_TUNNEL, tunnel_name

_LEAVING = 0x51C1CE
"""The group of devices that go: the kernel takes them away together in the time that one takes."""
_IGNORE_LIMIT, _IPV6 = 0x1, 41
"""IP6_TNL_F_IGN_ENCAP_LIMIT (linux/ip6_tunnel.h): no option of eight bytes in each packet. What is within is IPv6."""
_HOPS = 64
_UP = 1
_HEAD = Struct("=4xH14xi")
"""The type of a message and the index of the device it is about: struct nlmsghdr and ifinfomsg."""


@dataclass(frozen=True)
class Tunnel:
    """A device: where it leads, and what packets come from (IPv6; IPv4 goes by the route)."""

    address: str
    source: str | None = None
    up: bool = True


class Tunnels:
    """Those of the network namespace that the calls are made in. One call at a time; every method blocks."""

    def __init__(self) -> None:
        self._held: dict[int, Tunnel] | None = None
        self._wanted: Mapping[str, int] | None = None

    def read(self) -> dict[str, int]:
        """The tunnels that are there: index by address. Raises OSError."""
        self._held = _read()
        return {each.address: index for index, each in self._held.items()}

    def prepare(self, wanted: Mapping[str, int]) -> None:
        """Have these, beside those that there are. Raises TunnelFailed, and OSError where nothing can be asked.

        Nothing is asked where `wanted` is what it was at the last call, the same object.
        """
        if wanted is self._wanted:
            return
        self._wanted = None
        if wanted or self._held is None or self._held:
            self._bring(wanted)
        self._wanted = wanted

    def _bring(self, wanted: Mapping[str, int]) -> None:
        held = self._held = _read()
        with IPRoute() as netlink:
            # A device in the way is left from a run that nothing else is left of.
            _remove(netlink, held, [index for index, each in held.items() if wanted.get(each.address, index) != index])
            for address, index in wanted.items():
                tunnel = Tunnel(address, _source(address) if ":" in address else None)
                there = held.get(index)
                if there and there.address != address:
                    _remove(netlink, held, [index])
                    there = None
                try:
                    if there is None:
                        netlink.link("add", ifname=tunnel_name(index), index=index, state="up", **_settings(tunnel))
                    elif not there.up or tunnel.source not in (None, there.source):
                        netlink.link("set", index=index, state="up", **_settings(tunnel))
                except NetlinkError as error:
                    raise TunnelFailed(address, _reason(error)) from None
                held[index] = tunnel

    def retire(self, wanted: Mapping[str, int]) -> None:
        """Remove those that are not `wanted`. Raises OSError."""
        indexes = set(wanted.values())
        gone = [index for index in self._held or () if index not in indexes]
        if gone and self._held:
            with IPRoute() as netlink:
                try:
                    _remove(netlink, self._held, gone)
                except NetlinkError as error:
                    raise OSError(error.code, _reason(error)) from None


class TunnelFailed(OSError):
    """A tunnel cannot be made; `address` is where it was to lead, `reason` the kernel's."""

    def __init__(self, address: str, reason: str) -> None:
        self.address = address
        self.reason = reason
        super().__init__(f"no tunnel to {address} can be made: {reason}")


def _reason(error: NetlinkError) -> str:
    if error.code == errno.EOPNOTSUPP:
        return "this kernel has no such tunnels"
    return str(error.args[-1] if error.args else error)


def _settings(tunnel: Tunnel) -> dict[str, Any]:
    if ":" not in tunnel.address:
        # Outer packets may be fragmented: there is nobody to tell that they are too large.
        return {"kind": "ipip", "ipip_remote": tunnel.address, "ipip_pmtudisc": 0}
    source = {"ip6tnl_local": tunnel.source} if tunnel.source else {}
    rest = {"ip6tnl_proto": _IPV6, "ip6tnl_ttl": _HOPS, "ip6tnl_flags": _IGNORE_LIMIT}
    return {"kind": "ip6tnl", "ip6tnl_remote": tunnel.address, **source, **rest}


def _source(address: str) -> str | None:
    """The address that this host sends to `address` from; None without a way there."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((address, 9))
        except OSError:
            return None
        return str(sock.getsockname()[0])


def _remove(netlink: IPRoute, held: dict[int, Tunnel], indexes: Iterable[int]) -> None:
    gone = list(indexes)
    orders: list[tuple[str, dict[str, int]]] = [("set", {"index": index, "group": _LEAVING}) for index in gone]
    for verb, what in [*orders, ("del", {"index": 0, "group": _LEAVING})] if gone else ():
        try:
            netlink.link(verb, **what)
        except NetlinkError as error:
            if error.code != errno.ENODEV:
                raise
    for index in gone:
        del held[index]


def _read() -> dict[int, Tunnel]:
    found: dict[int, Tunnel] = {}
    try:
        with IPRoute() as netlink:
            request = ifinfmsg()
            flags = NLM_F_REQUEST | NLM_F_DUMP
            ours = partial(_ours, netlink.marshal)
            for message in netlink.nlm_request(request, msg_type=RTM_GETLINK, msg_flags=flags, parser=ours):
                info = message.get_attr("IFLA_LINKINFO")
                data = info and info.get_attr("IFLA_INFO_DATA")
                kind = info and info.get_attr("IFLA_INFO_KIND")
                index = message["index"]
                if kind in ("ipip", "ip6tnl") and message.get_attr("IFLA_IFNAME") == tunnel_name(index):
                    prefix = f"IFLA_{kind.upper()}_"
                    source = data.get_attr(f"{prefix}LOCAL") if kind == "ip6tnl" else None
                    address = str(ip_address(data.get_attr(f"{prefix}REMOTE")))
                    found[index] = Tunnel(address, None if source == "::" else source, bool(message["flags"] & _UP))
    except NetlinkError as error:
        raise OSError(error.code, f"the kernel does not list its links: {error}") from None
    return found


def _ours(marshal: Any, data: bytes, offset: int, length: int) -> Any:
    """A message if it is about a device that can be ours: to read all of a thousand others takes a second."""
    kind = _HEAD.unpack_from(data, offset)[0] if length >= _HEAD.size else NLMSG_DONE
    if kind == RTM_NEWLINK and _HEAD.unpack_from(data, offset)[1] < FIRST_TUNNEL:
        return None
    return marshal.parse_one_message(kind, 0, 0, data, offset, length)
