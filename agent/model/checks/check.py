# SPDX-License-Identifier: GPL-2.0-or-later
"""What all kinds of checks have."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from agent.model.part import Part
from agent.model.types import HostAddress, Port

Seconds = Annotated[float, Field(ge=0.1, le=3600, allow_inf_nan=False, json_schema_extra={"unit": "s"})]


class Check(Part):
    """A way to find out whether a backend is well. Each kind says in `model_config` by which title people know it."""

    type: str
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
    retry_interval: Seconds | None = Field(
        default=None,
        title="Retry interval",
        description="The interval while the last try speaks against the verdict; by default the same.",
    )
    address: HostAddress | None = Field(
        default=None,
        title="Address",
        description="Asked instead of the backend, such as a service that watches it; by default the backend's.",
    )
    invert: bool = Field(
        default=False,
        title="Inverted",
        description="A backend is well when the try fails: for what must not answer.",
    )

    @property
    def silence_is_well(self) -> bool:
        """Whether a backend is well that says nothing until the timeout."""
        return False

    def __hash__(self) -> int:
        """By the pace: some kinds have fields without a hash, and few checks that differ are of one pace."""
        return hash((self.type, self.interval, self.timeout, self.rise, self.fall))

    def faults(self) -> Iterator[tuple[str, str]]:
        """What is wrong with fields that are each well-formed: the field, and what is to be done, in words."""
        if self.timeout > self.interval:
            words = f"{self.timeout:g} s is longer than the interval of {self.interval:g} s"
            yield "timeout", f"{words}; make it at most the interval"
        if self.retry_interval is None:
            return
        if self.retry_interval > self.interval:
            words = f"{self.retry_interval:g} s is longer than the interval of {self.interval:g} s"
            yield "retry_interval", f"{words}; make it shorter, or leave it out"
        elif self.interval >= self.timeout > self.retry_interval:
            words = f"{self.timeout:g} s is longer than the retry interval of {self.retry_interval:g} s"
            yield "timeout", f"{words}; make it at most the retry interval"


class PortCheck(Check):
    """A check by a protocol that has ports."""

    transport: ClassVar[Literal["tcp", "udp"]] = "tcp"
    """Whose ports are meant: a farm that serves it has a port that can be tried by default."""

    port: Port | None = Field(
        default=None,
        title="Port",
        description="The port to try; by default the backend's, else the farm's first.",
    )
