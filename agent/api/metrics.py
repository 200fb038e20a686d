# SPDX-License-Identifier: GPL-2.0-or-later
"""State and system in Prometheus' text format 0.0.4. docs/api.md lists the names; they are kept stable."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from agent.model.state import BackendNow, FarmNow, SorryServerNow, StateNow, SystemNow

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = Mapping[str, str]
Sample = tuple[Labels, float]


@dataclass(frozen=True)
class Family:
    """All samples of one name, with what Prometheus shows about it."""

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    samples: Iterable[Sample]


def render(state: StateNow, system: SystemNow) -> str:
    """The text that a scrape gets."""
    lines: list[str] = []
    for family in (*_system(state, system), *_farms(state.farms), *_backends(state.farms)):
        lines += [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"]
        lines += [f"{family.name}{_labels(labels)} {_number(value)}" for labels, value in family.samples]
    return "\n".join(lines) + "\n"


def _system(state: StateNow, system: SystemNow) -> Iterator[Family]:
    def one(name: str, text: str, value: float | None) -> Family:
        return Family(name, "gauge", text, [] if value is None else [({}, value)])

    info = {"version": system.version, "hostname": system.hostname}
    yield Family("sluice_info", "gauge", "The appliance's software version and host name.", [(info, 1)])
    yield one("sluice_snapshot", "Number of the snapshot in force.", state.snapshot)
    yield one("sluice_uptime_seconds", "Time since the appliance started.", system.uptime_s)
    yield one("sluice_memory_total_bytes", "Memory in all.", system.memory_total)
    yield one("sluice_memory_available_bytes", "Memory that is available.", system.memory_available)
    yield one("sluice_data_total_bytes", "Size of the data partition; absent without one.", system.data_total)
    yield one(
        "sluice_data_available_bytes", "Free space of the data partition; absent without one.", system.data_available
    )
    yield one("sluice_conntrack_entries", "Connections that the kernel tracks.", system.conntrack_count)
    yield one("sluice_conntrack_limit", "Connections that the kernel can track.", system.conntrack_max)
    loads = zip(("1", "5", "15"), system.load, strict=True)
    yield Family("sluice_load", "gauge", "Load average.", [({"minutes": minutes}, load) for minutes, load in loads])
    codes = sorted({trouble.code for trouble in (*system.troubles, *state.troubles)})
    text = "Something is wrong with the appliance and needs a person."
    yield Family("sluice_trouble", "gauge", text, [({"code": code}, 1) for code in codes])
    links = [({"link": link.name}, float(link.up)) for link in system.links]
    yield Family("sluice_link_up", "gauge", "Whether the link has a carrier.", links)


def _farms(farms: Mapping[str, FarmNow]) -> Iterator[Family]:
    enabled = [({"farm": name}, farm) for name, farm in farms.items() if farm.status != "disabled"]
    everyone = [({"farm": name}, farm) for name, farm in farms.items()]
    yield Family(
        "sluice_farm_up",
        "gauge",
        "Whether a backend takes connections; absent for a farm that is not enabled.",
        [(labels, float(farm.status != "down")) for labels, farm in enabled],
    )
    yield Family(
        "sluice_farm_degraded",
        "gauge",
        "Whether a backend is out or full, or a backup tier takes connections; absent for a farm that is not enabled.",
        [(labels, float(farm.status != "up")) for labels, farm in enabled],
    )
    yield from _traffic("sluice_farm", "farm", everyone)
    limits = [
        ({**labels, "limit": limit}, count)
        for labels, farm in everyone
        for limit, count in (farm.turned_away.model_dump().items() if farm.turned_away else ())
    ]
    yield Family(
        "sluice_farm_turned_away_total",
        "counter",
        "What a limit of the farm turned away; absent for a farm that limits nothing.",
        limits,
    )
    yield Family(
        "sluice_farm_dropped_packets_total",
        "counter",
        "Packets that a setting of the farm dropped; absent for settings that it has not.",
        [({**labels, "setting": name}, number) for labels, farm in everyone for name, number in farm.dropped.items()],
    )
    sorry = [
        ({"farm": name, "family": "6" if ":" in server.address else "4"}, server)
        for name, farm in farms.items()
        for server in farm.sorry_servers
    ]
    yield Family(
        "sluice_sorry_server_answers",
        "gauge",
        "Whether clients of an IP family get the farm's sorry server; absent where there is none.",
        [(labels, float(server.answers)) for labels, server in sorry],
    )
    yield from _traffic("sluice_sorry_server", "sorry server", sorry)


def _backends(farms: Mapping[str, FarmNow]) -> Iterator[Family]:
    everyone = [
        ({"farm": farm_name, "backend": name}, backend)
        for farm_name, farm in farms.items()
        for name, backend in farm.backends.items()
    ]
    yield Family(
        "sluice_backend_healthy",
        "gauge",
        "The verdict of the checks; absent while there is none.",
        [(labels, float(backend.health == "healthy")) for labels, backend in everyone if backend.health != "unknown"],
    )
    yield Family(
        "sluice_backend_weight",
        "gauge",
        "Effective weight; 0 takes no new connections.",
        [(labels, backend.weight) for labels, backend in everyone],
    )
    yield Family(
        "sluice_backend_share",
        "gauge",
        "Part of the farm's new connections, 0 to 1.",
        [(labels, backend.share) for labels, backend in everyone],
    )
    yield Family(
        "sluice_backend_latency_seconds",
        "gauge",
        "Duration of the last successful check.",
        [(labels, backend.latency_ms / 1000) for labels, backend in everyone if backend.latency_ms is not None],
    )
    yield from _traffic("sluice_backend", "backend", everyone)


def _traffic(
    prefix: str, noun: str, entries: Sequence[tuple[Mapping[str, str], FarmNow | BackendNow | SorryServerNow]]
) -> Iterator[Family]:
    yield Family(
        f"{prefix}_connections_active",
        "gauge",
        f"Connections of the {noun} that are open.",
        [(labels, entry.traffic.active) for labels, entry in entries],
    )
    yield Family(
        f"{prefix}_connections_total",
        "counter",
        f"Connections of the {noun} that were opened.",
        [(labels, entry.traffic.new) for labels, entry in entries],
    )
    both = [
        ({**labels, "direction": direction}, value)
        for labels, entry in entries
        for direction, value in (("in", entry.traffic.bytes_in), ("out", entry.traffic.bytes_out))
    ]
    yield Family(f"{prefix}_bytes_total", "counter", f"Bytes of the {noun}: in from clients, out to clients.", both)


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items()) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
