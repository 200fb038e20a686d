# SPDX-License-Identifier: GPL-2.0-or-later
"""The DNS check."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from agent.model.checks.check import PortCheck
from agent.model.checks.pattern import Pattern

_NAME = re.compile(r"(?=.{1,253}\.?$)[A-Za-z0-9_*-]{1,63}(\.[A-Za-z0-9_*-]{1,63})*\.?")


def _name(value: Any) -> Any:
    if isinstance(value, str) and value != "." and not _NAME.fullmatch(value):
        raise PydanticCustomError(
            "domain", "is not a name of the DNS; write it like www.example.com, or . for the root"
        )
    return value


class DnsCheck(PortCheck):
    """A backend is well when it answers a question of the DNS in time, and as said."""

    model_config = ConfigDict(title="DNS")
    transport: ClassVar[Literal["tcp", "udp"]] = "udp"

    type: Literal["dns"] = Field(title="Type", description="The kind of check.")
    name: Annotated[str, BeforeValidator(_name)] = Field(title="Name", description="What is asked for.")
    record: Literal["A", "AAAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TXT"] = Field(
        default="A", title="Record", description="The type of record that is asked for."
    )
    rcode: Literal["NOERROR", "NXDOMAIN", "SERVFAIL", "REFUSED"] = Field(
        default="NOERROR", title="Response code", description="That is well; with NOERROR there must be a record, too."
    )
    expect: Pattern | None = Field(
        default=None,
        title="Expected record",
        description="A regular expression (RE2) that is to be found in the text of one of the first 64 records; by "
        "default any is well.",
    )

    def faults(self) -> Iterator[tuple[str, str]]:
        """What is wrong between its fields, besides what can be wrong with every check."""
        yield from super().faults()
        if self.expect is not None and self.rcode != "NOERROR":
            yield (
                "expect",
                "has no use: only an answer with the response code NOERROR has records; leave one of them out",
            )
