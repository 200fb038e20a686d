# SPDX-License-Identifier: GPL-2.0-or-later
"""What a trace is asked, and what it answers."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError

from agent.model.types import LAST_PORT, Address, host_address

MAX_SECONDS = 60
"""How long a trace may take."""
MAX_PACKETS = 50
"""How many packets a trace may follow."""

TraceProtocol = Literal["tcp", "udp", "sctp", "icmp", "gre", "esp"]
"""What packets can be asked for by; `icmp` is that of the family."""
PORTLESS = ("icmp", "gre", "esp")
"""Those that have no ports."""
Outcome = Literal["forwarded", "appliance", "refused", "dropped", "lost"]
"""What became of a packet. appliance: it was for the appliance itself. lost: the kernel gave it up between rules."""

_PLACE = re.compile(r"(?:\[([^\]]*)\]|([^:\[\]]*))(?::([0-9]{1,5}))?")


@dataclass(frozen=True)
class Origin:
    """Where packets come from: an address, and a port unless it may be any."""

    address: Address
    port: int | None = None

    def __str__(self) -> str:
        return _written(self.address, self.port)


@dataclass(frozen=True)
class Service:
    """Where packets go: an address, a port unless it may be any, a protocol unless it may be any."""

    address: Address
    port: int | None = None
    protocol: TraceProtocol | None = None

    def __str__(self) -> str:
        return _written(self.address, self.port) + (f"/{self.protocol}" if self.protocol else "")


def _written(address: Address, port: int | None) -> str:
    if port is None:
        return str(address)
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _client(value: Any) -> Origin:
    if isinstance(value, Origin):
        return value
    return Origin(*_place(value, "192.0.2.7, 192.0.2.7:4000 or [2001:db8::7]:4000"))


def _service(value: Any) -> Service:
    if isinstance(value, Service):
        return value
    where, slash, name = value.partition("/") if isinstance(value, str) else (value, "", "")
    address, port = _place(where, "192.0.2.10:80/tcp, [2001:db8::10]:53/udp or 192.0.2.10/icmp")
    protocol = next((each for each in get_args(TraceProtocol) if each == name), None)
    if slash and protocol is None:
        raise PydanticCustomError("address_protocol", "has an unknown protocol; use tcp, udp, sctp, icmp, gre or esp")
    if port and protocol in PORTLESS:
        words = "has a port, which {protocol} knows nothing of; leave it out"
        raise PydanticCustomError("address_port", words, {"protocol": protocol})
    return Service(address, port, protocol)


def _place(value: Any, example: str) -> tuple[Address, int | None]:
    match = _PLACE.fullmatch(value) if isinstance(value, str) else None
    # Without brackets an IPv6 address stands alone: what comes after its last colon may be a part of it.
    alone = isinstance(value, str) and value.count(":") > 1 and "[" not in value
    if match is None and not alone:
        raise PydanticCustomError("address_form", f"is not of this form; write it like {example}")
    bracketed, bare, digits = match.groups() if match else (None, value, None)
    address = host_address(bare if bracketed is None else bracketed)
    port = int(digits) if digits else None
    if port is not None and not 1 <= port <= LAST_PORT:
        raise PydanticCustomError("address_port", "has a port that is out of range; ports are 1 to 65535")
    return address, port


TraceClient = Annotated[
    Origin, PlainValidator(_client), PlainSerializer(str, return_type=str), WithJsonSchema({"type": "string"})
]
TraceService = Annotated[
    Service, PlainValidator(_service), PlainSerializer(str, return_type=str), WithJsonSchema({"type": "string"})
]


class TraceRequest(BaseModel):
    """Asks to follow the packets from a client to a service, and the answers."""

    # `from` is a word of Python, so the attribute has another name than the member.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)

    client: TraceClient = Field(
        alias="from", description="ADDRESS or ADDRESS:PORT; IPv6 with a port as [ADDRESS]:PORT."
    )
    service: TraceService = Field(
        alias="to",
        description="ADDRESS, ADDRESS:PORT, ADDRESS/PROTOCOL or ADDRESS:PORT/PROTOCOL, with tcp, udp, sctp, icmp, gre "
        "or esp.",
    )
    seconds: int = Field(default=10, ge=1, le=MAX_SECONDS, description="How long to wait for packets at most.")
    count: int = Field(
        default=10, ge=1, le=MAX_PACKETS, description="Answer as soon as so many packets were followed, either way."
    )

    @field_validator("service")
    @classmethod
    def _of_one_family(cls, service: Service, info: ValidationInfo) -> Service:
        client = info.data.get("client")
        if client is not None and client.address.version != service.address.version:
            raise PydanticCustomError(
                "family", f"is IPv{service.address.version}, the client is IPv{client.address.version}; use one family"
            )
        if client is not None and client.port and service.protocol in PORTLESS:
            raise PydanticCustomError(
                "address_protocol",
                "is asked by {protocol}, which has no ports, and the client has one; leave one of them out",
                {"protocol": service.protocol},
            )
        return service


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TraceEvent(_Answer):
    """One step of a packet through the rules, as nftables reports it."""

    table: str = Field(description="Such as `inet sluice`.")
    chain: str
    kind: Literal["rule", "end", "policy"] = Field(description="A rule that matched; a chain's end; a chain's policy.")
    handle: int | None = Field(description="The rule's handle, as `nft -a list chain` shows it.")
    rule: str | None = Field(description="The rule; null where it is none of the permanent ones of `inet sluice`.")
    verdict: str = Field(description="`accept`, `drop`, `continue`, `jump CHAIN`, `goto CHAIN`, `return`, ...")
    mark: int = Field(description="The packet's mark, which is the farm's.")
    packet: str | None = Field(description="The packet as it is here, where a hook begins.")
    link_in: str | None = Field(description="The link it came in by.")
    link_out: str | None = Field(description="The link it is to leave by.")


class TracedPacket(_Answer):
    """A packet that was followed."""

    packet: str = Field(description="As it came in: source, destination, protocol, flags of TCP.")
    direction: Literal["request", "answer"] = Field(description="answer: from the backend to the client.")
    outcome: Outcome
    farm: str | None = Field(description="null where no farm took it.")
    backend: str | None = Field(description="Or `sorry server`; null where none got it.")
    words: list[str] = Field(description="What happened to it, in sentences.")
    events: list[TraceEvent]


class Trace(_Answer):
    """What became of the packets from a client to a service."""

    summary: str = Field(description="What was found, in a sentence or two.")
    packets: list[TracedPacket] = Field(description="In the order in which they came.")
