# SPDX-License-Identifier: GPL-2.0-or-later
"""The client of the agent's API, for the GUI, the CLI and the console.

`Client` has a method for each endpoint. It is imported when first asked for: the CLI's everyday commands use
`Connection`, which does without the model and so starts in a fraction of the time.
"""

from typing import TYPE_CHECKING, Any

from agent.client.connection import DEFAULT_SOCKET, AgentDown, Answer, Connection, Problem

if TYPE_CHECKING:
    from agent.client.typed import Client, CurrentConfiguration, CurrentFarm, CurrentFarms

__all__ = [
    "DEFAULT_SOCKET",
    "AgentDown",
    "Answer",
    "Client",
    "Connection",
    "CurrentConfiguration",
    "CurrentFarm",
    "CurrentFarms",
    "Problem",
]

_TYPED = {"Client", "CurrentConfiguration", "CurrentFarm", "CurrentFarms"}


def __getattr__(name: str) -> Any:
    if name in _TYPED:
        from agent.client import typed  # noqa: PLC0415  see above

        return getattr(typed, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
