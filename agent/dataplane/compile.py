# SPDX-License-Identifier: GPL-2.0-or-later
"""From a document and the effective weights to a Ruleset: pure, and a farm's change costs that farm only."""

from collections.abc import Collection, Mapping
from ipaddress import IPv4Address, IPv6Address

from agent.dataplane.ruleset import Assignment, Ruleset
from agent.model import Configuration


def compile_ruleset(
    config: Configuration,
    weights: Mapping[str, Mapping[str, int]],
    own_addresses: Collection[IPv4Address | IPv6Address] = (),
    previous: Ruleset | Assignment | None = None,
) -> Ruleset:
    """What the kernel is to hold for `config`. Never fails for a valid document.

    `weights`: effective weight by farm and backend; 0, or not named, takes no new connections. A farm that is not
    enabled is left out. `own_addresses`: the links' own addresses; TCP 443 of these stays the GUI's whatever the
    document says. `previous`: the ruleset compiled last (its numbers are kept and its unchanged farms reused), or what
    Kernel.adopt returned after a restart.
    """
    raise NotImplementedError
