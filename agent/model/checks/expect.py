# SPDX-License-Identifier: GPL-2.0-or-later
"""The check that sends and expects."""

from typing import Literal

from pydantic import ConfigDict, Field

from agent.model.checks.pattern import BytesPattern
from agent.model.checks.send import SendCheck


class ExpectCheck(SendCheck):
    """A backend is well when it says on a TCP connection what is expected."""

    model_config = ConfigDict(title="TCP dialogue")

    type: Literal["expect"] = Field(title="Type", description="The kind of check.")
    banner: BytesPattern | None = Field(
        default=None,
        title="Banner",
        description="A regular expression (RE2, of bytes) that is waited for before anything is sent; by default "
        "nothing is.",
    )
    expect: BytesPattern = Field(
        title="Expected answer",
        description="A regular expression (RE2, of bytes) that is to be found in the first 4096 bytes of what "
        "then comes.",
    )
