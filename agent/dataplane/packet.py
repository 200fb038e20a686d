# SPDX-License-Identifier: GPL-2.0-or-later
"""Headers of a packet as nftables' trace brings them: who to whom, and of which kind. Pure."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from struct import Struct

_PORTS = Struct("!HH")
_WITH_PORTS = {6: "TCP", 17: "UDP", 132: "SCTP"}
_OTHERS = {1: "ICMP", 58: "ICMPv6", 47: "GRE", 50: "ESP"}
_ECHO = {1: {8: "echo request", 0: "echo reply"}, 58: {128: "echo request", 129: "echo reply"}}
_FLAGS = ((0x02, "SYN"), (0x10, "ACK"), (0x01, "FIN"), (0x04, "RST"))
_EXTENSIONS = (0, 43, 44, 60)  # RFC 8200: what may stand between an IPv6 header and that of the transport


@dataclass(frozen=True)
class Packet:
    """A packet's addresses, its protocol's number (None: not known), its ports and its kind in words ("TCP SYN")."""

    source: IPv4Address | IPv6Address
    destination: IPv4Address | IPv6Address
    protocol: int | None
    source_port: int | None = None
    destination_port: int | None = None
    kind: str = ""

    def __str__(self) -> str:
        ends = endpoint(self.source, self.source_port), endpoint(self.destination, self.destination_port)
        return f"{ends[0]} > {ends[1]} {self.kind}".rstrip()


def endpoint(address: IPv4Address | IPv6Address | str, port: int | None) -> str:
    """An address with its port, as it is written."""
    if port is None:
        return str(address)
    return f"[{address}]:{port}" if ":" in str(address) else f"{address}:{port}"


def packet(network: bytes, transport: bytes) -> Packet | None:
    """The packet of these beginnings of its network and transport headers; None if they are too short or unknown."""
    if len(network) >= 20 and network[0] >> 4 == 4:
        source: IPv4Address | IPv6Address = IPv4Address(network[12:16])
        destination: IPv4Address | IPv6Address = IPv4Address(network[16:20])
        protocol: int | None = network[9]
    elif len(network) >= 40 and network[0] >> 4 == 6:
        source, destination = IPv6Address(network[8:24]), IPv6Address(network[24:40])
        protocol = None if network[6] in _EXTENSIONS else network[6]
    else:
        return None
    if protocol in _ECHO and transport and transport[0] in _ECHO[protocol]:
        return Packet(source, destination, protocol, kind=f"{_OTHERS[protocol]} {_ECHO[protocol][transport[0]]}")
    if protocol not in _WITH_PORTS or len(transport) < _PORTS.size:
        return Packet(
            source, destination, protocol, kind=_OTHERS.get(protocol or 0, f"protocol {protocol}" if protocol else "")
        )
    kind = _WITH_PORTS[protocol]
    if protocol == 6 and len(transport) > 13:
        kind = " ".join([kind, *(name for bit, name in _FLAGS if transport[13] & bit)])
    source_port, destination_port = _PORTS.unpack_from(transport)
    return Packet(source, destination, protocol, source_port, destination_port, kind)
