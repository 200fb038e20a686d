# SPDX-License-Identifier: GPL-2.0-or-later
"""What the API answers and is asked beside documents and state: snapshots, access, preview, console."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, RootModel
from pydantic_core import PydanticCustomError

from agent.model.document import Configuration
from agent.model.secret import KIND_WORDS, SecretKind
from agent.model.state import Trouble
from agent.model.text import Change
from agent.model.types import Name

MIN_PASSWORD = 10
"""Characters that a password has at least."""
MAX_PASSWORD_BYTES = 256
"""Bytes (UTF-8) that a password has at most."""

Outcome = Literal["committed", "pending", "abandoned"]
"""committed: it is or was in force. pending: written, not confirmed yet. abandoned: it never came into force."""


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SnapshotInfo(_Answer):
    """A snapshot without its document."""

    number: int = Field(description="Counts up from 1; never used twice.")
    parent: int | None = Field(description="The snapshot that was in force when this one was made.")
    digest: str = Field(description="SHA-256 of the canonical document, in hexadecimal.")
    author: str = Field(description="Who made it.")
    comment: str = Field(description="Why it was made, in its author's words.")
    time: datetime = Field(description="When it was made.")
    version: int = Field(description="Version of the document's schema.")
    software: str = Field(description="Version of the software that made it.")
    outcome: Outcome = Field(description="abandoned: it never came into force, since that failed.")


class Snapshot(SnapshotInfo):
    """A snapshot with its document."""

    document: Configuration = Field(description="The configuration document.")


class SnapshotList(_Answer):
    """Snapshots, the newest first."""

    snapshots: list[SnapshotInfo]
    in_force: int | None = Field(description="The number of the snapshot in force.")


class NetworkListInfo(_Answer):
    """A network list without its networks."""

    description: str
    networks: int = Field(description="How many it has.")
    allowed_by: list[str] = Field(description="The farms that allow its clients, and no others.")
    denied_by: list[str] = Field(description="The farms that deny its clients.")


class NetworkLists(RootModel[dict[str, NetworkListInfo]]):
    """Network lists by name, without their networks."""


class Diff(_Answer):
    """What changed from one snapshot to another."""

    # `from` is a word of Python, so the attribute has another name than the member.
    model_config = ConfigDict(populate_by_name=True)

    before: int = Field(alias="from", description="The snapshot that is compared.")
    to: int = Field(description="The snapshot it is compared with.")
    changes: list[Change] = Field(description="In the order of the document's paths.")


class ClientNow(_Answer):
    """A client that a farm with persistence remembers."""

    client: str = Field(description="Its address, or the network that the farm takes for one client.")
    port: int | None = Field(description="Its port, where the farm remembers ports too.")
    backend: str = Field(description="Where it goes; empty for a backend that is gone.")
    expires_s: float = Field(description="It is forgotten in so many seconds, unless it comes back.")


class ClientList(_Answer):
    """Clients in the order of their addresses."""

    clients: list[ClientNow]
    total: int = Field(description="How many there are of this kind; the list may have fewer.")
    remembered: int = Field(description="How many the farm remembers in all.")
    size: int | None = Field(
        description="So many of each IP family can be; null: 1048576 of each kind and family, shared by all farms."
    )
    full: bool = Field(
        description="Whether a family has come to that size: new clients of it are balanced, and not remembered."
    )


class Forgotten(_Answer):
    """How many clients were forgotten."""

    forgotten: int


class ClaimState(_Answer):
    """Whether the appliance has an administrator."""

    claimed: bool


class Claim(_Request):
    """Makes the first administrator of an appliance that has none."""

    code: str = Field(max_length=64, description="The one-time code that the appliance's console shows.", repr=False)
    password: str = Field(max_length=1024, description="The administrator's new password.", repr=False)


class Login(_Request):
    """Asks for a session."""

    user: str = Field(max_length=64, description="The account, `admin`.")
    password: str = Field(max_length=1024, repr=False)


class Session(_Answer):
    """A session: send its token as `Authorization: Bearer`."""

    token: str = Field(repr=False)
    user: str
    expires: datetime = Field(description="When it ends at the latest; it also ends 12 hours after its last use.")


class PasswordChange(_Request):
    """Asks for another password."""

    current: str = Field(max_length=1024, description="The administrator's password as it is.", repr=False)
    new: str = Field(max_length=1024, description="The administrator's new password.", repr=False)


class PasswordChanged(_Answer):
    """What a change of the password did beside it."""

    sessions_ended: int = Field(description="How many other sessions there were; they have ended.")


class CertificateInfo(_Answer):
    """What a certificate says of itself."""

    subject: str = Field(description="Such as CN=lb1.example.net, O=Example; empty where it has none.")
    names: list[str] = Field(description="Host names, addresses, e-mail addresses and URIs that it stands for.")
    begins: datetime
    ends: datetime = Field(description="When it expires.")


class SecretInfo(_Answer):
    """A secret without its value, which is never told."""

    kind: SecretKind
    changed: datetime = Field(description="When the value was set last.")
    used_by: list[str] = Field(description="Where the configuration in force names it: JSON pointers.")
    certificates: list[CertificateInfo] = Field(
        description="Of a certificate: it, and then its chain. Of CA certificates: each. Of a text: none."
    )


class SecretList(RootModel[dict[str, SecretInfo]]):
    """Secrets by name, without their values."""


def _kind(value: object) -> object:
    # The words leave out what was sent: it may be the value, in the wrong place.
    if not isinstance(value, str) or value not in KIND_WORDS:
        raise PydanticCustomError("secret_kind", "must be text, certificate or authorities")
    return value


class SecretValue(_Request):
    """Sets a secret."""

    kind: Annotated[SecretKind, BeforeValidator(_kind)] = Field(
        default="text",
        description="text: a password, passphrase, token or community, one line. certificate: PEM of a certificate, "
        "those of its chain, and its private key without a passphrase. authorities: PEM of CA certificates.",
    )
    value: str = Field(description="Never told again.", repr=False)


class SecretValues(RootModel[dict[Name, SecretValue]]):
    """Secrets by name, as the credential `sluice.secrets` brings them."""


class Preview(_Answer):
    """What the kernel would hold."""

    script: str = Field(description="A script that `nft -f` loads.")
    difference: str = Field(
        description="The commands, one a line, that lead from what the kernel holds now to that; empty for none."
    )


class Console(_Answer):
    """What the appliance's own console shows; told to the console's user only."""

    product: str
    version: str
    hostname: str
    addresses: list[str] = Field(description="The addresses of the GUI, without prefix length.")
    claim_code: str | None = Field(description="The one-time code; null once the appliance is claimed.", repr=False)
    troubles: list[Trouble]


class FaultAnswer(_Answer):
    """One fault of what was sent."""

    pointer: str = Field(description="RFC 6901 JSON pointer into the configuration document or the body.")
    detail: str = Field(description="What is wrong, and what would be right.")


class ProblemAnswer(BaseModel):
    """An error, as RFC 9457 says."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str = Field(description="`about:blank`, or a path of this API that names the kind of problem.")
    title: str
    status: int
    detail: str
    errors: list[FaultAnswer] = Field(default_factory=list, description="Every fault that was found.")
    current: int | None = Field(default=None, description="412 and 409: the number of the snapshot in force.")


JsonObject = dict[str, Any]
"""A JSON object as Python reads it."""
