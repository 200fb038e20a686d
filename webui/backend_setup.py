# SPDX-License-Identifier: GPL-2.0-or-later
"""What is to be done on a backend that answers clients itself: shown beside the farm, told in docs/forwarding.md."""

from collections.abc import Iterable
from ipaddress import ip_address

EXAMPLE = ("192.0.2.10", "2001:db8::10")
"""The virtual addresses in the documentation."""

_ENDS = {
    4: (
        "modprobe ipip",
        "ip link set tunl0 up",
        "sysctl -w net.ipv4.conf.all.rp_filter=0",
        "sysctl -w net.ipv4.conf.tunl0.rp_filter=0",
    ),
    6: ("modprobe ip6_tunnel", "ip link set ip6tnl0 up"),
}
"""The end of a tunnel, by IP family: devices that Linux brings along."""
_SILENT = ("sysctl -w net.ipv4.conf.all.arp_ignore=1", "sysctl -w net.ipv4.conf.all.arp_announce=2")


def backend_setup(forwarding: str, addresses: Iterable[object]) -> list[str]:
    """The commands for a Linux backend, as root; none where the forwarding needs nothing of it."""
    if forwarding not in ("direct", "tunnel"):
        return []
    virtual = [ip_address(str(address)) for address in addresses] or [ip_address(word) for word in EXAMPLE]
    families = sorted({address.version for address in virtual})
    ends = [line for family in families for line in _ENDS[family]] if forwarding == "tunnel" else []
    held = [f"ip address add {address}/{address.max_prefixlen} dev lo" for address in virtual]
    return [*ends, *(_SILENT if 4 in families else ()), *held]
