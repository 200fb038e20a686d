# SPDX-License-Identifier: GPL-2.0-or-later
"""Named lists of networks, which farms allow or deny."""

from functools import cached_property

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from agent.model.part import Part
from agent.model.types import Network, NetworkAddress

MAX_NETWORKS = 10_000
"""Networks of a list."""


class NetworkList(Part):
    """Networks under a name, for any number of farms. IPv4 and IPv6 may stand together."""

    description: str = Field(
        default="", max_length=200, title="Description", description="What the list is for; one line."
    )
    networks: list[NetworkAddress] = Field(
        default_factory=list,
        max_length=MAX_NETWORKS,
        title="Networks",
        description="Networks such as 192.0.2.0/24 or 2001:db8::/32, and single addresses. One that stands twice, or "
        "is a part of another, changes nothing.",
    )

    @field_validator("description")
    @classmethod
    def _one_line(cls, value: str) -> str:
        if not value.isprintable():
            raise PydanticCustomError("line", "has control characters; write it on one line of plain text")
        return value

    @cached_property
    def ranges(self) -> tuple[Network, ...]:
        """The networks without those that are a part of another, IPv4 first, by address."""
        found: list[Network] = []
        family, reached = 0, -1
        for version, first, length, network in sorted(_placed(each) for each in set(self.networks)):
            if version != family or first > reached:
                found.append(network)
                family, reached = version, first + (1 << network.max_prefixlen - length) - 1
        return tuple(found)


def _placed(network: Network) -> tuple[int, int, int, Network]:
    return network.version, int(network.network_address), network.prefixlen, network
