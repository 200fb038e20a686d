# SPDX-License-Identifier: GPL-2.0-or-later
"""How a backend's health is found."""

from typing import Annotated, Literal

from pydantic import Field

from agent.model.part import Part
from agent.model.types import Port

Seconds = Annotated[float, Field(ge=0.1, le=3600, allow_inf_nan=False, json_schema_extra={"unit": "s"})]


class TcpCheck(Part):
    """A backend is well when it accepts a TCP connection in time."""

    type: Literal["tcp"] = Field(default="tcp", title="Type", description="The kind of check.")
    interval: Seconds = Field(default=5.0, title="Interval", description="Time from the start of one try to the next.")
    timeout: Seconds = Field(default=2.0, title="Timeout", description="A try that takes longer has failed.")
    rise: int = Field(
        default=2,
        ge=1,
        le=100,
        title="Rise",
        description="Tries that must succeed in a row to bring a backend back.",
    )
    fall: int = Field(
        default=3,
        ge=1,
        le=100,
        title="Fall",
        description="Tries that must fail in a row to take a backend out.",
    )
    port: Port | None = Field(
        default=None,
        title="Port",
        description="The port to try; by default the backend's, else the farm's first.",
    )
