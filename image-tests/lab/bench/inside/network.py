# SPDX-License-Identifier: GPL-2.0-or-later
"""Client, balancer and ten backends in namespaces, with counting sinks at both ends.

    client 10.1.0.2  --  10.1.0.1  balancer  10.2.0.1  --  10.2.0.11 to .20  backends      services: 10.9.0.0/16

All backends are behind one link, each with an address and a MAC of its own. Where a sink is, frames are counted by
what they are addressed to as soon as they arrive, and end there; nobody answers but us. Neighbours are given, IPv6 is
off: no packet is under way but those that are sent on purpose.
"""

import itertools
import json
import os
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from lab import kernel
from lab.bench.inside.frames import ACK, PAYLOAD, PSH, SYN, Batch, parse, segment

BACKENDS = tuple(f"10.2.0.{number}" for number in range(11, 21))
CLIENT, FRONT, BACK = "10.1.0.2", "10.1.0.1", "10.2.0.1"
SERVICES = IPv4Address("10.9.0.1")
PORT = 80
MAC = {CLIENT: b"\2\0\0\0\1\2", FRONT: b"\2\0\0\0\1\1", BACK: b"\2\0\0\0\2\1"} | {
    address: bytes((2, 0, 0, 0, 2, int(address.split(".")[3]))) for address in BACKENDS
}
FLOWS = 100
EVERYTHING = 3
"""ETH_P_ALL: heard before the sinks see it."""

# What the image sets for every balancer (docs/kernel.md), whoever balances; accounting is Sluice's own.
_SETTINGS = {
    "net/ipv4/ip_forward": 1, "net/ipv4/ip_early_demux": 0, "net/ipv4/conf/all/rp_filter": 2,
    "net/ipv4/conf/all/send_redirects": 0,
}  # fmt: skip
_numbers = itertools.count()


def service(number: int) -> str:
    """The address of service `number`, from 0."""
    return str(SERVICES + number)


def ip(*arguments: str) -> None:
    """Run `ip`."""
    subprocess.run(["ip", *arguments], check=True)


def _text(mac: bytes) -> str:
    return mac.hex(":")


class Undelivered(Exception):
    """Packets were sent that did not arrive, or elsewhere than they should."""


class Network:
    """One client, one balancer, ten backends. `straight`: without the balancer, to measure all that is not it."""

    def __init__(self, *, straight: bool = False) -> None:
        number = next(_numbers)
        self._here = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.names = {place: f"{place}{number}" for place in ("client", "balancer", "backends")}
        self._descriptors: dict[str, int] = {}
        for place, name in self.names.items():
            ip("netns", "add", name)
            self._descriptors[place] = os.open(f"/run/netns/{name}", os.O_RDONLY)
            with self.inside(place):
                for each in ("all", "default"):
                    self.set(f"net/ipv6/conf/{each}/disable_ipv6", 1)
                ip("link", "set", "lo", "up")
        if straight:
            self._link(("client", "eth0", CLIENT), ("backends", "eth0", BACKENDS[0]))
        else:
            self._link(("client", "eth0", CLIENT), ("balancer", "front", FRONT))
            self._link(("balancer", "back", BACK), ("backends", "eth0", BACKENDS[0]))
            with self.inside("balancer"):
                for name, value in _SETTINGS.items():
                    self.set(name, value)
                self.neighbours("front", [CLIENT])
                self.neighbours("back", BACKENDS)
        with self.inside("backends"):
            for address in BACKENDS[1:]:
                ip("address", "add", f"{address}/24", "dev", "eth0")
            self._route(CLIENT if straight else BACK)
        with self.inside("client"):
            self._route(BACKENDS[0] if straight else FRONT)
        self.straight = straight
        self.first_hop = MAC[BACKENDS[0] if straight else FRONT]

    def _link(self, end: tuple[str, str, str], far_end: tuple[str, str, str]) -> None:
        """Join two ends, each a place, a link's name and its address."""
        (one, link, address), (other, peer, far) = end, far_end
        with self.inside(one):
            ip("link", "add", link, "address", _text(MAC[address]), "type", "veth",
               "peer", "name", peer, "netns", self.names[other], "address", _text(MAC[far]))  # fmt: skip
        for place, name, held in (end, far_end):
            with self.inside(place):
                ip("address", "add", f"{held}/24", "dev", name)
                ip("link", "set", name, "up")

    def _route(self, gateway: str) -> None:
        ip("route", "add", "default", "via", gateway, "dev", "eth0", "onlink")
        self.neighbours("eth0", [gateway])

    def neighbours(self, link: str, addresses: Sequence[str], mac: bytes | None = None) -> None:
        """Tell a link who is on it, in the namespace that this is called in."""
        for address in addresses:
            ip("neighbour", "replace", address, "lladdr", _text(mac or MAC[address]), "dev", link, "nud", "permanent")

    @contextmanager
    def inside(self, place: str) -> Iterator[None]:
        """Be in a namespace of the network."""
        kernel.setns(self._descriptors[place], kernel.CLONE_NEWNET)
        try:
            yield
        finally:
            kernel.setns(self._here, kernel.CLONE_NEWNET)

    @staticmethod
    def set(name: str, value: int) -> None:
        """Write a setting of the namespace that this is called in."""
        Path("/proc/sys", name).write_text(str(value))

    def command(self, *arguments: str, given: str | None = None) -> None:
        """Run a command on the balancer, `given` on its input; RuntimeError with what it said if it fails."""
        with self.inside("balancer"):
            done = subprocess.run(arguments, input=given, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")

    # Sinks ---------------------------------------------------------------------------------------------------------

    def sinks(self, *virtual: str) -> None:
        """Let every frame end, counted, where it arrives; also those that backends get for `virtual` addresses."""
        for place in ("client", "backends"):
            with self.inside(place):
                nft("table netdev sink { set seen { typeof ether daddr . ip daddr; counter; }; }")
                nft('table netdev sink { chain in { type filter hook ingress device "eth0" priority 0; '
                    "ether daddr . ip daddr @seen drop; ether type ip drop; }; }")  # fmt: skip
        with self.inside("backends"):
            keys = [(MAC[each], each) for each in BACKENDS]
            keys += [(MAC[each], address) for each in BACKENDS for address in virtual]
            nft(f"add element netdev sink seen {{ {', '.join(f'{_text(mac)} . {held}' for mac, held in keys)} }}")
        with self.inside("client"):
            nft(f"add element netdev sink seen {{ {_text(MAC[CLIENT])} . {CLIENT} }}")

    def no_sinks(self) -> None:
        """Let frames pass to those they are for, all backends under one MAC."""
        for place in ("client", "backends"):
            with self.inside(place):
                nft("delete table netdev sink")
        if not self.straight:
            with self.inside("balancer"):
                self.neighbours("back", BACKENDS, MAC[BACKENDS[0]])

    def arrived(self) -> Counter[str]:
        """How many frames arrived, by the backend; those to the client are its address'."""
        result: Counter[str] = Counter()
        owners = {_text(mac): address for address, mac in MAC.items()}
        for place in ("client", "backends"):
            with self.inside(place):
                for item in nft("list set netdev sink seen")["nftables"]:
                    for element in item.get("set", {}).get("elem", ()):
                        mac = element["elem"]["val"]["concat"][0]
                        result[owners[mac]] += element["elem"]["counter"]["packets"]
        return result

    # Flows ---------------------------------------------------------------------------------------------------------

    def raw(self, place: str, protocol: int = 0) -> socket.socket:
        """A packet socket on the link of the client or the backends; it hears `protocol` only, none by default."""
        with self.inside(place):
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            sock.bind(("eth0", protocol))  # Python swaps the octets
            return sock

    def syn(self, source: tuple[str, int], target: tuple[str, int]) -> bytes:
        """The first segment of a connection."""
        return segment((MAC[CLIENT], self.first_hop), (source, target), SYN, (1000, 0))

    def establish(self, targets: Sequence[tuple[str, int]], first: int, *, answered: bool = True) -> list[bytes]:
        """Open a connection to each target, from ports `first` and on; returns a segment with data for each.

        Not `answered`: nothing comes back through the balancer, as in direct routing.
        """
        macs = MAC[CLIENT], self.first_hop
        client, backends = self.raw("client"), self.raw("backends", EVERYTHING)
        backends.settimeout(5)
        result = []
        for number, target in enumerate(targets):
            source = (CLIENT, first + number)
            client.send(self.syn(source, target))
            frame = backends.recv(2000)
            if answered:
                seen_source, seen_target = parse(frame)
                back = frame[0:6], MAC[CLIENT] if self.straight else MAC[BACK]
                backends.send(segment(back, (seen_target, seen_source), SYN | ACK, (5000, 1001)))
            client.send(segment(macs, (source, target), ACK, (1001, 5001)))
            backends.recv(2000)
            result.append(segment(macs, (source, target), ACK | PSH, (1001, 5001), PAYLOAD))
        client.close()
        backends.close()
        return result

    def deliver(self, batch: Batch, sock: socket.socket) -> Counter[str]:
        """Send frames; by backend how many arrived. Undelivered unless all did."""
        before = self.arrived()
        batch.send(sock)
        delivered = self.arrived() - before
        if delivered.total() != batch.number:
            raise Undelivered(f"{delivered.total()} of {batch.number} frames arrived")
        return delivered


def nft(commands: str) -> Any:
    """Run commands of nft in the namespace that this is called in; the answer."""
    from nftables import Nftables  # noqa: PLC0415 - the guest has it, a host may not

    context = Nftables()
    context.set_json_output(True)
    code, output, error = context.cmd(commands)
    if code:
        raise RuntimeError(f"{commands}: {error}")
    return json.loads(output) if output else {}
