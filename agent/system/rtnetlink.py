# SPDX-License-Identifier: GPL-2.0-or-later
"""Addresses over rtnetlink with their origin (IFA_PROTO), which pyroute2 0.7.7 does not know yet."""

import socket
from dataclasses import dataclass
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, nlmsg
from pyroute2.netlink.rtnl import RTM_DELADDR, RTM_GETADDR, RTM_NEWADDR
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg

from agent.model.types import Address

PROTO_SLUICE = 83
"""The origin (IFA_PROTO, Linux 5.18) of addresses that Sluice adds. The kernel's own are 1 to 3; others are free."""

_NODAD = 0x02
_NOPREFIXROUTE = 0x200
_FOREVER = 0xFFFFFFFF


class _AddressMessage(nlmsg):  # type: ignore[misc] # pyroute2 has no types
    """struct ifaddrmsg with the attributes up to IFA_PROTO (linux/if_addr.h)."""

    __slots__ = ()
    prefix = "IFA_"
    fields = ifaddrmsg.fields
    nla_map = (
        *ifaddrmsg.nla_map,
        ("IFA_RT_PRIORITY", "uint32"),
        ("IFA_TARGET_NETNSID", "int32"),
        ("IFA_PROTO", "uint8"),
    )
    cacheinfo = ifaddrmsg.cacheinfo


@dataclass(frozen=True)
class FoundAddress:
    """An address as the kernel has it."""

    index: int
    """The link's ifindex."""
    interface: str
    """With prefix length."""
    proto: int
    """Who added it; 0 where nobody said."""


def dump_addresses(netlink: IPRoute) -> list[FoundAddress]:
    """Every address of every link. Raises NetlinkError or OSError."""
    netlink.marshal.msg_map = {**netlink.marshal.msg_map, RTM_NEWADDR: _AddressMessage}
    request = _AddressMessage()
    request["family"] = socket.AF_UNSPEC
    return [
        FoundAddress(
            index=answer["index"],
            # On a point-to-point link IFA_ADDRESS is the other end's.
            interface=f"{answer.get_attr('IFA_LOCAL') or answer.get_attr('IFA_ADDRESS')}/{answer['prefixlen']}",
            proto=answer.get_attr("IFA_PROTO") or 0,
        )
        for answer in netlink.nlm_request(request, msg_type=RTM_GETADDR, msg_flags=NLM_F_REQUEST | NLM_F_DUMP)
    ]


def add_address(netlink: IPRoute, index: int, address: Address) -> None:
    """Add a virtual address (a /32 or /128 of ours) to a link. Raises NetlinkError.

    IPv6: at once usable (no duplicate address detection: there is no other owner by configuration), and deprecated, so
    that the kernel never chooses it as the source of what the appliance itself sends.
    """
    request = _request(index, address)
    flags = _NOPREFIXROUTE
    if address.version == 6:
        flags |= _NODAD
        request["attrs"].append(("IFA_CACHEINFO", {"ifa_preferred": 0, "ifa_valid": _FOREVER}))
    request["attrs"] += [("IFA_FLAGS", flags), ("IFA_PROTO", PROTO_SLUICE)]
    netlink.nlm_request(request, msg_type=RTM_NEWADDR, msg_flags=NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)


def remove_address(netlink: IPRoute, index: int, address: Address) -> None:
    """Remove a virtual address from a link. Raises NetlinkError."""
    netlink.nlm_request(_request(index, address), msg_type=RTM_DELADDR, msg_flags=NLM_F_REQUEST | NLM_F_ACK)


def _request(index: int, address: Address) -> Any:
    request = _AddressMessage()
    request["family"] = socket.AF_INET if address.version == 4 else socket.AF_INET6
    request["prefixlen"] = address.max_prefixlen
    request["index"] = index
    request["attrs"] = [("IFA_LOCAL", str(address)), ("IFA_ADDRESS", str(address))]
    return request
