# SPDX-License-Identifier: GPL-2.0-or-later
"""What an administrator means: the configuration document, its rules and its faults. Pure data, no I/O."""

from agent.model.backend import Backend, SorryServer
from agent.model.checks import (
    CHECKS,
    Check,
    DnsCheck,
    ExpectCheck,
    HttpCheck,
    HttpsCheck,
    IcmpCheck,
    PortCheck,
    SmtpCheck,
    TcpCheck,
    TlsCheck,
    TlsSettings,
    UdpCheck,
)
from agent.model.document import VERSION, Configuration, Link, System
from agent.model.farm import Family, Farm
from agent.model.faults import Fault, Invalid, pointer
from agent.model.ingress_rules import MAX_FORWARDED
from agent.model.limits import limits_of
from agent.model.network_list import NetworkList
from agent.model.network_rules import taken, unreachable, unusable
from agent.model.rules import MANAGEMENT_PORT, MAX_SERVICES
from agent.model.text import MAX_BYTES, Change, Codec, canonical, conform, difference, digest, load, parse, validate
from agent.model.traffic import QUEUES, TRAFFIC_QUEUES, class_handle
from agent.model.types import PortRange, dscp_words, rate_words

__all__ = [
    "CHECKS",
    "MANAGEMENT_PORT",
    "MAX_BYTES",
    "MAX_FORWARDED",
    "MAX_SERVICES",
    "QUEUES",
    "TRAFFIC_QUEUES",
    "VERSION",
    "Backend",
    "Change",
    "Check",
    "Codec",
    "Configuration",
    "DnsCheck",
    "ExpectCheck",
    "Family",
    "Farm",
    "Fault",
    "HttpCheck",
    "HttpsCheck",
    "IcmpCheck",
    "Invalid",
    "Link",
    "NetworkList",
    "PortCheck",
    "PortRange",
    "SmtpCheck",
    "SorryServer",
    "System",
    "TcpCheck",
    "TlsCheck",
    "TlsSettings",
    "UdpCheck",
    "canonical",
    "class_handle",
    "conform",
    "difference",
    "digest",
    "dscp_words",
    "limits_of",
    "load",
    "parse",
    "pointer",
    "rate_words",
    "taken",
    "unreachable",
    "unusable",
    "validate",
]
