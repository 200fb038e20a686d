# SPDX-License-Identifier: GPL-2.0-or-later
"""The scalar types of the document: names, addresses, networks, ports."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
)
from socket import AF_INET, inet_pton
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PlainSerializer, PlainValidator, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network

NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
LINK_PATTERN = r"^[a-z][a-z0-9_.-]{0,14}$"
LOG_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$"
HOSTNAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?){0,7}$"


LAST_PORT = 65535

_PORTS = re.compile(r"([0-9]{1,5})-([0-9]{1,5})")


@dataclass(frozen=True, order=True)
class PortRange:
    """Ports from `first` to `last`, both included. Written as 80, "8000-8099", or "all"."""

    first: int
    last: int

    @classmethod
    def all(cls) -> Self:
        """Every port there is."""
        return cls(1, LAST_PORT)

    @property
    def single(self) -> bool:
        """Whether it is one port."""
        return self.first == self.last

    @property
    def written(self) -> int | str:
        """As the document has it."""
        return self.first if self.single else "all" if self == PortRange.all() else f"{self.first}-{self.last}"

    def __str__(self) -> str:
        return str(self.written)

    def __contains__(self, port: int) -> bool:
        return self.first <= port <= self.last


def _port_range(value: Any) -> PortRange:
    if isinstance(value, PortRange):
        return value
    if type(value) is int:
        first = last = value
    elif value == "all":
        return PortRange.all()
    elif isinstance(value, str) and (match := _PORTS.fullmatch(value)):
        first, last = int(match[1]), int(match[2])
    else:
        raise PydanticCustomError("ports", 'is not a port; write 80, a range as "8000-8099", or "all"')
    if not (1 <= first <= LAST_PORT and 1 <= last <= LAST_PORT):
        raise PydanticCustomError("ports", "is out of range; ports are 1 to 65535")
    if int(first) > int(last):
        raise PydanticCustomError("ports", "is upside down; write the lower port first")
    return PortRange(first, last)


def _address(text: str) -> Address:
    """The address that a text is; the C library reads IPv4 ten times as fast as `ipaddress`, by the same rules."""
    try:
        return IPv4Address(inet_pton(AF_INET, text))
    except OSError:
        return ip_address(text)


def host_address(value: Any) -> Address:
    """An address that a host can have, of a text. Raises PydanticCustomError."""
    return _host(value) if isinstance(value, str) else _a_host(value)


@lru_cache(maxsize=4096)
def _host(text: str) -> Address:
    """The address of a host; one object for all who name it: servers have many farms, addresses many ports."""
    try:
        address = None if "%" in text else _address(text)
    except ValueError:
        address = None
    return _a_host(address)


def _a_host(address: Any) -> Address:
    """What is given, if it is an address that a host can have."""
    if not isinstance(address, IPv4Address | IPv6Address):
        raise PydanticCustomError("address", "is not an IP address; write it like 192.0.2.10 or 2001:db8::10")
    if address.is_unspecified or address.is_multicast or address.is_loopback or address.is_link_local:
        raise PydanticCustomError(
            "address_kind",
            "is a special address (unspecified, loopback, link-local or multicast); use a host's own",
        )
    if isinstance(address, IPv4Address) and (int(address) >> 24 == 0 or int(address) >> 28 == 15):
        raise PydanticCustomError("address_kind", "lies in a reserved range (0.0.0.0/8 or 240.0.0.0/4)")
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        raise PydanticCustomError("address_kind", "is an IPv4-mapped IPv6 address; write the IPv4 address itself")
    return address


def _network(value: Any) -> Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    try:
        if not isinstance(value, str) or "%" in value:
            raise ValueError
        interface = ip_interface(value)
    except ValueError:
        raise PydanticCustomError(
            "network", "is not a network; write it like 192.0.2.0/24 or 2001:db8::/32, one address like 192.0.2.7"
        ) from None
    if interface.ip != interface.network.network_address:
        raise PydanticCustomError(
            "network",
            "has bits set behind its prefix length; the network is {network}",
            {"network": str(interface.network)},
        )
    return interface.network


MAX_POOL = 256
"""Addresses of a farm's source pool."""


@dataclass(frozen=True)
class AddressRange:
    """Addresses from `first` to `last`, both included and of one family. Written as one, "a-b", or a network."""

    first: Address
    last: Address

    @property
    def version(self) -> Literal[4, 6]:
        """The IP family."""
        return self.first.version

    def __len__(self) -> int:
        return int(self.last) - int(self.first) + 1

    def __iter__(self) -> Iterator[Address]:
        return (self.first + number for number in range(len(self)))

    def __contains__(self, address: Address) -> bool:
        return self.version == address.version and int(self.first) <= int(address) <= int(self.last)

    def overlaps(self, other: "AddressRange") -> bool:
        """Whether an address is in both."""
        return self.first in other or other.first in self

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


def _address_range(value: Any) -> AddressRange:
    if isinstance(value, AddressRange):
        return value
    if isinstance(value, str) and "/" in value:
        network = _network(value)
        first, last = network[0], network[-1]
    elif isinstance(value, str) and "-" in value:
        low, _, high = value.partition("-")
        first, last = host_address(low.strip()), host_address(high.strip())
    else:
        first = last = host_address(value)
    if first.version != last.version:
        raise PydanticCustomError("address_range", "is from one IP family to the other; name a range of each")
    if int(first) > int(last):
        raise PydanticCustomError("address_range", "is upside down; write the lower address first")
    size = int(last) - int(first) + 1
    if size > MAX_POOL:
        raise PydanticCustomError(
            "address_range", "has {size} addresses; a pool has {most} at most", {"size": size, "most": MAX_POOL}
        )
    for each in (first, last):
        host_address(str(each))
    return AddressRange(first, last)


def _interface(value: Any) -> Interface:
    if isinstance(value, IPv4Interface | IPv6Interface):
        return value
    try:
        if not isinstance(value, str) or "/" not in value or "%" in value:
            raise ValueError
        interface = ip_interface(value)
    except ValueError:
        raise PydanticCustomError(
            "interface",
            "is not an address with its prefix length; write it like 192.0.2.1/24 or 2001:db8::1/64",
        ) from None
    host_address(str(interface.ip))
    whole = interface.network.num_addresses > 2 and interface.version == 4
    if whole and interface.ip in (interface.network.network_address, interface.network.broadcast_address):
        raise PydanticCustomError("interface", "is the network or broadcast address of its network; use a host's")
    return interface


LEAST_RATE, MOST_RATE = 64_000, 100_000_000_000
"""Bits a second. The kernel counts with 64 bits of nanoseconds times bytes; 100 Gbit/s is what fits."""

_RATE = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,9}))?([kMG])(?:bit/s)?")
_UNITS = {"k": 3, "M": 6, "G": 9}


LEAST_BANDWIDTH, MOST_BANDWIDTH = 1_000_000, 32_000_000_000
"""Of a link, bits a second: its queues count 32 bits of bytes."""


def _bit_rate(value: Any, least: int = LEAST_RATE, most: int = MOST_RATE) -> int:
    if type(value) is int:
        rate = value
    elif isinstance(value, str) and (match := _RATE.fullmatch(value)) and len(match[2] or "") <= _UNITS[match[3]]:
        places = _UNITS[match[3]]
        rate = int(match[1]) * 10**places + int((match[2] or "0").ljust(places, "0"))
    else:
        raise PydanticCustomError("rate", "is not a rate; write bits per second, such as 2000000, 64k, 20M or 1.5G")
    if not least <= rate <= most:
        words = {"least": rate_words(least), "most": rate_words(most)}
        raise PydanticCustomError("rate", "is out of range; write {least} to {most} (bit/s)", words)
    return rate


def rate_words(rate: int) -> str:
    """A rate as people write it: 20M, 64k, 1.5G; as it is where that would not be the same."""
    for unit, places in reversed(_UNITS.items()):
        if rate >= 10**places and rate % 10 ** (places - 3) == 0:
            return f"{rate // 10**places}.{rate % 10**places:0{places}}".rstrip("0").rstrip(".") + unit
    return f"{rate}"


DSCP_NAMES = {
    "be": 0, "le": 1, **{f"cs{number}": 8 * number for number in range(1, 8)},
    **{f"af{number}{drop}": 8 * number + 2 * drop for number in range(1, 5) for drop in range(1, 4)},
    "va": 44, "ef": 46,
}  # fmt: skip
"""Names of DSCP values: IANA's registry of differentiated services field codepoints."""

LAST_DSCP = 63


def dscp_words(value: int) -> str:
    """A DSCP value with its name, if it has one: 46 (EF)."""
    name = next((name for name, number in DSCP_NAMES.items() if number == value), None)
    return f"{value} ({name.upper()})" if name else f"{value}"


def _dscp(value: Any) -> int:
    if isinstance(value, str) and value.lower() in DSCP_NAMES:
        return DSCP_NAMES[value.lower()]
    if type(value) is not int or not 0 <= value <= LAST_DSCP:
        raise PydanticCustomError("dscp", "is not a DSCP value; write 0 to 63, or a name such as ef, af41 or cs3")
    return value


def _rate_schema(least: int, most: int) -> WithJsonSchema:
    number = {"type": "integer", "minimum": least, "maximum": most}
    return WithJsonSchema(
        {"anyOf": [number, {"type": "string", "pattern": r"^[0-9]{1,12}(\.[0-9]{1,9})?[kMG](bit/s)?$"}]}
    )


BitRate = Annotated[int, PlainValidator(_bit_rate), _rate_schema(LEAST_RATE, MOST_RATE)]
Bandwidth = Annotated[
    int,
    PlainValidator(lambda value: _bit_rate(value, LEAST_BANDWIDTH, MOST_BANDWIDTH)),
    _rate_schema(LEAST_BANDWIDTH, MOST_BANDWIDTH),
]
Dscp = Annotated[
    int,
    PlainValidator(_dscp),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": LAST_DSCP},
                {"type": "string", "pattern": "^[a-zA-Z]{2}[0-9]{0,2}$"},
            ]
        }
    ),
]
HostAddress = Annotated[
    Address,
    PlainValidator(host_address),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}),
]
NetworkAddress = Annotated[
    Network,
    PlainValidator(_network),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": "^[0-9a-fA-F.:]+(/[0-9]{1,3})?$"}),
]
SourceRange = Annotated[
    AddressRange,
    PlainValidator(_address_range),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": "^[0-9a-fA-F.:]+(/[0-9]{1,3}|-[0-9a-fA-F.:]+)?$"}),
]
InterfaceAddress = Annotated[
    Interface,
    PlainValidator(_interface),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": "^[0-9a-fA-F.:]+/[0-9]{1,3}$"}),
]
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
LinkName = Annotated[str, StringConstraints(pattern=LINK_PATTERN)]
Hostname = Annotated[str, StringConstraints(pattern=HOSTNAME_PATTERN, max_length=253)]
LogPrefix = Annotated[str, StringConstraints(pattern=LOG_PATTERN)]
Port = Annotated[int, Field(ge=1, le=65535)]
Ports = Annotated[
    PortRange,
    PlainValidator(_port_range),
    PlainSerializer(lambda ports: ports.written, return_type=int | str),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": LAST_PORT},
                {"type": "string", "pattern": "^([0-9]{1,5}-[0-9]{1,5}|all)$"},
            ]
        }
    ),
]
