# SPDX-License-Identifier: GPL-2.0-or-later
"""What an administrator means: the configuration document, its rules and its faults. Pure data, no I/O."""

from agent.model.document import VERSION, Configuration, Link, System
from agent.model.farm import Backend, Family, Farm, SorryServer, TcpCheck
from agent.model.faults import Fault, Invalid, pointer
from agent.model.ingress_rules import taken
from agent.model.network_rules import unreachable, unusable
from agent.model.rules import MANAGEMENT_PORT
from agent.model.text import MAX_BYTES, Change, Codec, canonical, conform, difference, digest, load, parse, validate
from agent.model.types import PortRange

__all__ = [
    "MANAGEMENT_PORT",
    "MAX_BYTES",
    "VERSION",
    "Backend",
    "Change",
    "Codec",
    "Configuration",
    "Family",
    "Farm",
    "Fault",
    "Invalid",
    "Link",
    "PortRange",
    "SorryServer",
    "System",
    "TcpCheck",
    "canonical",
    "conform",
    "difference",
    "digest",
    "load",
    "parse",
    "pointer",
    "taken",
    "unreachable",
    "unusable",
    "validate",
]
