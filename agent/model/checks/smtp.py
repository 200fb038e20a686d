# SPDX-License-Identifier: GPL-2.0-or-later
"""The SMTP check."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from agent.model.checks.check import PortCheck

_NAME = re.compile(r"(?=.{1,255}$)[A-Za-z0-9]([A-Za-z0-9-]{0,62})(\.[A-Za-z0-9]([A-Za-z0-9-]{0,62}))*")


def _name(value: Any) -> Any:
    if isinstance(value, str) and not _NAME.fullmatch(value):
        raise PydanticCustomError("domain", "is not the name of a host; write it like lb1.example.com")
    return value


class SmtpCheck(PortCheck):
    """A backend is well when it greets as a mail server and takes the greeting of the check."""

    model_config = ConfigDict(title="SMTP")

    type: Literal["smtp"] = Field(title="Type", description="The kind of check.")
    ehlo: Annotated[str, BeforeValidator(_name)] | None = Field(
        default=None,
        title="EHLO name",
        description="By which the check greets the server; by default the appliance's address on the connection.",
    )
    starttls: bool = Field(
        default=False,
        title="STARTTLS",
        description="The server must offer TLS, and a handshake succeed; its certificate is not looked at.",
    )
