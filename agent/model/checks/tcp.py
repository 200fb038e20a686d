# SPDX-License-Identifier: GPL-2.0-or-later
"""The TCP check."""

from typing import Literal

from pydantic import ConfigDict, Field

from agent.model.checks.check import PortCheck


class TcpCheck(PortCheck):
    """A backend is well when it accepts a TCP connection in time."""

    model_config = ConfigDict(title="TCP connection")

    type: Literal["tcp"] = Field(default="tcp", title="Type", description="The kind of check.")
