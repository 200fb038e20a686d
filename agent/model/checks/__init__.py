# SPDX-License-Identifier: GPL-2.0-or-later
"""How a backend's health is found: the table of all kinds of checks. A kind is a file here and a name in `AnyCheck`."""

from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Field

from agent.model.checks.check import Check, PortCheck
from agent.model.checks.dns import DnsCheck
from agent.model.checks.expect import ExpectCheck
from agent.model.checks.http import HttpCheck, HttpsCheck
from agent.model.checks.icmp import IcmpCheck
from agent.model.checks.smtp import SmtpCheck
from agent.model.checks.tcp import TcpCheck
from agent.model.checks.tls import TlsCheck, TlsSettings
from agent.model.checks.udp import UdpCheck

_DEFAULT = "tcp"


def _typed(value: Any) -> Any:
    return {"type": _DEFAULT, **value} if isinstance(value, dict) and "type" not in value else value


AnyCheck = Annotated[
    TcpCheck | TlsCheck | IcmpCheck | HttpCheck | HttpsCheck | UdpCheck | ExpectCheck | SmtpCheck | DnsCheck,
    Field(discriminator="type"),
    BeforeValidator(_typed),
]
"""Any kind of check, by its `type`; without one it is a TCP check."""

CHECKS: dict[str, type[Check]] = {
    get_args(kind.model_fields["type"].annotation)[0]: kind for kind in get_args(get_args(AnyCheck)[0])
}
"""Every kind by its `type`."""

__all__ = [
    "CHECKS",
    "AnyCheck",
    "Check",
    "DnsCheck",
    "ExpectCheck",
    "HttpCheck",
    "HttpsCheck",
    "IcmpCheck",
    "PortCheck",
    "SmtpCheck",
    "TcpCheck",
    "TlsCheck",
    "TlsSettings",
    "UdpCheck",
]
