# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration document, version 1.

Titles, descriptions, units and ranges stand here and in `farm` once: the API's schema, the GUI's forms and the
reference in `docs/` are made from them.
"""

from typing import Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from agent.model.farm import Farm
from agent.model.network_list import NetworkList
from agent.model.part import Part
from agent.model.types import Address, Bandwidth, HostAddress, Hostname, InterfaceAddress, LinkName, Name

VERSION = 1


class System(Part):
    """The appliance itself."""

    hostname: Hostname = Field(
        default="sluice",
        title="Host name",
        description="The appliance's name: lower-case letters, digits, hyphens, dots.",
    )


class Link(Part):
    """How a network link gets its addresses."""

    dhcp: bool = Field(
        default=False,
        title="DHCP",
        description="Ask a DHCP server for an IPv4 address, and accept IPv6 router advertisements.",
    )
    addresses: list[InterfaceAddress] = Field(
        default_factory=list,
        max_length=64,
        title="Addresses",
        description="The link's own addresses with their prefix length, such as 192.0.2.1/24.",
    )
    gateways: list[HostAddress] = Field(
        default_factory=list,
        max_length=2,
        title="Default gateways",
        description="At most one for each IP family; each in a network of this link.",
    )
    bandwidth: Bandwidth | None = Field(
        default=None,
        title="Bandwidth",
        description="What the appliance sends by this link at most, a little less than the line takes: then packets "
        "wait in the appliance, where farms have classes of traffic. By default nothing is held back.",
        json_schema_extra={"unit": "bit/s"},
    )


class Configuration(Part):
    """Everything an administrator means; the unit that is validated, committed and rolled back."""

    version: Literal[1] = Field(default=1, title="Version", description="Version of the document's schema.")
    system: System = Field(default_factory=System, title="System")
    links: dict[LinkName, Link] = Field(
        default_factory=dict,
        max_length=64,
        title="Links",
        description="Network links by the kernel's name. Without any, the first Ethernet link uses DHCP.",
    )
    network_lists: dict[Name, NetworkList] = Field(
        default_factory=dict,
        max_length=64,
        title="Network lists",
        description="Networks by the name of their list, for farms to allow or deny.",
    )
    farms: dict[Name, Farm] = Field(
        default_factory=dict, max_length=10_000, title="Farms", description="Balanced services by name."
    )

    @field_validator("version", mode="before")
    @classmethod
    def _a_whole_number(cls, value: object) -> object:
        # True and 1.0 equal 1, and would stand in the canonical form as what they are.
        if type(value) is not int:
            raise PydanticCustomError("version", "must be the whole number 1")
        return value

    def virtual_addresses(self) -> set[Address]:
        """Every virtual address of an enabled farm."""
        return {address for farm in self.farms.values() if farm.enabled for address in farm.addresses}

    def pooled_addresses(self) -> set[Address]:
        """Every address that an enabled farm has in its source pool."""
        pools = (farm.source_pool for farm in self.farms.values() if farm.enabled and farm.source_pool)
        return {address for pool in pools for each in pool for address in each}

    def held_addresses(self) -> set[Address]:
        """Every address that the appliance is to answer for, beside those of its links."""
        return self.virtual_addresses() | self.pooled_addresses()
