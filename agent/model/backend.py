# SPDX-License-Identifier: GPL-2.0-or-later
"""The servers of a farm: backends, and who answers while none of them does."""

from typing import Literal

from pydantic import Field

from agent.model.part import Part
from agent.model.types import HostAddress, Port

BackendState = Literal["enabled", "drain", "disabled"]


class Backend(Part):
    """A server that a farm sends connections to."""

    address: HostAddress = Field(title="Address", description="The server's IP address.")
    port: Port | None = Field(
        default=None,
        title="Port",
        description="The server's port; by default the port that the client asked for.",
    )
    weight: int = Field(
        default=1,
        ge=1,
        le=256,
        title="Weight",
        description="Its share among the farm's backends; used by `weighted` and `source-hash`.",
    )
    tier: int = Field(
        default=1,
        ge=1,
        le=8,
        title="Tier",
        description="Backends of a higher tier stand by until those below are too few.",
    )
    max_connections: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        title="Most connections",
        description="With so many open it takes no new ones: they go to others; by default it takes all that come.",
    )
    state: BackendState = Field(
        default="enabled",
        title="State",
        description="`enabled` takes connections; `drain` finishes those it has and takes no new ones; "
        "`disabled` takes nothing, is not checked, and the connections that it has are cut at once.",
    )


class SorryServer(Part):
    """A server that answers a farm's clients while no backend of its IP family takes connections; never checked."""

    address: HostAddress = Field(title="Address", description="The server's IP address.")
    port: Port | None = Field(
        default=None,
        title="Port",
        description="The server's port; by default the port that the client asked for.",
    )
