# SPDX-License-Identifier: GPL-2.0-or-later
"""Other weights for a few farms of a ruleset: what health checks and dynamic schedulers decide many times a minute."""

from collections.abc import Mapping
from dataclasses import replace

from agent.dataplane.assignment import Side
from agent.dataplane.compile import Roles, chains_of, compile_side, roles_of, usable
from agent.dataplane.pool import HashPicker, Picker, Pool, fits
from agent.dataplane.ruleset import Part, Ruleset


def reweigh(ruleset: Ruleset, weights: Mapping[str, Mapping[str, int]], roles: Roles | None = None) -> Ruleset:
    """`ruleset` with these effective weights and roles, by farm and backend; farms not in `weights` stay as they are.

    The same as compile_ruleset would make, at a cost that hardly depends on the number of farms. Only: another farm
    that could now have a turn of its own gets it with the next commit. Farms that are not in the ruleset are left out.
    Where `roles` says nothing, an enabled backend that takes nothing has failed, as in compile_ruleset.
    """
    parts: dict[Side, Part] = {}
    pool: Pool | None = None
    chains = ruleset.chains
    for side, part in (pair for farm in sorted(weights) for pair in ruleset.sides(farm)):
        wanted, numbers = usable(side, part.farm, weights[side.farm]), part.numbers
        known = roles_of(side, part.farm, wanted, (roles or {}).get(side.farm, {}))
        if wanted == part.weights and known == part.roles:
            continue
        if wanted and not _keeps(numbers.picker, wanted):
            if pool is None:
                pool = Pool(ruleset.turns())
            numbers = replace(numbers, picker=pool.choose(wanted.values()))
        parts[side] = compile_side(side, part.farm, wanted, known, numbers, reach=part.reach)
    if any(part.chains != ruleset.parts[side].chains for side, part in parts.items()):
        chains = chains_of({**ruleset.parts, **parts}, ruleset.wholes, ruleset.links)
    return ruleset.reweighed(parts, chains) if parts else ruleset


def _keeps(picker: Picker | HashPicker | None, weights: Mapping[str, int]) -> bool:
    return isinstance(picker, HashPicker) or (picker is not None and fits(picker, weights.values()))
