# SPDX-License-Identifier: GPL-2.0-or-later
"""Networks and hosts of the lab, made of bridges, veth pairs, taps and network namespaces.

Three segments, each a bridge: `mgmt`, where the tests and the browser are, `clients` and `backends`. The appliance is
the only way from one to another. Addresses and MAC addresses are fixed, so that a restored machine finds its neighbours
as it left them.
"""

import os
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from lab import kernel


@dataclass(frozen=True)
class Segment:
    """One network: its bridge's name and the start of its addresses ("10.10.0")."""

    name: str
    prefix: str

    def address(self, number: int) -> str:
        """The address of host `number` in this network."""
        return f"{self.prefix}.{number}"

    def address6(self, number: int) -> str:
        """Its IPv6 address; the network's prefix length is 64."""
        return f"fd00:{self.prefix.split('.')[1]}::{number}"


MGMT = Segment("mgmt", "10.10.0")
CLIENTS = Segment("clients", "10.20.0")
BACKENDS = Segment("backends", "10.30.0")
SEGMENTS = (MGMT, CLIENTS, BACKENDS)

RUNNER_NUMBER = 1
"""Host number on `mgmt` of the bridge itself: the tests, the DHCP server and the browser."""
APPLIANCE_NUMBER = 2
"""Host number of the appliance on every segment."""


def ip(*arguments: str, into: "Host | None" = None) -> str:
    """Run iproute2's `ip` in the lab's own namespace, or in that of host `into`; return what it printed."""
    command = ["ip", *arguments]
    if into is not None:
        command = ["nsenter", f"--net={into.path}", *command]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {result.stderr.strip()}")
    return result.stdout


class Host:
    """A network namespace with a leg in each of some segments: eth0 in the first, eth1 in the second..."""

    def __init__(self, name: str, legs: Mapping[Segment, int]) -> None:
        """`legs` gives the host number in each segment."""
        self.name = name
        first, number = next(iter(legs.items()))
        self.address = first.address(number)
        self.address6 = first.address6(number)
        self._descriptor = _new_network_namespace()
        self._cables: list[str] = []
        ip("link", "set", "lo", "up", into=self)
        for index, (segment, own) in enumerate(legs.items()):
            cable, leg = f"v{index}-{name}", f"eth{index}"
            ip("link", "add", cable, "type", "veth", "peer", "name", leg, "netns", self.path)
            ip("link", "set", cable, "master", segment.name, "up")
            self._cables.append(cable)
            mac = f"02:00:00:{segment.prefix.split('.')[1]}:00:{own:02x}"
            ip("link", "set", leg, "address", mac, "up", into=self)
            ip("address", "add", f"{segment.address(own)}/24", "dev", leg, into=self)
            # Nobody else can have it, so nothing waits for an answer to that question.
            ip("address", "add", f"{segment.address6(own)}/64", "dev", leg, "nodad", into=self)
        if APPLIANCE_NUMBER not in legs.values():
            ip("route", "add", "default", "via", first.address(APPLIANCE_NUMBER), into=self)
            ip("-6", "route", "add", "default", "via", first.address6(APPLIANCE_NUMBER), into=self)

    def hold(self, *addresses: str) -> None:
        """Have these addresses on the loopback, and keep quiet about them: as a backend does that answers directly."""
        for setting in ("arp_ignore=1", "arp_announce=2"):
            command = ["nsenter", f"--net={self.path}", "sysctl", "-qw", f"net.ipv4.conf.all.{setting}"]
            subprocess.run(command, check=True)
        for address in addresses:
            ip("address", "add", address, "dev", "lo", into=self)

    @property
    def path(self) -> str:
        """A path to the namespace, for `nsenter --net=` and `ip ... netns`, as long as this process lives."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Move the calling thread into this host. Sockets that it makes meanwhile stay here for ever."""
        with open("/proc/thread-self/ns/net", "rb") as home:  # noqa: PTH123 - a descriptor is what setns wants
            kernel.setns(self._descriptor, kernel.CLONE_NEWNET)
            try:
                yield
            finally:
                kernel.setns(home.fileno(), kernel.CLONE_NEWNET)

    def unplug(self) -> None:
        """Pull the cable: nothing arrives any more, and nothing is told to anybody."""
        for cable in self._cables:
            ip("link", "set", cable, "down")

    def plug(self) -> None:
        """Put the cable back."""
        for cable in self._cables:
            ip("link", "set", cable, "up")

    def close(self) -> None:
        """Remove the host from the network. The namespace goes with its last socket."""
        for cable in self._cables:
            ip("link", "delete", cable)
        os.close(self._descriptor)


def _new_network_namespace() -> int:
    """Make a network namespace and return a descriptor that keeps it."""
    made: list[int] = []

    def make() -> None:
        kernel.unshare(kernel.CLONE_NEWNET)
        made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    # A thread of its own: unshare moves the caller, and this way nobody has to come back.
    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if not made:
        raise RuntimeError("no network namespace could be made; are the tests inside `python -m lab.enter`?")
    return made[0]


class Network:
    """The segments, and whatever is plugged into them."""

    def __init__(self) -> None:
        self._taps: list[str] = []
        self._hosts: list[Host] = []

    def __enter__(self) -> Self:
        for segment in SEGMENTS:
            ip("link", "add", segment.name, "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
            ip("link", "set", segment.name, "up")
        ip("link", "set", MGMT.name, "address", "02:00:00:10:00:01")
        ip("address", "add", f"{MGMT.address(RUNNER_NUMBER)}/24", "dev", MGMT.name)
        return self

    def __exit__(self, *_exception: object) -> None:
        for host in self._hosts:
            host.close()
        self.remove_taps()
        for segment in SEGMENTS:
            ip("link", "delete", segment.name)

    def host(self, name: str, legs: Mapping[Segment, int]) -> Host:
        """Add a host with `legs` (see Host); it goes when the network does."""
        host = Host(name, legs)
        self._hosts.append(host)
        return host

    def taps(self) -> Sequence[str]:
        """Taps for one machine, one for each segment in the order of SEGMENTS; made at the first call."""
        if not self._taps:
            for segment in SEGMENTS:
                name = f"t-{segment.name}"
                ip("tuntap", "add", name, "mode", "tap")
                ip("link", "set", name, "master", segment.name, "up")
                self._taps.append(name)
        return tuple(self._taps)

    def remove_taps(self) -> None:
        """Remove the taps, for a machine that is to have new ones."""
        for name in self._taps:
            ip("link", "delete", name)
        self._taps = []
