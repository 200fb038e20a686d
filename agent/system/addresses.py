# SPDX-License-Identifier: GPL-2.0-or-later
"""Virtual addresses: on which link each belongs, and bringing the kernel there."""

import asyncio
import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pyroute2 import IPRoute, NetlinkError

from agent.model.state import Trouble
from agent.model.types import Address
from agent.system import announce
from agent.system.links import SystemLink
from agent.system.rtnetlink import add_address, remove_address

FOLLOW_UPS = (1.0, 5.0)
"""Seconds after which announcements are repeated: a switch port may take that long to forward."""


@dataclass(frozen=True)
class Placement:
    """A virtual address on a link."""

    link: str
    index: int
    """The link's ifindex."""
    address: Address


@dataclass(frozen=True)
class Plan:
    """How to get from what the kernel has to what is wanted."""

    add: tuple[Placement, ...]
    remove: tuple[Placement, ...]
    keep: tuple[Placement, ...]
    homeless: tuple[Address, ...]
    """Wanted addresses that lie in no network of a link."""


def plan(wanted: Iterable[Address], links: Sequence[SystemLink]) -> Plan:
    """Where the wanted addresses belong. Pure.

    An address belongs on the link with the longest network that holds it; among equals where it already is, else the
    lowest ifindex. One that is a link's own address needs nothing. One whose network is gone (a lease that ran out)
    stays where it is. Only addresses that Sluice added are ever removed.
    """
    present = {
        Placement(link.name, link.index, found.interface.ip)
        for link in links
        for found in link.addresses
        if found.ours and found.interface.network.num_addresses == 1
    }
    at: dict[Address, list[Placement]] = {}
    for placement in sorted(present, key=lambda each: each.index):
        at.setdefault(placement.address, []).append(placement)
    own = {found.interface.ip for link in links for found in link.addresses if not found.ours}
    homes = [(network, link) for link in links for network in link.networks()]
    placed: set[Placement] = set()
    homeless: list[Address] = []
    for address in sorted(set(wanted), key=lambda each: (each.version, int(each))):
        if address in own:
            continue
        here = at.get(address, [])
        best = max(
            ((network.prefixlen, link) for network, link in homes if address in network),
            key=lambda found: (found[0], any(found[1].index == each.index for each in here), -found[1].index),
            default=None,
        )
        if best is not None:
            placed.add(Placement(best[1].name, best[1].index, address))
        elif here:
            placed.add(here[0])
        else:
            homeless.append(address)
    return Plan(
        add=_ordered(placed - present),
        remove=_ordered(present - placed),
        keep=_ordered(placed & present),
        homeless=tuple(homeless),
    )


class VirtualAddresses:
    """Keeps the wanted addresses on the links, and the neighbours informed. To be used from one event loop."""

    def __init__(self, *, follow_ups: Sequence[float] = FOLLOW_UPS) -> None:
        """`follow_ups` are the seconds after which an announcement is repeated."""
        self._follow_ups = follow_ups
        self._due: set[asyncio.TimerHandle] = set()
        self._lock = asyncio.Lock()
        self._told: dict[int, str] = {}
        self._placed: set[Placement] = set()

    async def reconcile(self, wanted: Iterable[Address], links: Sequence[SystemLink]) -> list[Trouble]:
        """Add what is missing, remove what is ours and not wanted; to be called at every change of links or document.

        New addresses are announced, and those of a link that got its carrier (again) or another MAC address. Returns
        what is wrong now, never raises for the network's sake. Removing comes last, so that an address that moves is
        never nowhere.
        """
        async with self._lock:
            todo = plan(wanted, links)
            troubles = [] if not todo.homeless else [_homeless(todo.homeless)]
            failures = await asyncio.to_thread(_apply, todo) if todo.add or todo.remove else {}
            there = {link.index: link.mac for link in links if link.carrier and link.mac}
            fresh = {index for index, mac in there.items() if self._told.get(index) != mac}
            self._told = there
            self._placed = {*todo.add, *todo.keep} - failures.keys()
            due = [
                each
                for each in (*todo.add, *(kept for kept in todo.keep if kept.index in fresh))
                if each.index in there and each in self._placed
            ]
            words = [*dict.fromkeys(failures.values()), *self._announce(due)]
        troubles += [Trouble(code="address-failed", message=text) for text in words[:5]]
        return troubles

    def close(self) -> None:
        """Announce no more. The addresses stay: traffic flows on without the agent."""
        for timer in self._due:
            timer.cancel()
        self._due.clear()

    def _announce(self, due: Sequence[Placement]) -> list[str]:
        """Announce now what is (still) ours and has a carrier, and again after each follow-up."""
        if not due:
            return []
        for delay in self._follow_ups:
            self._later(delay, due)
        return self._send(due)

    def _later(self, delay: float, due: Sequence[Placement]) -> None:
        def repeat() -> None:
            self._due.discard(timer)
            self._send(due)

        timer = asyncio.get_running_loop().call_later(delay, repeat)
        self._due.add(timer)

    def _send(self, due: Sequence[Placement]) -> list[str]:
        return announce.send(
            (each.link, self._told[each.index], each.address)
            for each in due
            if each in self._placed and each.index in self._told
        )


def _apply(todo: Plan) -> dict[Placement, str]:
    failures: dict[Placement, str] = {}
    try:
        netlink = IPRoute()
    except OSError as error:
        return dict.fromkeys((*todo.add, *todo.remove), f"virtual addresses cannot be changed: {error}")
    with netlink:
        for placement in todo.add:
            try:
                add_address(netlink, placement.index, placement.address)
            except NetlinkError as error:
                if error.code != errno.EEXIST:
                    failures[placement] = f"{placement.address} cannot be added to {placement.link}: {error}"
        for placement in todo.remove:
            try:
                remove_address(netlink, placement.index, placement.address)
            except NetlinkError as error:
                if error.code not in (errno.EADDRNOTAVAIL, errno.ENODEV):
                    failures[placement] = f"{placement.address} cannot be removed from {placement.link}: {error}"
    return failures


def _homeless(addresses: Sequence[Address]) -> Trouble:
    names = ", ".join(str(address) for address in addresses[:5])
    more = f" and {len(addresses) - 5} more" if len(addresses) > 5 else ""
    return Trouble(
        code="address-homeless",
        message=f"No link has a network that holds {names}{more}: clients cannot reach what is served there. "
        "Give a link an address in that network.",
    )


def _ordered(placements: Iterable[Placement]) -> tuple[Placement, ...]:
    return tuple(sorted(placements, key=lambda each: (each.index, each.address.version, int(each.address))))
