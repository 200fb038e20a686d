# SPDX-License-Identifier: GPL-2.0-or-later
"""What is known of a target or a backend."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from agent.model.state import Health


@dataclass(frozen=True)
class Verdict:
    """Is it well, and why."""

    health: Health
    reason: str
    """In words: how it answers, or what failed."""
    since: datetime | None = None
    """When the health became what it is (UTC); None while nothing was decided."""
    latency_ms: float | None = None
    """Of the last successful try, in milliseconds."""


NO_CHECK = Verdict("unknown", "no check is set up")
"""The verdict on a backend that nobody asks."""

DISABLED = Verdict("unknown", "disabled, so it is not checked")
"""The verdict on a backend that is disabled: whatever was known of it is forgotten."""


def combine(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on a backend from those of all its checks.

    It is unhealthy when one check says so, healthy when all do, unknown else. Reasons are those of the checks that
    decide; `since` is the moment from which this holds; the latency is that of the slowest.
    """
    if not verdicts:
        return NO_CHECK
    unhealthy = [verdict for verdict in verdicts if verdict.health == "unhealthy"]
    unknown = [verdict for verdict in verdicts if verdict.health == "unknown"]
    deciding = unhealthy or unknown or list(verdicts)
    times = [verdict.since for verdict in deciding if verdict.since is not None]
    latencies = [verdict.latency_ms for verdict in verdicts if verdict.latency_ms is not None]
    return Verdict(
        health=deciding[0].health,
        reason="; ".join(dict.fromkeys(verdict.reason for verdict in deciding)),
        # One failed check is enough to be unhealthy, all must have succeeded to be healthy.
        since=(min if unhealthy else max)(times) if times else None,
        latency_ms=max(latencies) if latencies else None,
    )
