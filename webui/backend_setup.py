# SPDX-License-Identifier: GPL-2.0-or-later
"""What is to be done on a backend that answers clients itself: shown beside the farm, told in docs/forwarding.md."""

from collections.abc import Iterable
from ipaddress import ip_address

EXAMPLE = ("192.0.2.10", "2001:db8::10")
"""The virtual addresses in the documentation."""

_SILENT = ("sysctl -w net.ipv4.conf.all.arp_ignore=1", "sysctl -w net.ipv4.conf.all.arp_announce=2")


def backend_setup(forwarding: str, addresses: Iterable[object]) -> list[str]:
    """The commands for a Linux backend, as root; none where the forwarding needs nothing of it."""
    if forwarding != "direct":
        return []
    words = [str(address) for address in addresses] or list(EXAMPLE)
    held = [f"ip address add {word}/{ip_address(word).max_prefixlen} dev lo" for word in words]
    return [*(_SILENT if any(":" not in word for word in words) else ()), *held]
