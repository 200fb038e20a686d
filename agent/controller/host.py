# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine's links, virtual addresses and host name, as the document wants them."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from agent.dataplane import Kernel, Offered, answered
from agent.model import Configuration, Farm, Fault, Link, taken, unreachable, unusable
from agent.model.state import Trouble
from agent.model.types import Address, Network
from agent.system import ethtool, hostname, networkd, queues, ways
from agent.system.addresses import VirtualAddresses
from agent.system.command import CommandFailed
from agent.system.links import SystemLink, Watch, ethernet, networks, own_addresses, placed_addresses, read_links

UNDONE = {"hostname-failed", "links-failed", "address-failed", "queues-failed"}
"""The codes of what `configure` could not do now; no event tells when it can be done, so it is to be tried again."""

LINGER = 30.0
"""Seconds after which it is asked again whether an address that is to go is still needed."""

_log = logging.getLogger(__name__)


class Host:
    """The edge to the machine the agent runs on, for one event loop."""

    def __init__(self, networkd_directory: Path | None) -> None:
        """`networkd_directory`: where systemd-networkd reads; None: links and host name are somebody else's."""
        self._directory = networkd_directory
        self._networkd = networkd.Networkd(networkd_directory)
        self._virtual = VirtualAddresses()
        self._watch: Watch | None = None
        self._wanted: Mapping[str, Link] | None = None
        self._present: Sequence[SystemLink] = ()
        self._changed: Callable[[], None] = lambda: None
        self._again: asyncio.TimerHandle | None = None
        self._fitted_to: object = None
        self._fitting: Mapping[str, Farm] = {}
        self._can: tuple[frozenset[tuple[str, int]], bool] | None = None

    def links(self) -> list[SystemLink]:
        """The machine's links as they are now. Blocks for milliseconds; raises OSError."""
        return read_links()

    def offered(self, kernel: Kernel, links: Sequence[SystemLink]) -> Offered:
        """What established connections can be offloaded to on this machine. Blocks; asks only when links come or go."""
        there = frozenset(ethernet(links))
        if self._can is None or self._can[0] != there:
            self._can = there, ethtool.offloads(sorted(name for name, _index in there))
        return kernel.offer(*self._can)

    def misplaced(self, config: Configuration) -> list[Fault]:
        """A fault for each virtual address in no network of a link, and each address that no host can have there.

        As far as that can be known now: with DHCP the networks are those of the present leases; without a lease
        nobody knows, and nothing is refused.
        """
        own, known = self._around(config)
        around = (config.links, own, known)
        # The same farm is as well placed as it was, as long as the links are the same.
        before = self._fitting if self._fitted_to == around else {}
        farms = {name: farm for name, farm in config.farms.items() if before.get(name) is not farm}
        others = config.model_copy(update={"farms": farms})
        found = list(taken(others, own))
        if known is not None:
            found += [*unreachable(others, known), *unusable(others, known)]
        if not found:
            self._fitted_to, self._fitting = around, config.farms
        return found

    def _around(self, config: Configuration) -> tuple[Collection[Address], list[Network] | None]:
        """The addresses of links, and the networks on them, that only the machine knows; None: nobody does."""
        links = self.links()
        if self._directory is None:
            return own_addresses(links), networks(links)
        wanted = networkd.effective(config.links, links)
        asking = [link for link in links if link.name in wanted and wanted[link.name].dhcp]
        leased = {link.name: link.networks() for link in asking}
        if not asking or not all(leased.values()):
            return own_addresses(asking), None
        fixed = [interface.network for link in wanted.values() for interface in link.addresses]
        return own_addresses(asking), [*fixed, *(network for found in leased.values() for network in found)]

    def not_yet(self, address: Address) -> str | None:
        """Why the links do not lead to `address` yet, in words, as of the last `configure`; None when they do.

        None, too, where the links are somebody else's: who knows what they are to be.
        """
        if self._directory is None:
            return None
        if self._wanted is None:
            return "the links are not set up yet"
        return ways.not_yet(address, self._wanted, self._present)

    async def configure(self, config: Configuration) -> list[Trouble]:
        """Bring links, virtual addresses and host name to what `config` says. Returns what is wrong."""
        links = await asyncio.to_thread(self.links)
        found: list[Trouble] = []
        if self._directory is not None:
            try:
                await hostname.ensure(config.system.hostname)
            except CommandFailed as error:
                found.append(Trouble(code="hostname-failed", message=f"The host name could not be set: {error}."))
            self._wanted, self._present = networkd.effective(config.links, links), links
            try:
                await self._networkd.apply(config.links, links)
            except (CommandFailed, OSError) as error:
                found.append(Trouble(code="links-failed", message=f"The links could not be configured: {error}."))
        found += await queues.reconcile(config.links, links)
        held = config.held_addresses()
        found += await self._virtual.reconcile(held | await self._lingering(held, links), links)
        return found + list(_link_troubles(config, links))

    async def _lingering(self, held: Collection[Address], links: Sequence[SystemLink]) -> set[Address]:
        """The addresses that are held no more, and that answers of open connections still go to."""
        left = placed_addresses(links).difference(held)
        try:
            kept = await asyncio.to_thread(answered, left) if left else set()
        except OSError as error:
            _log.warning("whether connections need addresses that are to go is not known: %s", error)
            return set()
        if kept:
            self._ask_again()
        return kept

    def _ask_again(self) -> None:
        if self._again is not None:
            self._again.cancel()
        self._again = asyncio.get_running_loop().call_later(LINGER, self._changed)

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` whenever a link or address changes, or may have to."""
        self._changed = changed
        self._watch = Watch(changed)
        self._watch.start()

    def close(self) -> None:
        """Watch no more; everything stays as it is."""
        if self._watch is not None:
            self._watch.close()
        if self._again is not None:
            self._again.cancel()
        self._virtual.close()


def _link_troubles(config: Configuration, links: list[SystemLink]) -> Iterator[Trouble]:
    names = {link.name for link in links}
    for name in config.links.keys() - names:
        words = ", ".join(sorted(names)) or "none"
        yield Trouble(
            code="link-missing", message=f"The link {name} of the configuration is not there (there are: {words})."
        )
    if not any(link.physical for link in links):
        yield Trouble(code="link-none", message="The appliance has no Ethernet link.")
        return
    wanted = networkd.effective(config.links, links)
    for link in links:
        if link.name not in wanted:
            continue
        if not link.carrier:
            yield Trouble(
                code="link-down", message=f"The link {link.name} has no carrier: check its cable or switch port."
            )
        elif wanted[link.name].dhcp and not link.networks():
            message = (
                f"No DHCP server has given the link {link.name} an address; give it one by hand or check the server."
            )
            yield Trouble(code="address-none", message=message)
