# SPDX-License-Identifier: GPL-2.0-or-later
"""The edge to the kernel: libnftables in, JSON and ctnetlink out."""

from collections.abc import Iterable
from dataclasses import dataclass

from agent.dataplane.ruleset import Assignment, Ruleset


class KernelRefused(Exception):
    """The kernel (or libnftables) does not take a ruleset; nothing has changed.

    `message` is the kernel's reason in one line, `farm` the farm it concerns and `field` the field of it ("addresses"
    or "backends"), each None where it cannot be told.
    """

    def __init__(self, message: str, farm: str | None = None, field: str | None = None) -> None:
        self.message = message
        self.farm = farm
        self.field = field
        super().__init__(message if farm is None else f"farm {farm}: {message}")


@dataclass(frozen=True)
class Counters:
    """What the kernel counted for a backend since it is in the kernel. Bytes with IP headers; in = from clients."""

    new: int = 0
    packets_in: int = 0
    bytes_in: int = 0
    packets_out: int = 0
    bytes_out: int = 0


class Kernel:
    """`table inet sluice` of the network namespace that the first call was made in.

    Every method blocks and may be called from any thread, one at a time: run them in one worker thread. Missing
    libraries or rights show as KernelRefused (check, apply) or OSError.
    """

    def adopt(self) -> Assignment | None:
        """Read what the kernel holds from an earlier run, to go on with it. None: nothing of ours that can be used.

        Call it once at start and hand the result to compile_ruleset: marks, turns and counters then go on.
        """
        raise NotImplementedError

    def check(self, ruleset: Ruleset) -> None:
        """Ask the kernel whether it would take the change to `ruleset`; changes nothing. Raises KernelRefused."""
        raise NotImplementedError

    def apply(self, ruleset: Ruleset) -> None:
        """Make the kernel hold `ruleset`, in one transaction, or raise KernelRefused and leave all as it was.

        UDP flows of backends that left, or that are enabled but take nothing any more, are forgotten right after it:
        their clients are balanced anew.
        """
        raise NotImplementedError

    def transaction(self, ruleset: Ruleset) -> str:
        """The text that apply would send: the difference to what the kernel holds now. Empty: nothing to do."""
        raise NotImplementedError

    def counters(self) -> dict[tuple[str, str], Counters]:
        """The counters of every backend of the applied ruleset, by (farm, backend)."""
        raise NotImplementedError

    def active(self) -> dict[tuple[str, str], int]:
        """Connections that are open now (UDP: flows), by (farm, backend); backends without any may be missing."""
        raise NotImplementedError

    def forget_udp(self, backends: Iterable[tuple[str, str]]) -> int:
        """Remove the UDP flows of these (farm, backend) from connection tracking; the number removed."""
        raise NotImplementedError
