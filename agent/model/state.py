# SPDX-License-Identifier: GPL-2.0-or-later
"""What the world answers: the state of farms, backends and the appliance. Never part of a snapshot."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Health = Literal["healthy", "unhealthy", "unknown"]
FarmStatus = Literal["up", "degraded", "down", "disabled"]
OffloadKind = Literal["none", "software", "hardware"]
Role = Literal["active", "standby", "failed", "draining", "drained", "full", "disabled"]
"""What a backend does in its farm; BackendNow.role says what each means."""


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Traffic(_Answer):
    """Counters since the farm or backend was created."""

    active: int = Field(default=0, description="Connections that are open now.")
    new: int = Field(default=0, description="Connections that were opened, in all.")
    bytes_in: int = Field(default=0, description="Bytes from clients to backends, in all, with IP headers.")
    bytes_out: int = Field(default=0, description="Bytes from backends to clients, in all, with IP headers.")


class BackendNow(_Answer):
    """A backend as it is now."""

    address: str
    port: int | None = Field(description="null where the backend is asked at the port that the client asked for.")
    state: Literal["enabled", "drain", "disabled"] = Field(description="What the configuration says.")
    role: Role = Field(
        description="Why it has its weight. active: takes connections. standby: could, and will "
        "when those before it are too few. failed: is unhealthy. draining: finishes what "
        "it has. drained: the drain's deadline has come, and what was left was cut. disabled: it or its farm is not "
        "enabled. full: has as many connections as it may have; others take the new ones."
    )
    health: Health = Field(description="unknown: no check, or none has come to a verdict yet; takes connections.")
    reason: str = Field(description="Why the health is what it is, in words.")
    since: datetime | None = Field(description="When the health last changed.")
    latency_ms: float | None = Field(description="Of the last successful check, in milliseconds.")
    max_connections: int | None = Field(default=None, description="So many may be open; null: as many as come.")
    weight: int = Field(description="The effective weight; 0 takes no new connections.")
    ramp: float | None = Field(
        default=None, description="The part of its weight that it has while it starts slowly, 0 to 1; null otherwise."
    )
    share: Annotated[float, Field(ge=0, le=1)] = Field(description="The part of new connections it gets now.")
    drain_ends: datetime | None = Field(
        default=None, description="When what a draining backend has left is cut; null without a deadline."
    )
    traffic: Traffic


class SorryServerNow(_Answer):
    """A sorry server of a farm as it is now. Nobody checks it."""

    address: str
    port: int | None = Field(description="null where it is asked at the port that the client asked for.")
    answers: bool = Field(description="Whether new clients get it now: no backend of its IP family takes connections.")
    traffic: Traffic


class TurnedAway(_Answer):
    """How much a farm's limits turned away, since the farm was created or last got limits."""

    rate: int = Field(default=0, description="New connections of sources that opened too many a second.")
    connections: int = Field(default=0, description="New connections of sources that had too many open.")
    strict: int = Field(default=0, description="TCP packets of no known connection that were no SYN.")
    resets: int = Field(default=0, description="TCP resets of sources that sent too many a second.")


class FarmNow(_Answer):
    """A farm as it is now."""

    status: FarmStatus = Field(
        description="degraded: a backend is out or full, or a backup tier takes connections; "
        "down: none takes connections, though a sorry server may answer."
    )
    addresses: list[str]
    protocols: list[str]
    ports: list[int | str]
    scheduler: str
    forwarding: str
    when_down: str = Field(description="What clients get while no backend takes connections.")
    offload: OffloadKind = Field(
        default="none",
        description="How packets of established connections pass. none: by the rules. software: by a flowtable. "
        "hardware: the network cards forward them. First packets always pass the rules.",
    )
    offload_reasons: list[str] = Field(
        default=[], description="Why it is not, or not all of it is, as fast as can be, a clause each."
    )
    without_effect: list[str] = Field(
        default=[],
        description="Settings of the farm that do nothing as the rest of the configuration is, and why, a clause each.",
    )
    exact_turn: bool = Field(description="Whether its turn is its own (round robin exact), not shared with others.")
    traffic: Traffic
    turned_away: TurnedAway | None = Field(default=None, description="null where the farm limits nothing.")
    dropped: dict[str, int] = Field(
        default_factory=dict,
        description="Packets that a setting of the farm has dropped since it is there, by the name of the setting, "
        "such as rate_in; only settings that drop.",
    )
    backends: dict[str, BackendNow]
    sorry_servers: list[SorryServerNow] = []


class Trouble(_Answer):
    """Something that is wrong with the appliance and needs a person."""

    code: str = Field(description="A stable word for programs, such as data-missing.")
    message: str = Field(description="What is wrong and what to do, in a sentence.")


class StateNow(_Answer):
    """Every farm and backend as it is now."""

    time: datetime
    snapshot: int | None = Field(description="The number of the snapshot in force.")
    farms: dict[str, FarmNow]
    troubles: list[Trouble]


class LinkNow(_Answer):
    """A network link as it is now."""

    name: str
    mac: str | None
    up: bool = Field(description="Whether the link has a carrier.")
    addresses: list[str] = Field(description="With prefix length; the link's own and the virtual ones.")


class KernelSetting(_Answer):
    """A setting of the kernel (sysctl) that the appliance relies on."""

    name: str = Field(description="As sysctl(8) has it, such as net.ipv4.ip_forward.")
    value: str | None = Field(description="What it is now; null where the kernel has no such setting.")
    wanted: str = Field(description="What it should be.")
    purpose: str = Field(description="What it is for, in words.")

    @property
    def right(self) -> bool:
        """Whether it is as it should be."""
        return self.value == self.wanted


class SystemNow(_Answer):
    """The appliance as it is now."""

    product: str
    version: str
    hostname: str
    time: datetime
    uptime_s: float
    claimed: bool
    snapshot: int | None
    links: list[LinkNow]
    memory_total: int = Field(description="Bytes.")
    memory_available: int = Field(description="Bytes.")
    load: tuple[float, float, float] = Field(description="Over 1, 5 and 15 minutes.")
    data_total: int | None = Field(description="Size of the data partition in bytes; null without one.")
    data_available: int | None
    conntrack_count: int
    conntrack_max: int
    offload: OffloadKind = Field(
        default="none", description="How packets of established connections pass where the farm does not forbid it."
    )
    offload_reason: str = Field(default="", description="Why not better; empty where nothing is better.")
    kernel_settings: list[KernelSetting] = Field(description="Empty where they are not the appliance's to set.")
    troubles: list[Trouble]
