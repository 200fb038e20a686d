# SPDX-License-Identifier: GPL-2.0-or-later
"""The one place where things meet: what is meant, what is, and what is done about the difference."""

from agent.controller.controller import ApplyFailed, Controller
from agent.controller.secrecy import SecretInUse
from agent.controller.tracing import TraceRunning

__all__ = ["ApplyFailed", "Controller", "SecretInUse", "TraceRunning"]
