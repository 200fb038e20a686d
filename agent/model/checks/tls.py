# SPDX-License-Identifier: GPL-2.0-or-later
"""The TLS check, and what every check that speaks TLS has."""

import re
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from agent.model.checks.check import PortCheck
from agent.model.secret import AuthoritiesName, CertificateName
from agent.model.types import HOSTNAME_PATTERN

Days = Annotated[int, Field(ge=0, le=3650, json_schema_extra={"unit": "days"})]


def _server_name(value: Any) -> Any:
    if not isinstance(value, str) or re.fullmatch(HOSTNAME_PATTERN, value.lower()):
        return value
    try:
        ip_address(value)
    except ValueError:
        words = "is neither a host name nor an address; write it like www.example.com"
        raise PydanticCustomError("server_name", words) from None
    return value


class TlsSettings(PortCheck):
    """What is wanted of the other side's TLS, and what is shown to it."""

    authorities: AuthoritiesName | None = Field(
        default=None,
        title="Authorities",
        description="The secret with the CA certificates that the backend's certificate is verified by; without one, "
        "any certificate is well.",
    )
    server_name: Annotated[str, BeforeValidator(_server_name), Field(max_length=253)] | None = Field(
        default=None,
        title="Server name",
        description="Sent to the backend (SNI); with authorities, its certificate must be for this name. By default "
        "the host of an HTTPS check that has one, else none is sent, and a certificate for any name is well.",
    )
    certificate: CertificateName | None = Field(
        default=None,
        title="Client certificate",
        description="The secret with the certificate and key that are shown to a backend that asks for one.",
    )
    warn_days: Days = Field(
        default=14,
        title="Warn",
        description="A backend whose certificate ends sooner is well, but that is told.",
    )
    fail_days: Days | None = Field(
        default=None,
        title="Fail",
        description="A backend whose certificate ends sooner has failed; by default only one whose certificate is "
        "verified and has expired.",
    )

    @property
    def asked_name(self) -> str | None:
        """The name that is sent, and that the certificate must be for where it is verified."""
        return self.server_name

    def faults(self) -> Iterator[tuple[str, str]]:
        """What is wrong between the days, besides what can be wrong with every check."""
        yield from super().faults()
        if self.fail_days is not None and self.fail_days > self.warn_days:
            words = f"{self.fail_days} days is more than the {self.warn_days} of `warn_days`, so that nobody is warned"
            yield "fail_days", f"{words}; make it at most those, or `warn_days` more"


class TlsCheck(TlsSettings):
    """A backend is well when it completes a TLS handshake in time, with a certificate as said."""

    model_config = ConfigDict(title="TLS handshake")

    type: Literal["tls"] = Field(title="Type", description="The kind of check.")
