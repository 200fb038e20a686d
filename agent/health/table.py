# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of check types: a type is a file with one class and one row here."""

from agent.health.dns import DnsProbe
from agent.health.expect import ExpectProbe
from agent.health.http import HttpProbe
from agent.health.https import HttpsProbe
from agent.health.icmp import IcmpProbe
from agent.health.probe import Probe
from agent.health.smtp import SmtpProbe
from agent.health.tcp import TcpProbe
from agent.health.tls import TlsProbe
from agent.health.trust import Contexts
from agent.health.udp import UdpProbe
from agent.model.secret import SecretReader

PROBES: dict[str, Probe] = {
    probe.type: probe
    for probe in (TcpProbe(), IcmpProbe(), HttpProbe(), UdpProbe(), ExpectProbe(), SmtpProbe(), DnsProbe())
}
"""The check types that use no secret, by the name that documents use."""


def probes(secrets: SecretReader) -> dict[str, Probe]:
    """Every check type by the name that documents use."""
    contexts = Contexts(secrets)
    return PROBES | {probe.type: probe for probe in (TlsProbe(contexts), HttpsProbe(contexts))}
