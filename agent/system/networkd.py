# SPDX-License-Identifier: GPL-2.0-or-later
"""The document's links as systemd-networkd's files, and telling networkd."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.model import Link
from agent.system.command import run
from agent.system.links import SystemLink

_PREFIX = "10-sluice-"
_SUFFIX = ".network"


def files(links: Mapping[str, Link], present: Sequence[SystemLink]) -> dict[str, str]:
    """The text of each .network file by file name. Pure.

    Without any link in the document the first physical link (lowest ifindex) of those that are present asks DHCP.
    Links that no file matches are left as they are: networkd does not touch them, nobody switches them on.
    """
    return {f"{_PREFIX}{name}{_SUFFIX}": text(name, link) for name, link in effective(links, present).items()}


def effective(links: Mapping[str, Link], present: Sequence[SystemLink]) -> dict[str, Link]:
    """The links of the document, or the default when it has none (empty when the machine has no physical link)."""
    if links:
        return dict(links)
    first = min((link for link in present if link.physical), key=lambda link: link.index, default=None)
    return {} if first is None else {first.name: Link(dhcp=True)}


def text(name: str, link: Link) -> str:
    """One .network file. Pure; docs/networking.md says why each setting is there."""
    lines = ["# Written by Sluice from its configuration; a change here lasts until the next commit.", "[Match]"]
    lines += [f"Name={name}", "", "[Link]", "RequiredForOnline=no", "", "[Network]"]
    lines += [f"DHCP={'ipv4' if link.dhcp else 'no'}", f"IPv6AcceptRA={'yes' if link.dhcp else 'no'}"]
    lines += ["LinkLocalAddressing=ipv6", "LLMNR=no", "MulticastDNS=no", "LLDP=no", "EmitLLDP=no", "IPv6SendRA=no"]
    # Virtual addresses are not networkd's; without this it would take them away when it starts.
    lines += ["KeepConfiguration=static"]
    if link.dhcp:
        lines += ["IgnoreCarrierLoss=5s"]
    else:
        # A pulled cable must not take the networks, and the virtual addresses' home with them.
        lines += ["ConfigureWithoutCarrier=yes", "IgnoreCarrierLoss=yes"]
    lines += [f"Address={address}" for address in link.addresses]
    lines += [f"Gateway={gateway}" for gateway in link.gateways]
    if link.dhcp:
        # The machine id is a new one at every start; the MAC address gets the same lease again.
        lines += ["", "[DHCPv4]", "ClientIdentifier=mac", "UseHostname=no", "UseDomains=no", "SendRelease=no"]
        lines += ["", "[DHCPv6]", "DUIDType=link-layer", "UseHostname=no", "UseDomains=no", "SendRelease=no"]
        lines += ["", "[IPv6AcceptRA]", "UseDomains=no"]
    return "\n".join(lines) + "\n"


def directory() -> Path | None:
    """Where the files go, from $SLUICE_NETWORKD; None (unset or empty): links are not this agent's to configure."""
    given = os.environ.get("SLUICE_NETWORKD", "")
    return Path(given) if given else None


def write(where: Path, wanted: Mapping[str, str]) -> bool:
    """Make the files of ours in `where` exactly `wanted`; files of others stay. Says whether anything changed.

    Each file changes at once or not at all (rename). Raises OSError.
    """
    changed = False
    for path in where.glob(f"{_PREFIX}*{_SUFFIX}"):
        if path.name not in wanted:
            path.unlink(missing_ok=True)
            changed = True
    for name, content in wanted.items():
        path = where / name
        try:
            if path.read_text() == content:
                continue
        except (FileNotFoundError, UnicodeDecodeError):
            pass
        new = where / f".{name}.new"
        new.write_text(content)
        new.chmod(0o644)
        new.replace(path)
        changed = True
    return changed


class Networkd:
    """Keeps networkd's files as the document says, and networkd told."""

    def __init__(self, where: Path | None) -> None:
        """`where` is the directory of the files; None: nothing is ever written or told."""
        self._where = where
        # The agent may have died between writing and telling; a reload without changes disturbs nothing.
        self._untold = True

    async def apply(self, links: Mapping[str, Link], present: Sequence[SystemLink]) -> bool:
        """Write what changed and make networkd read it. Says whether it was told.

        Raises CommandFailed or OSError; the next call then tries again.
        """
        if self._where is None:
            return False
        if write(self._where, files(links, present)):
            self._untold = True
        if not self._untold:
            return False
        await run(["networkctl", "reload"])
        self._untold = False
        return True
