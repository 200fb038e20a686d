# SPDX-License-Identifier: GPL-2.0-or-later
"""`compile FILE`: from a document to what the kernel would hold; pure, on any machine."""

import json
import sys
from typing import Any

from agent.cli.asking import DONE, REFUSED, fault_lines
from agent.cli.command import read_file
from agent.dataplane import Offered, Ruleset, compile_ruleset, script
from agent.model import Configuration, Invalid, digest, parse
from agent.scheduling import roles, weights


def compile_file(name: str, *, as_json: bool) -> int:
    """Print the ruleset of a document, or its faults. Every backend is taken as healthy. Raises CannotRead."""
    try:
        config = parse(read_file(name))
    except Invalid as invalid:
        faults = [(fault.pointer, fault.message) for fault in invalid.faults]
        if as_json:
            print(json.dumps({"errors": [{"pointer": where, "detail": words} for where, words in faults]}, indent=2))
        else:
            print("\n".join(fault_lines(tuple(faults))), file=sys.stderr)
        return REFUSED
    ruleset = ruleset_of(config)
    if as_json:
        print(json.dumps(structure(config, ruleset), indent=2))
    else:
        print(script(ruleset), end="")
    return DONE


def ruleset_of(config: Configuration) -> Ruleset:
    """The ruleset of a document on a machine that knows nothing of the backends' health."""
    known = {name: roles(farm, {}) for name, farm in config.farms.items() if farm.enabled}
    effective = {name: weights(config.farms[name], found) for name, found in known.items()}
    own = [interface.ip for link in config.links.values() for interface in link.addresses]
    near = [(name, None, interface.network) for name, link in config.links.items() for interface in link.addresses]
    # On the appliance these are the links that are there; here nobody knows any but those that the document names.
    offered = Offered(frozenset((name, 0) for name in config.links))
    return compile_ruleset(config, effective, own, roles=known, near=near, offered=offered)


def structure(config: Configuration, ruleset: Ruleset) -> dict[str, Any]:
    """The ruleset as JSON: the elements of each set of `table inet sluice`, and what they give to each backend."""
    sets: dict[str, list[dict[str, str]]] = {}
    for _, elements in ruleset.pieces():
        for name, entries in elements.items():
            sets.setdefault(name, []).extend(
                {"key": key, "value": value, "comment": comment} for key, (value, comment) in entries.items()
            )
    return {
        "digest": digest(config),
        "farms": {
            name: {
                "exact_turn": ruleset.exact_turn(name),
                "shares": {backend: ruleset.share(name, backend) for backend in farm.backends},
            }
            for name, farm in config.farms.items()
            if farm.enabled
        },
        "sets": sets,
        "script": script(ruleset),
    }
