# SPDX-License-Identifier: GPL-2.0-or-later
"""The ICMP check."""

from typing import Literal

from pydantic import ConfigDict, Field

from agent.model.checks.check import Check


class IcmpCheck(Check):
    """A backend is well when it answers an ICMP or ICMPv6 echo request (ping) in time."""

    model_config = ConfigDict(title="ICMP echo")

    type: Literal["icmp"] = Field(title="Type", description="The kind of check.")
