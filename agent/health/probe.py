# SPDX-License-Identifier: GPL-2.0-or-later
"""What every type of check does, and how it says that it failed."""

import errno
from dataclasses import dataclass
from typing import Protocol

from agent.health.target import Target

_WORDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EHOSTUNREACH: "no route to host",
    errno.EHOSTDOWN: "host is down",
    errno.ENETUNREACH: "network is unreachable",
    errno.ENETDOWN: "network is down",
    errno.ETIMEDOUT: "no answer",
    errno.EACCES: "forbidden by a rule of this appliance",
    errno.EPERM: "forbidden by a rule of this appliance",
    errno.ENOPROTOOPT: "refused by a router or firewall",
    errno.EPROTO: "refused by a router or firewall",
}
_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


class CheckFailed(Exception):
    """The try failed. The text is the reason, in words for an administrator: "connection refused"."""


class CheckNotMade(Exception):
    """The try could not be made for want of something of our own, such as file descriptors.

    It says nothing of the target.
    """


@dataclass(frozen=True)
class Answer:
    """The try succeeded."""

    latency: float | None
    """In seconds; None where silence is a success, too, and it was silent."""
    words: str = ""
    """What is to be said of the answer, or of the silence, in the reason, such as "status 200"."""
    warning: bool = False
    """Whether the words are a reason to do something soon."""


class Probe(Protocol):
    """A type of check: one try."""

    type: str
    """The word that a check's `type` names it by."""

    def label(self, target: Target) -> str:
        """What is asked, in a few words that start a reason: "TCP port 80"."""

    async def probe(self, target: Target) -> Answer:
        """Try once.

        Raises CheckFailed or CheckNotMade. The caller cancels it when the check's timeout is over, so nothing of it
        may block or outlive the cancellation.
        """


def failure(error: OSError) -> CheckFailed | CheckNotMade:
    """What an error of a socket means."""
    number = error.errno or 0
    if number in _OURS:
        return CheckNotMade(error.strerror or str(error))
    return CheckFailed(_WORDS.get(number) or (error.strerror or str(error)).lower())
