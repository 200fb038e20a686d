# SPDX-License-Identifier: GPL-2.0-or-later
"""Which sets of network lists the kernel has."""

from agent.dataplane import netlink
from agent.dataplane.layout import is_network_set
from agent.dataplane.netlink import BODY, attribute

_INET, _GET_SET = 1, 10 << 8 | 10
_TABLE, _NAME = 1, 2


def names() -> list[str]:
    """Their names. Raises OSError."""

    def look() -> list[str]:
        found = netlink.dump(_GET_SET, attribute(_TABLE, b"sluice\0"), family=_INET)
        parts = (dict(netlink.attributes(data[start + BODY : end])) for data, start, end in found)
        return [bytes(each[_NAME]).rstrip(b"\0").decode() for each in parts if _NAME in each]

    try:
        return sorted(name for name in netlink.steadily(look) if is_network_set(name))
    except FileNotFoundError:
        return []
