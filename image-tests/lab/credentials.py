# SPDX-License-Identifier: GPL-2.0-or-later
"""systemd credentials for the virtual machine: the product's own, and the units that the lab adds to it.

They travel as SMBIOS strings (type 11), as they would on any hypervisor. The image knows nothing of the lab: its
journal and a control line for root reach the tests through units that are credentials, too (`systemd.extra-unit.*`).
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.qemu import CONTROL_PORT, JOURNAL_PORT

_INSIDE = Path(__file__).parent / "inside"


@dataclass(frozen=True)
class ExtraUnit:
    """A unit that is not in the image; `wanted_by` starts it."""

    name: str
    text: str
    wanted_by: str


def _device(port: str) -> str:
    return rf"dev-virtio\x2dports-{port}.device"


# The initrd's systemd is handed the same credentials, hence the condition.
_HEAD = """\
[Unit]
Description=The lab's {what}
DefaultDependencies=no
ConditionPathExists=!/etc/initrd-release
Requires={device}
After={device} {after}
[Service]
"""

# journalctl does not follow the journal from the memory to the disk, so it begins when that is done.
_JOURNAL = ExtraUnit(
    "lab-journal.service",
    _HEAD.format(what="copy of the journal", device=_device(JOURNAL_PORT), after="systemd-journal-flush.service")
    + f"""\
ExecStart=/usr/bin/journalctl --follow --no-tail --boot --output=json
StandardOutput=file:/dev/virtio-ports/{JOURNAL_PORT}
""",
    "sysinit.target",
)

_CONTROL = ExtraUnit(
    "lab-control.service",
    _HEAD.format(what="control line", device=_device(CONTROL_PORT), after="systemd-journald.service")
    + """\
ImportCredential=lab.control
ExecStart=/usr/bin/python3 %d/lab.control
""",
    "sysinit.target",
)


def lab_credentials(extra: Sequence[ExtraUnit] = ()) -> Mapping[str, str]:
    """The credentials that give the tests the journal and a control line, and add the units `extra`."""
    found = {"lab.control": (_INSIDE / "control.py").read_text(encoding="utf-8")}
    wants: dict[str, list[str]] = {}
    for unit in (_JOURNAL, _CONTROL, *extra):
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
