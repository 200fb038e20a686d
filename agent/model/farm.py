# SPDX-License-Identifier: GPL-2.0-or-later
"""A farm: what the document says of a balanced service, its backends and its checks."""

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from agent.model.backend import Backend, SorryServer
from agent.model.checks import AnyCheck
from agent.model.part import Part
from agent.model.types import Address, BitRate, Dscp, HostAddress, LogPrefix, Name, NetworkAddress, Ports, SourceRange

Protocol = Literal["tcp", "udp", "sctp", "all"]
Family = Literal[4, 6]
Forwarding = Literal["dnat", "snat", "stateless", "direct", "tunnel"]
Scheduler = Literal["round-robin", "weighted", "source-hash", "priority"]
Persistence = Literal["none", "address", "address-port"]
WhenDown = Literal["reject", "drop"]
OnFailure = Literal["keep", "cut"]
LimitAction = Literal["drop", "reject"]
TrafficClass = Literal["interactive", "normal", "bulk"]

LongSeconds = Annotated[int, Field(ge=1, le=604_800, json_schema_extra={"unit": "s"})]
"""Up to a week."""
Prefix4 = Annotated[int, Field(ge=1, le=32, json_schema_extra={"unit": "bits"})]
Prefix6 = Annotated[int, Field(ge=1, le=128, json_schema_extra={"unit": "bits"})]
Clients = Annotated[int, Field(ge=1, le=1_048_576, json_schema_extra={"unit": "clients"})]

MAX_LISTS = 8
"""Network lists that a farm allows, and that it denies."""

MAX_BACKENDS = 256
"""Backends of a farm."""

_HASH_BUCKETS = ((4, 509), (10, 2039), (20, 8191), (50, 65_521), (MAX_BACKENDS, 131_071))
"""Up to how many backends of an IP family: buckets of `source-hash`, a prime number, with hundreds for each backend."""


class Farm(Part):
    """A balanced service: its virtual addresses, protocols and ports, and the backends that answer."""

    enabled: bool = Field(
        default=True,
        title="Enabled",
        description="A farm that is not enabled keeps its settings and serves nobody.",
    )
    addresses: list[HostAddress] = Field(
        min_length=1,
        max_length=64,
        title="Virtual addresses",
        description="The addresses that clients connect to.",
    )
    protocols: list[Protocol] = Field(
        default=["tcp"],
        min_length=1,
        max_length=3,
        title="Protocols",
        description="What is balanced. `all`: everything that is sent to the virtual addresses, whatever the protocol, "
        "pings too; then the ports must be all, too.",
    )
    ports: list[Ports] = Field(
        min_length=1,
        max_length=64,
        title="Ports",
        description="The ports that clients connect to: single ones, ranges such as 8000-8099, or `all`.",
    )
    forwarding: Forwarding = Field(
        default="dnat",
        title="Forwarding",
        description="`dnat`: backends see the client's address (the appliance's, where the client is in their own "
        "network) and answer through the appliance. `snat`: backends see the appliance's address. "
        "`stateless`: as with destination NAT, but without connection tracking: faster, and with less of what else a "
        "farm can have. "
        "`direct`: backends get packets as they come and answer clients themselves; each has the virtual addresses, "
        "too. "
        "`tunnel`: backends, which may be behind routers, get packets in IP tunnels and answer clients themselves; "
        "each has the virtual addresses, too, and the end of a tunnel.",
    )
    source_pool: list[SourceRange] = Field(
        default_factory=list,
        max_length=64,
        title="Source pool",
        description="With `snat`: the addresses that backends see, each connection the next of them: single ones, "
        "ranges such as 192.0.2.10-192.0.2.19, or networks; 256 at most. The appliance answers for them, so they must "
        "be free, and in a network of a link. By default backends see the appliance's own address.",
    )
    flow_timeout: int = Field(
        default=900,
        ge=60,
        le=604_800,
        title="Flow timeout",
        description="With `stateless`, `direct` and `tunnel`: a TCP connection or SCTP association without a packet of "
        "its client for so long is forgotten, and balanced anew.",
        json_schema_extra={"unit": "s"},
    )
    flow_timeout_udp: int = Field(
        default=120,
        ge=60,
        le=604_800,
        title="UDP flow timeout",
        description="The same for UDP flows.",
        json_schema_extra={"unit": "s"},
    )
    offload: bool = Field(
        default=True,
        title="Offload",
        description="Established TCP connections and UDP flows pass the rules by, in a flowtable or the network card: "
        "half the work. Only farms whose settings need every packet are left out; switch it off to see all packets.",
    )
    scheduler: Scheduler = Field(
        default="round-robin",
        title="Scheduler",
        description="`round-robin`: each backend in turn. `weighted`: in turn, by weight, smoothly interleaved. "
        "`source-hash`: the same client to the same backend, by weight; few clients move when a backend comes or goes. "
        "`priority`: the first backend that can, by tier and name, takes all; the others stand by.",
    )
    hash_port: bool = Field(
        default=False,
        title="Hash the source port too",
        description="With `source-hash`: a client's connections are spread, and each of them stays where it is.",
    )
    hash_backends: int = Field(
        default=10,
        ge=1,
        le=MAX_BACKENDS,
        title="Room for backends",
        description="With `source-hash`: so many of an IP family there may be. Within it they come and go, and few "
        "clients move. More room takes more memory; a change of it across 4, 10, 20 or 50 moves most clients.",
    )
    hash_prefix4: Prefix4 = Field(
        default=32,
        title="Hashed IPv4 prefix",
        description="With `source-hash`: clients whose addresses begin with the same bits get the same backend.",
    )
    hash_prefix6: Prefix6 = Field(
        default=128,
        title="Hashed IPv6 prefix",
        description="The same for IPv6; 64 bits are one client's network in most places.",
    )
    persistence: Persistence = Field(
        default="none",
        title="Persistence",
        description="`none`: each connection is balanced. `address`: a client goes where it went before. "
        "`address-port`: what comes from the same port of a client goes where it went before, which is for UDP.",
    )
    persistence_timeout: int = Field(
        default=300,
        ge=1,
        le=604_800,
        title="Persistence timeout",
        description="A client is forgotten this long after its last new connection.",
        json_schema_extra={"unit": "s"},
    )
    persistence_prefix4: Prefix4 = Field(
        default=32,
        title="Persistent IPv4 prefix",
        description="Clients whose addresses begin with the same bits are remembered as one.",
    )
    persistence_prefix6: Prefix6 = Field(
        default=128,
        title="Persistent IPv6 prefix",
        description="The same for IPv6; 64 bits are one client's network in most places.",
    )
    persistence_size: Clients | None = Field(
        default=None,
        title="Persistence size",
        description="So many of each IP family are remembered, others balanced; by default 1048576 of all farms.",
    )
    persistence_static: dict[NetworkAddress, Name] = Field(
        default_factory=dict,
        max_length=1000,
        title="Static persistence",
        description="Clients of these networks go to these backends, as long as those take connections.",
    )
    minimum_active: int = Field(
        default=1,
        ge=1,
        le=256,
        title="Minimum active",
        description="Tiers are opened one after the other until so many backends take connections.",
    )
    on_failure: OnFailure = Field(
        default="keep",
        title="When a backend fails",
        description="`keep`: its connections (TCP, SCTP) are left to end by themselves; flows of all other protocols "
        "go to others at once. `cut`: its connections are cut, too, so that clients connect anew at once; also those "
        "of a backend that is removed, or whose address or port changes.",
    )
    slow_start: LongSeconds | None = Field(
        default=None,
        title="Slow start",
        description="A backend that was unhealthy comes back to its full weight over this time; by default at once.",
    )
    drain_timeout: LongSeconds | None = Field(
        default=None,
        title="Drain deadline",
        description="Connections that are left so long after a drain began are cut; by default none is.",
    )
    when_down: WhenDown = Field(
        default="reject",
        title="When no backend is left",
        description="`reject`: clients are refused at once. `drop`: they get no answer at all.",
    )
    sorry_servers: list[SorryServer] = Field(
        default_factory=list,
        max_length=2,
        title="Sorry servers",
        description="Take connections while no backend of their IP family does; never checked. One for each family.",
    )
    limit_rate: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        title="New connections of a source",
        description="So many each client may open in a second (UDP: flows); by default as many as it likes.",
        json_schema_extra={"unit": "1/s"},
    )
    limit_burst: int = Field(
        default=20,
        ge=1,
        le=100_000,
        title="Burst",
        description="So many of them a client that was idle may open at once.",
    )
    limit_connections: int | None = Field(
        default=None,
        ge=1,
        le=65_535,
        title="Open connections of a source",
        description="So many each client may have open at a time; by default as many as it likes.",
    )
    limit_prefix4: Prefix4 = Field(
        default=32,
        title="Limited IPv4 prefix",
        description="Clients whose addresses begin with the same bits are limited as one.",
    )
    limit_prefix6: Prefix6 = Field(
        default=64,
        title="Limited IPv6 prefix",
        description="The same for IPv6; 64 bits are one client's network in most places.",
    )
    limit_action: LimitAction = Field(
        default="drop",
        title="Beyond a limit",
        description="`drop`: the client gets no answer. `reject`: it is refused at once.",
    )
    limit_resets: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        title="TCP resets of a source",
        description="So many resets (RST) each client may send in a second; more are dropped; by default none is.",
        json_schema_extra={"unit": "1/s"},
    )
    strict_tcp: bool = Field(
        default=False,
        title="Strict TCP",
        description="A TCP connection begins with a SYN: what belongs to no connection that is known is dropped, and "
        "not taken for the middle of one.",
    )
    log_prefix: LogPrefix | None = Field(
        default=None,
        title="Log prefix",
        description="Log new connections, and what the farm's limits turn away, in the journal, with this word in "
        "front; by default nothing is logged.",
    )
    log_rate: int = Field(
        default=10,
        ge=1,
        le=1000,
        title="Log rate",
        description="So many lines of each kind in a second, and as many at once; what is more is not logged. Farms "
        "with the same prefix and rate share them.",
        json_schema_extra={"unit": "1/s"},
    )
    allow: list[Name] = Field(
        default_factory=list,
        max_length=MAX_LISTS,
        title="Allowed clients",
        description="Names of network lists: only their clients are served, and packets of all others are dropped. By "
        "default everybody is served.",
    )
    deny: list[Name] = Field(
        default_factory=list,
        max_length=MAX_LISTS,
        title="Denied clients",
        description="Names of network lists: packets of their clients are dropped, also those of open connections and "
        "of clients that are allowed.",
    )
    rate_in: BitRate | None = Field(
        default=None,
        title="Ceiling to the backends",
        description="What clients send beyond this rate is dropped, all clients and backends together; by default "
        "there is no ceiling. Written as a number or as `64k`, `20M`, `1.5G`.",
        json_schema_extra={"unit": "bit/s"},
    )
    rate_out: BitRate | None = Field(
        default=None,
        title="Ceiling to the clients",
        description="What backends answer beyond this rate is dropped; by default there is no ceiling.",
        json_schema_extra={"unit": "bit/s"},
    )
    dscp_in: Dscp | None = Field(
        default=None,
        title="DSCP to the backends",
        description="Written into what goes to the backends, 0 to 63 or a name such as `ef` or `af41`; by default "
        "packets keep what they have.",
    )
    dscp_out: Dscp | None = Field(
        default=None,
        title="DSCP to the clients",
        description="Written into what goes to the clients; by default packets keep what they have.",
    )
    traffic_class: TrafficClass = Field(
        default="normal",
        title="Class of traffic",
        description="Which queue its packets wait in, on links that have a `bandwidth`. `interactive`: is sent first, "
        "and has 30 % of a link in any case. `normal`: has 50 % in any case; what is of no farm waits here, too. "
        "`bulk`: is sent last; has 10 % in any case and 90 % at most.",
    )
    checks: list[AnyCheck] = Field(
        default_factory=list,
        max_length=8,
        title="Checks",
        description="A backend is well when all of them say so.",
    )
    backends: dict[Name, Backend] = Field(
        default_factory=dict, max_length=MAX_BACKENDS, title="Backends", description="The servers, by name."
    )

    @field_validator("addresses", "protocols", "ports", "allow", "deny", "source_pool")
    @classmethod
    def _no_duplicates(cls, values: list[object]) -> list[object]:
        if len(set(values)) != len(values):
            raise PydanticCustomError("duplicate", "names the same value twice; each may stand once")
        return values

    @property
    def families(self) -> tuple[Family, ...]:
        """The IP families of the farm's virtual addresses, IPv4 first. Each is balanced over the backends of it."""
        return tuple(sorted({address.version for address in self.addresses}))

    @property
    def checked(self) -> bool:
        """Whether a new connection is looked at before it is balanced: limited, held to be one, or logged."""
        bounded = self.limit_rate is not None or self.limit_connections is not None
        return bounded or self.strict_tcp or self.log_prefix is not None

    @property
    def limited(self) -> bool:
        """Whether packets may be turned away."""
        bounds = (self.limit_rate, self.limit_connections, self.limit_resets)
        return self.strict_tcp or any(bound is not None for bound in bounds)

    def sorry_server(self, family: Family) -> SorryServer | None:
        """The sorry server of a family."""
        return next((server for server in self.sorry_servers if server.address.version == family), None)

    def sources(self, family: Family) -> list[Address]:
        """The addresses of a family in the source pool, in their order, each once."""
        return sorted({address for each in self.source_pool if each.version == family for address in each}, key=int)

    @property
    def at_ingress(self) -> bool:
        """Whether its packets are forwarded as they come in, past connection tracking."""
        return self.forwarding in ("stateless", "direct", "tunnel")

    @property
    def needs_neighbours(self) -> bool:
        """Whether its servers must be in networks of the appliance's links."""
        return self.forwarding in ("stateless", "direct")

    @property
    def keeps_ports(self) -> bool:
        """Whether backends get every packet with the port that the client asked for."""
        return self.forwarding in ("direct", "tunnel")

    def packet_features(self) -> tuple[str, ...]:
        """The fields that say something which has to be done to every packet, where they say it."""
        return tuple(
            name
            for name in ("allow", "deny", "rate_in", "rate_out", "dscp_in", "dscp_out", "traffic_class")
            if getattr(self, name) not in (None, "normal", [])
        )

    @property
    def hash_buckets(self) -> int:
        """How many buckets `source-hash` has in each IP family.

        So many that taking one of n backends out of the document moves at most 1.3/n of the clients. They follow from
        the room that there is, not from who is there: with another number of buckets nearly all clients move.
        """
        return next(size for most, size in _HASH_BUCKETS if self.hash_backends <= most)
