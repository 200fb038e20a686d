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
    head = ("backend", "address", "health", "weight", "share", "active", "new", "in", "out", "reason")
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
            _reason(backend),
        )
        for name, backend in sorted(farm["backends"].items())
    ]
    if rows:
        yield from ("  " + line for line in table(head, rows, right=(3, 4, 5, 6, 7, 8)).splitlines())
    else:
        yield "  no backends"


def _reason(backend: Any) -> str:
    if backend["ramp"]:
        return f"starts slowly, {backend['ramp']:.0%} of its weight"
    if backend["role"] != "draining" or not backend["drain_ends"]:
        return str(backend["reason"])
    return f"what is left at {moment(backend['drain_ends'])} UTC is cut"


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
