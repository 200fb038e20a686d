# SPDX-License-Identifier: GPL-2.0-or-later
"""Settings of a farm that do nothing as the rest of the document is: no faults, since that may be on purpose."""

from collections.abc import Iterable

from agent.model.document import Link
from agent.model.farm import Farm


def without_effect(farm: Farm, links: Iterable[Link]) -> list[str]:
    """Which settings of the farm do nothing with these links, and why, a clause each."""
    if farm.traffic_class != "normal" and not any(link.bandwidth for link in links):
        return [f"its class of traffic, {farm.traffic_class}, does nothing: no link has a bandwidth"]
    return []
