# SPDX-License-Identifier: GPL-2.0-or-later
"""Is each backend well? Checks that run on their own, and their verdicts."""

from agent.health.checker import Checker
from agent.health.probe import Answer, CheckFailed, CheckNotMade, Probe
from agent.health.rise_fall import RiseFall
from agent.health.table import PROBES, probes
from agent.health.target import Target, askers, target_of, targets
from agent.health.verdict import DISABLED, NO_CHECK, Verdict, combine

__all__ = [
    "DISABLED",
    "NO_CHECK",
    "PROBES",
    "Answer",
    "CheckFailed",
    "CheckNotMade",
    "Checker",
    "Probe",
    "RiseFall",
    "Target",
    "Verdict",
    "askers",
    "combine",
    "probes",
    "target_of",
    "targets",
]
