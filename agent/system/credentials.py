# SPDX-License-Identifier: GPL-2.0-or-later
"""Provisioning: what a machine is given at its start as systemd credentials (docs/provisioning.md)."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.model import MAX_BYTES, Invalid, conform, load
from agent.model.answers import SecretValues
from agent.model.secret import SecretKind
from agent.model.state import Trouble
from agent.model.types import HOSTNAME_PATTERN

MAX_SECRET = 1024
"""The longest password or token, in bytes."""

MAX_SECRETS = 1024 * 1024
"""The longest `sluice.secrets`, in bytes; systemd lets no more pass."""

MAX_HOSTNAME = 253


@dataclass(frozen=True)
class Provisioning:
    """What was given. None: not given, or not usable (then `troubles` says why; never with the value in it)."""

    admin_password: str | None = field(default=None, repr=False)
    api_token: str | None = field(default=None, repr=False)
    configuration: bytes | None = field(default=None, repr=False)
    """A document, not parsed yet."""
    hostname: str | None = None
    secrets: Mapping[str, tuple[SecretKind, str]] = field(default_factory=dict, repr=False)
    """Kind and value by name."""
    troubles: tuple[Trouble, ...] = ()


def read(directory: Path | None = None) -> Provisioning:
    """Read the credentials from `directory`, by default from systemd's $CREDENTIALS_DIRECTORY. Never raises."""
    if directory is None:
        given = os.environ.get("CREDENTIALS_DIRECTORY")
        if not given:
            return Provisioning()
        directory = Path(given)
    troubles: list[Trouble] = []

    def text(name: str) -> str | None:
        content = _content(directory, name, MAX_SECRET, troubles)
        return None if content is None else _word(name, content, troubles)

    hostname = text("sluice.hostname")
    if hostname is not None and (len(hostname) > MAX_HOSTNAME or not re.fullmatch(HOSTNAME_PATTERN, hostname)):
        troubles.append(
            _trouble("sluice.hostname", "is no host name: use lower-case letters, digits, hyphens and dots")
        )
        hostname = None
    return Provisioning(
        admin_password=text("sluice.admin-password"),
        api_token=text("sluice.api-token"),
        configuration=_content(directory, "sluice.configuration", MAX_BYTES, troubles),
        hostname=hostname,
        secrets=_secrets(directory, troubles),
        troubles=tuple(troubles),
    )


def _secrets(directory: Path, troubles: list[Trouble]) -> dict[str, tuple[SecretKind, str]]:
    name = "sluice.secrets"
    content = _content(directory, name, MAX_SECRETS, troubles)
    if content is None:
        return {}
    try:
        given = conform(SecretValues, load(content)).root
    except Invalid as error:
        words = "; ".join(f"{fault.pointer or '/'} {fault.message}" for fault in error.faults[:5])
        troubles.append(_trouble(name, f"is no list of secrets: {words}"))
        return {}
    return {name: (each.kind, each.value) for name, each in given.items()}


def _content(directory: Path, name: str, limit: int, troubles: list[Trouble]) -> bytes | None:
    try:
        with Path(directory, name).open("rb") as file:
            content = file.read(limit + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        troubles.append(_trouble(name, f"cannot be read: {error.strerror or error}"))
        return None
    if len(content) > limit:
        troubles.append(_trouble(name, f"is longer than {limit} bytes"))
        return None
    return content


def _word(name: str, content: bytes, troubles: list[Trouble]) -> str | None:
    """A line of text; a line break at its end (an editor's) is not part of it."""
    try:
        word = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        troubles.append(_trouble(name, "is not UTF-8 text"))
        return None
    if not word:
        troubles.append(_trouble(name, "is empty"))
        return None
    if not word.isprintable():
        troubles.append(_trouble(name, "has a line break or another control character in it"))
        return None
    return word


def _trouble(name: str, words: str) -> Trouble:
    return Trouble(code="credential-unusable", message=f"The credential {name} {words}; it was ignored.")
