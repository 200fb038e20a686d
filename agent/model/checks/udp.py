# SPDX-License-Identifier: GPL-2.0-or-later
"""The UDP check."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import ConfigDict, Field

from agent.model.checks.pattern import BytesPattern
from agent.model.checks.send import SendCheck


class UdpCheck(SendCheck):
    """A backend is well when it answers a datagram, or at least does not refuse it."""

    model_config = ConfigDict(title="UDP datagram")
    transport: ClassVar[Literal["tcp", "udp"]] = "udp"

    type: Literal["udp"] = Field(title="Type", description="The kind of check.")
    answer: Literal["required", "optional"] = Field(
        default="required",
        title="Answer",
        description="`required`: who does not answer in time has failed. `optional`: silence is well, too; only who "
        "refuses the datagram has failed.",
    )
    expect: BytesPattern | None = Field(
        default=None,
        title="Expected answer",
        description="A regular expression (RE2, of bytes) that is to be found in the answer; by default any answer is "
        "well.",
    )

    @property
    def silence_is_well(self) -> bool:
        """Where no answer is needed."""
        return self.answer == "optional"

    def faults(self) -> Iterator[tuple[str, str]]:
        """What is wrong between the answer's fields, besides what can be wrong with what is sent."""
        yield from super().faults()
        if self.answer == "optional" and self.expect is not None:
            yield "expect", "has no use where no answer is needed; leave it out, or make `answer` `required`"
