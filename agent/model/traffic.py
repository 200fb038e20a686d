# SPDX-License-Identifier: GPL-2.0-or-later
"""The classes of traffic that a link with a `bandwidth` has: what each is sure of, and who is sent first."""

from dataclasses import dataclass

QUEUES = 0x5150
"""Major number of the queues' handles on every link: `tc class show` tells them as 5150:1, 5150:10, ..."""


@dataclass(frozen=True)
class TrafficQueue:
    """A class of traffic on a link."""

    minor: int
    """Of its handle."""
    sure: int
    """Per cent of the bandwidth that it has whatever others send."""
    most: int
    """Per cent of the bandwidth that it may have while others leave some."""
    rank: int
    """Among those that ask for what is left: 0 goes first."""

    @property
    def handle(self) -> str:
        """Its handle in the notation of tc and nft."""
        return f"{QUEUES:x}:{self.minor:x}"


TRAFFIC_QUEUES = {
    "interactive": TrafficQueue(0x10, 30, 100, 0),
    "normal": TrafficQueue(0x20, 50, 100, 1),
    "bulk": TrafficQueue(0x30, 10, 90, 2),
}
"""By class. `normal` is also where everything goes that is of no farm, such as the GUI and health checks."""


def class_handle(name: str) -> str:
    """The handle of a class of traffic. Raises KeyError."""
    return TRAFFIC_QUEUES[name].handle
