# SPDX-License-Identifier: GPL-2.0-or-later
"""systemd credentials for the virtual machine: the product's own, and the units that the lab adds to it.

They travel as SMBIOS strings (type 11), as they would on any hypervisor. The image knows nothing of the lab: its
journal and a control line for root reach the tests through a unit that is a credential, too (`systemd.extra-unit.*`).
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_INSIDE = Path(__file__).parent / "inside"


@dataclass(frozen=True)
class ExtraUnit:
    """A unit that is not in the image; `wanted_by` starts it."""

    name: str
    text: str
    wanted_by: str


# It waits for nothing, and nothing waits for it: the box boots as it would without the lab. The initrd's systemd is
# handed the same credentials, hence the condition.
_LAB = ExtraUnit(
    "lab.service",
    """\
[Unit]
Description=The lab's way in
DefaultDependencies=no
ConditionPathExists=!/etc/initrd-release
[Service]
ImportCredential=lab.inside
ExecStart=/usr/bin/python3 -I %d/lab.inside
""",
    "sysinit.target",
)


def lab_credentials(extra: Sequence[ExtraUnit] = ()) -> Mapping[str, str]:
    """The credentials that give the tests the journal and a control line, and add the units `extra`."""
    found = {"lab.inside": (_INSIDE / "control.py").read_text(encoding="utf-8")}
    wants: dict[str, list[str]] = {}
    for unit in (_LAB, *extra):
        found[f"systemd.extra-unit.{unit.name}"] = unit.text
        wants.setdefault(unit.wanted_by, []).append(unit.name)
    for target, names in wants.items():
        found[f"systemd.unit-dropin.{target}"] = f"[Unit]\nWants={' '.join(names)}\n"
    return found


def smbios_strings(credentials: Mapping[str, str]) -> list[str]:
    """The SMBIOS strings that carry `credentials`."""
    return [
        f"io.systemd.credential.binary:{name}={base64.b64encode(value.encode()).decode()}"
        for name, value in credentials.items()
    ]
