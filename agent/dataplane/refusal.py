# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel or libnftables does not take, in the document's terms: which farm, which field. Pure."""

import re
from collections.abc import Sequence

from agent.dataplane.ruleset import Ruleset
from agent.dataplane.script import Command

FIELDS = {
    "services": "addresses", "ranges": "ports", "whole": "addresses",
    "pickers": "scheduler", "choosers": "scheduler", "buckets": "scheduler", "shared": "scheduler",
    "backends": "backends", "hosts": "backends", "masqueraded": "forwarding", "pooled": "source_pool",
    "static": "persistence_static", "usable": "persistence", "keys": "persistence", "slow": "offload",
    "admitted": "limit_rate", "over_rate": "limit_rate", "over_connections": "limit_connections",
    "over_resets": "limit_resets", "resetters": "limit_resets", "not_syn": "strict_tcp",
    **{f"log_{line}": "log_prefix" for line in ("new", "rate", "connections", "strict", "resets")},
    "graded": "backends", "ceilings": "rate_in", "classes": "traffic_class", "markings": "dscp_in",
    "screen_services": "addresses", "screen_ranges": "ports", "screen_whole": "addresses",
    "sieves": "allow", "unlisted": "allow", "denied": "deny",
    "hops": "backends", "exits": "backends", "waiting": "backends", "begun": "backends", "lives": "flow_timeout",
    "leaving": "backends", "targets": "backends", "ported": "backends", "target_ports": "backends", "ways": "backends",
    "replies": "backends", "origins": "addresses", "origin_ports": "ports",
}  # fmt: skip
"""The field of a farm that its elements in a set come from; the names of sets without family and `in_`."""
_PLACE = re.compile(r"^[^:\n]*:(\d+):\d+(?:-\d+)?: Error: (.*)$", re.MULTILINE)


class KernelRefused(Exception):
    """The kernel (or libnftables) does not take a ruleset; nothing has changed.

    `message` is the kernel's reason in one line, `farm` the farm it concerns and `field` the field of it, or
    `network_list` the list, each None where it cannot be told; `command` is what was refused, if it was one command.
    """

    def __init__(
        self,
        message: str,
        farm: str | None = None,
        field: str | None = None,
        *,
        network_list: str | None = None,
        command: Command | None = None,
    ) -> None:
        self.message = message
        self.farm = farm
        self.field = field
        self.network_list = network_list
        self.command = command
        whose = f"farm {farm}: " if farm else f"network list {network_list}: " if network_list else ""
        super().__init__(f"{whose}{message}")


def refused(reason: str, command: Command | None) -> KernelRefused:
    """The refusal of a command, with its farm and the field that the command comes from."""
    if command is None or command.farm is None:
        return KernelRefused(reason, command=command)
    field = FIELDS.get(plain(command.set_name))
    if field and field.endswith("_in") and all(key.endswith(" . reply") for key in command.elements):
        field = field.removesuffix("in") + "out"
    return KernelRefused(reason, command.farm, field, command=command)


def plain(set_name: str) -> str:
    """The name of a set without what tells its table and IP family."""
    return set_name.removeprefix("in_").rstrip("46")


def refusal(error: str, commands: Sequence[Command], before: int) -> KernelRefused:
    """What libnftables said of `before` lines and these commands, with the farm whose line it points at."""
    match = _PLACE.search(error)
    if not match:
        return KernelRefused(first_line(error))
    line = int(match.group(1)) - before
    return refused(match.group(2).strip(), commands[line - 1] if 1 <= line <= len(commands) else None)


def first_line(error: str) -> str:
    """The first line of an error that says anything."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return lines[0] if lines else "no reason was given"


def untunnelled(ruleset: Ruleset, address: str, reason: str) -> KernelRefused:
    """The refusal of a tunnel to `address`, with the farm that wants it."""
    wanting = (
        side.farm
        for side, part in ruleset.parts.items()
        if part.farm.forwarding == "tunnel" and any(key[1] == address for key in part.numbers.backends)
    )
    return KernelRefused(f"no tunnel to {address} can be made: {reason}", min(wanting, default=None), "backends")
