# SPDX-License-Identifier: GPL-2.0-or-later
"""Which farms' established connections may pass the rules by, and why others may not. The one home of this question."""

from agent.model.farm import Farm
from agent.model.state import OffloadKind

_NEEDS = {
    "allow": "the list of clients that it allows",
    "deny": "the list of clients that it denies",
    "rate_in": "the ceiling for what clients send",
    "rate_out": "the ceiling for what clients get",
    "dscp_in": "marking what clients send",
    "dscp_out": "marking what clients get",
    "traffic_class": "its class of traffic",
}
"""What the fields of `Farm.packet_features` are called here."""


def kept_from_offload(farm: Farm) -> list[str]:
    """Why every packet of the farm has to pass the rules, a clause each; [] where established connections need not.

    A setting that looks at, changes or counts packets of established connections adds its line here. The data plane
    leaves such farms out, and the API and the GUI tell why.
    """
    reasons = []
    if not farm.offload:
        reasons.append("it is switched off for this farm")
    if farm.at_ingress:
        reasons.append(f"with {farm.forwarding}, packets take a shorter way still")
    reasons += [f"{_NEEDS[field]} needs every packet" for field in farm.packet_features()]
    return reasons


def unfit_for_offload(farm: Farm) -> list[str]:
    """Which of the farm's connections a flowtable does not take, a clause each."""
    if "all" in farm.protocols:
        return ["only TCP and UDP can be offloaded, of all the protocols"]
    return ["SCTP cannot be offloaded"] if "sctp" in farm.protocols else []


def offload_of(farm: Farm, kind: OffloadKind, reason: str) -> tuple[OffloadKind, list[str]]:
    """How the farm's established connections pass, and why not better.

    `kind` is the best that the machine does, `reason` why that is not more ("" where nothing is better).
    """
    if not farm.enabled:
        return "none", ["the farm is not enabled"]
    if kept := kept_from_offload(farm):
        return "none", kept
    unfit = unfit_for_offload(farm)
    if not may_offload(farm):
        return "none", unfit
    return kind, [*unfit, *([reason] if reason and kind == "none" else [])]


def may_offload(farm: Farm) -> bool:
    """Whether any connection of the farm can be offloaded."""
    return not kept_from_offload(farm) and farm.protocols != ["sctp"]
