# SPDX-License-Identifier: GPL-2.0-or-later
"""Certificates made by the real openssl, and a document that names secrets."""

import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from agent.model import Configuration
from agent.model.part import Part
from agent.model.secret import AuthoritiesName, CertificateName, SecretName
from agent.model.types import Name


class Mail(Part):
    type: Literal["mail"]
    password: SecretName | None = None


class Web(Part):
    type: Literal["web"]
    certificate: CertificateName | None = None
    authorities: AuthoritiesName | None = None
    tokens: list[SecretName] = Field(default_factory=list)


class Plain(Part):
    note: str = "no secret"


class Document(Configuration):
    """As documents will be once checks and alerts name secrets."""

    checks: list[Annotated[Mail | Web, Field(discriminator="type")]] = Field(default_factory=list)
    alerts: dict[Name, Mail] = Field(default_factory=dict)
    plain: Plain = Plain()


def openssl(*argv: str, given: str = "") -> str:
    return subprocess.run(["openssl", *argv], input=given, check=True, capture_output=True, text=True).stdout


@cache
def certificate(
    subject: str = "/CN=lb1.example.net/O=Example", key: str = "ec", days: int = 30, names: str = ""
) -> tuple[str, str]:
    """A self-signed certificate and its key, in PEM."""
    algorithm = {"ec": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "ed": ["ed25519"]}.get(key) or [f"rsa:{key}"]
    more = ["-addext", f"subjectAltName={names}"] if names else []
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "key.pem")
        made = openssl(
            "req", "-x509", "-newkey", *algorithm, "-nodes", "-keyout", str(path),
            "-subj", subject, "-days", str(days), "-utf8", *more,
        )  # fmt: skip
        return made, path.read_text()
