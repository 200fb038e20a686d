# SPDX-License-Identifier: GPL-2.0-or-later
"""`sluice status`: the appliance and its farms as they are now, as API and GUI tell them."""

import argparse
from collections.abc import Iterator
from typing import Any

from agent.cli.text import count, duration, moment, plain, scalar, size, table
from agent.client.connection import Connection

_STANDING = {"standby": "standby", "full": "full", "draining": "drain", "drained": "drained", "disabled": "disabled"}
"""What is told of a backend in its role instead of its health."""
_OFFLOADED = {"hardware": "offloaded to the network cards", "software": "offloaded", "none": "not offloaded"}


def status(arguments: argparse.Namespace, agent: Connection) -> Any:
    """Ask for the appliance and the farms."""
    del arguments
    return {"system": agent.request("GET", "/system").json(), "state": agent.request("GET", "/state").json()}


def show_status(arguments: argparse.Namespace, content: Any) -> Iterator[str]:
    """Farm by farm, and what is wrong."""
    del arguments
    system, state = content["system"], content["state"]
    yield plain(f"{system['product']} {system['version']} on {system['hostname']}, up {duration(system['uptime_s'])}")
    yield f"Snapshot {scalar(state['snapshot'])} is in force."
    yield from map(plain, _appliance(system))
    if not state["farms"]:
        yield "There are no farms."
    for name, farm in sorted(state["farms"].items()):
        yield ""
        yield from _farm(name, farm)
    troubles = {(trouble["code"], trouble["message"]) for trouble in [*system["troubles"], *state["troubles"]]}
    if troubles:
        yield ""
    for _, message in sorted(troubles):
        yield plain(f"! {message}")


def _appliance(system: Any) -> Iterator[str]:
    used = system["memory_total"] - system["memory_available"]
    load = " ".join(f"{each:.2f}" for each in system["load"])
    yield f"Memory: {size(used)} of {size(system['memory_total'])} used; load: {load}."
    if system["data_total"]:
        full = system["data_total"] - (system["data_available"] or 0)
        yield f"Data partition: {size(full)} of {size(system['data_total'])} used."
    yield f"Tracked connections: {count(system['conntrack_count'])} of {count(system['conntrack_max'])}."
    for link in system["links"]:
        addresses = ", ".join(link["addresses"]) or "no address"
        yield f"Link {link['name']}: {'up' if link['up'] else 'no carrier'}, {addresses}."


def _farm(name: str, farm: Any) -> Iterator[str]:
    where = ", ".join(farm["addresses"])
    what = "/".join(farm["protocols"]) + " " + ", ".join(map(str, farm["ports"]))
    yield plain(f"{name}: {farm['status']}, {where}, {what}, {farm['scheduler']}, {farm['forwarding']}")
    yield from _backends(farm)
    for sorry in farm["sorry_servers"]:
        if sorry["answers"] or sorry["traffic"]["active"]:
            where = sorry["address"] if sorry["port"] is None else _endpoint(sorry["address"], sorry["port"])
            said = "answers, since no backend takes connections" if sorry["answers"] else "finishes what it has"
            yield f"  sorry server {where} {said}; active: {count(sorry['traffic']['active'])}"
    if any((farm["turned_away"] or {}).values()):
        counts = ", ".join(f"{limit} {count(number)}" for limit, number in farm["turned_away"].items())
        yield f"  turned away by limits: {counts}"
    if farm["dropped"]:
        yield "  dropped packets: " + ", ".join(f"{name} {count(number)}" for name, number in farm["dropped"].items())
    if farm["status"] != "disabled":
        reasons = "; ".join(farm["offload_reasons"])
        yield plain(f"  {_OFFLOADED[farm['offload']]}{': ' if reasons else ''}{reasons}")
    if farm["status"] in ("up", "degraded") and not farm["exact_turn"]:
        yield "  its turn is shared with other farms: even on average, not exactly one after the other"
    yield from (plain(f"  {words}") for words in farm["without_effect"])


def _backends(farm: Any) -> Iterator[str]:
    head = ("backend", "address", "health", "weight", "share", "active", "new", "in", "out", "ms", "reason")
    rows = [
        (
            name,
            backend["address"] if backend["port"] is None else _endpoint(backend["address"], backend["port"]),
            "starting" if backend["ramp"] else _STANDING.get(backend["role"], backend["health"]),
            backend["weight"],
            f"{backend['share']:.1%}",
            count(backend["traffic"]["active"]),
            count(backend["traffic"]["new"]),
            size(backend["traffic"]["bytes_in"]),
            size(backend["traffic"]["bytes_out"]),
            "" if backend["latency_ms"] is None else f"{backend['latency_ms']:.1f}",
            _reason(backend),
        )
        for name, backend in sorted(farm["backends"].items())
    ]
    if rows:
        yield from ("  " + line for line in table(head, rows, right=(3, 4, 5, 6, 7, 8, 9)).splitlines())
    else:
        yield "  no backends"


def _reason(backend: Any) -> str:
    if backend["ramp"]:
        return f"starts slowly, {backend['ramp']:.0%} of its weight"
    if backend["role"] == "full" and backend["max_connections"]:
        return f"has the {count(backend['max_connections'])} connections that it may have"
    if backend["role"] == "draining" and backend["drain_ends"]:
        return f"what is left at {moment(backend['drain_ends'])} UTC is cut"
    since = f" since {moment(backend['since'])}" if backend["health"] == "unhealthy" and backend["since"] else ""
    return f"{backend['reason']}{since}"


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
