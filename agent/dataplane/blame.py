# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose is what the kernel refuses, where the command was about no single farm: chains, sets, maps, lists. Pure.

It is asked only then, and may take long: each farm is asked for all that it wants.
"""

from agent.dataplane.compile import chains_of
from agent.dataplane.layout import is_network_set
from agent.dataplane.limits import meters_of
from agent.dataplane.persistence import own_maps
from agent.dataplane.refusal import KernelRefused
from agent.dataplane.ruleset import Ruleset
from agent.dataplane.script import INGRESS_MAPS, OFFLOAD, Command
from agent.dataplane.tables import INGRESS_CHAINS, IngressChain
from agent.model import Farm

_FIELDS = (
    ("hash", ("scheduler",)),
    ("persist", ("persistence",)),
    ("sticky", ("persistence_size",)),
    ("limit", ("limit_rate", "limit_connections", "strict_tcp", "log_prefix")),
    ("rate", ("limit_rate",)),
    ("count", ("limit_connections",)),
    ("reset", ("limit_resets",)),
    ("away", ("log_prefix",)),
    ("log_", ("log_prefix",)),
    ("quality", ("rate_in", "rate_out", "dscp_in", "dscp_out", "traffic_class")),
    ("grade", ("rate_in", "rate_out", "dscp_in", "dscp_out", "traffic_class")),
    ("dscp", ("dscp_in", "dscp_out")),
    ("pool", ("source_pool",)),
    ("screen", ("allow", "deny")),
    ("sift", ("allow", "deny")),
    ("sieve", ("allow", "deny")),
    ("aborts", ("protocols",)),
)
"""The fields of a farm that what has a name with this beginning may come from."""
_AT_INGRESS = (
    ("life", ("flow_timeout", "flow_timeout_udp")),
    ("persist", ("persistence",)),
    ("in_sticky", ("persistence_size",)),
)


def blamed(refusal: KernelRefused, ruleset: Ruleset) -> KernelRefused:
    """The refusal of `ruleset` with the farm and field, or the network list, that wants what was refused.

    The same where that was told already, or can't be.
    """
    command = refusal.command
    if command is None or command.farm is not None:
        return refusal
    if command.set_name == OFFLOAD:
        return KernelRefused(f"the flowtable that farms with `offload` share: {refusal.message}", command=command)
    names = command.elements.keys() if command.structural else {command.set_name}
    listed = next((name for name in names if is_network_set(name)), None)
    if listed:
        return KernelRefused(refusal.message, network_list=listed.partition("_")[2], command=command)
    if not command.structural:
        return KernelRefused(f"{refusal.message} (in {command.set_name})", command=command)
    farm, field = _wanting(ruleset, command)
    return KernelRefused(refusal.message, farm, field, command=command)


def _wanting(ruleset: Ruleset, command: Command) -> tuple[str, str] | tuple[None, None]:
    """The first farm, by name, that wants what the command makes, and by which field; none wants what goes."""
    (name,) = command.elements
    for side in sorted(ruleset.parts, key=str):
        part = ruleset.parts[side]
        wholes = {farm: whole for farm, whole in ruleset.wholes.items() if farm == side.farm}
        # Both tables may have chains of one name.
        here = command.set_name in (INGRESS_CHAINS, INGRESS_MAPS)
        wanted = chains_of({side: part}, wholes, ruleset.links)
        chains = {each for each in wanted if isinstance(each, IngressChain) == here}
        if name in {each.name for each in (*chains, *meters_of(chains), *own_maps(chains))}:
            return side.farm, _field(part.farm, command.set_name, name)
    return None, None


def _field(farm: Farm, set_name: str, name: str) -> str:
    """The field that a farm wants this for: of those that may be, the first that is not as it is by default."""
    known = _AT_INGRESS if set_name in (INGRESS_CHAINS, INGRESS_MAPS) else _FIELDS
    fields = next((fields for beginning, fields in known if name.startswith(beginning)), ("forwarding",))
    return next((each for each in fields if getattr(farm, each) != _default(each)), fields[0])


def _default(field: str) -> object:
    return Farm.model_fields[field].get_default(call_default_factory=True)
