# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether the links that lead to an address are up: after a start that takes some seconds. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from agent.model import Link
from agent.model.types import Address
from agent.system.links import SystemLink


def not_yet(address: Address, wanted: Mapping[str, Link], present: Sequence[SystemLink]) -> str | None:
    """Why the appliance cannot get to `address` yet, in words; None when its own side is ready.

    `wanted` are the links as they are to be, `present` as they are. An address in a network of wanted links waits for
    one of them. Any other waits for all links with a gateway of its family and all that ask DHCP, since a lease may
    bring its network. Ready is a link that has a carrier, and an address that leads there.
    """
    known = {link.name: link for link in present}
    if any(link.carrier and address in network for link in present for network in link.networks()):
        return None
    beside = [name for name, link in wanted.items() if any(address in each.network for each in link.addresses)]
    if beside:
        return next(_missing(address, beside, known), None)
    leading = [
        name
        for name, link in wanted.items()
        if link.dhcp or any(gateway.version == address.version for gateway in link.gateways)
    ]
    return next(_lacking(address, leading, known), None)


def _missing(address: Address, names: Sequence[str], known: Mapping[str, SystemLink]) -> Iterator[str]:
    """What each of these links, of whose networks none is up, lacks."""
    for name in names:
        link = known.get(name)
        if link is None or not link.carrier:
            yield _words(name, link)
        else:
            yield f"link {name} has no address in the network of {address} yet"


def _lacking(address: Address, names: Sequence[str], known: Mapping[str, SystemLink]) -> Iterator[str]:
    """What those of these links lack that have no carrier, or no address of the family."""
    for name in names:
        link = known.get(name)
        if link is None or not link.carrier:
            yield _words(name, link)
        elif not any(network.version == address.version for network in link.networks()):
            yield f"link {name} has no IPv{address.version} address yet"


def _words(name: str, link: SystemLink | None) -> str:
    return f"link {name} is not there yet" if link is None else f"link {name} has no carrier yet"
