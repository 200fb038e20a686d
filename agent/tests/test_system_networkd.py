# SPDX-License-Identifier: GPL-2.0-or-later
import configparser
from pathlib import Path

import pytest

from agent.model import validate
from agent.system import networkd
from agent.system.command import CommandFailed
from agent.system.links import SystemLink


def system_link(index, name, *, physical=True):
    return SystemLink(index, name, "52:54:00:00:00:01", True, True, physical)


def links(**content):
    return validate({"version": 1, "links": content}).links


def read(text):
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read_string(text)
    return parser


def test_without_links_the_first_physical_one_uses_dhcp():
    present = [system_link(4, "ens5"), system_link(3, "ens4"), system_link(2, "br0", physical=False)]
    ((name, text),) = networkd.files({}, present).items()
    assert name == "10-sluice-ens4.network"
    assert read(text)["Match"]["Name"] == "ens4"
    assert read(text)["Network"]["DHCP"] == "ipv4"
    assert read(text)["Network"]["IPv6AcceptRA"] == "yes"
    assert networkd.files({}, [system_link(2, "br0", physical=False)]) == {}


def test_a_static_link_has_its_addresses_and_gateways_and_asks_nobody():
    ((_, text),) = networkd.files(
        links(
            eth0={
                "addresses": ["192.0.2.1/24", "192.0.2.2/24", "2001:db8::1/64"],
                "gateways": ["192.0.2.254", "2001:db8::fe"],
            }
        ),
        [],
    ).items()
    lines = text.splitlines()
    assert [line for line in lines if line.startswith(("Address=", "Gateway="))] == [
        "Address=192.0.2.1/24",
        "Address=192.0.2.2/24",
        "Address=2001:db8::1/64",
        "Gateway=192.0.2.254",
        "Gateway=2001:db8::fe",
    ]
    assert {"DHCP=no", "IPv6AcceptRA=no", "KeepConfiguration=static", "ConfigureWithoutCarrier=yes"} <= set(lines)
    assert "[DHCPv4]" not in lines


def test_only_links_of_the_document_are_configured_when_it_has_any():
    names = networkd.files(links(eth1={"dhcp": True}), [system_link(1, "eth0"), system_link(2, "eth1")])
    assert list(names) == ["10-sluice-eth1.network"]


def test_files_are_made_exactly_so_and_those_of_others_stay(tmp_path):
    (tmp_path / "10-sluice-gone.network").write_text("x")
    (tmp_path / "20-other.network").write_text("x")
    (tmp_path / "10-sluice-same.network").write_text("same")
    (tmp_path / "10-sluice-odd.network").write_bytes(b"\xff")
    wanted = {"10-sluice-same.network": "same", "10-sluice-odd.network": "odd", "10-sluice-new.network": "new"}
    assert networkd.write(tmp_path, wanted)
    assert not networkd.write(tmp_path, wanted)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {**wanted, "20-other.network": "x"}
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("10-sluice-[on]*")} == {0o644}


@pytest.fixture
def networkctl(tmp_path, monkeypatch):
    """A networkctl that notes its calls and fails while a file says so."""
    tools = tmp_path / "bin"
    tools.mkdir()
    tool = tools / "networkctl"
    tool.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n[ ! -e {tmp_path}/broken ] || {{ echo no >&2; exit 3; }}\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    (tmp_path / "calls").touch()
    return tmp_path


def calls(where: Path) -> int:
    return len((where / "calls").read_text().splitlines())


async def test_networkd_is_told_once_at_the_start_and_then_of_changes_only(networkctl):
    where = networkctl / "network"
    where.mkdir()
    told = networkd.Networkd(where)
    assert await told.apply({}, [system_link(1, "eth0")])
    assert not await told.apply({}, [system_link(1, "eth0")])
    assert await told.apply(links(eth1={"dhcp": True}), [system_link(1, "eth0")])
    assert calls(networkctl) == 2
    assert (networkctl / "calls").read_text().splitlines()[0] == "reload"


async def test_what_could_not_be_told_is_told_the_next_time(networkctl):
    where = networkctl / "network"
    where.mkdir()
    told = networkd.Networkd(where)
    (networkctl / "broken").touch()
    with pytest.raises(CommandFailed, match="networkctl: no"):
        await told.apply({}, [])
    (networkctl / "broken").unlink()
    assert await told.apply({}, [])
    assert not await told.apply({}, [])


async def test_without_a_directory_nothing_is_written_or_told(networkctl):
    assert not await networkd.Networkd(None).apply(links(eth0={"dhcp": True}), [system_link(1, "eth0")])
    assert calls(networkctl) == 0


def test_the_directory_is_a_switch(monkeypatch):
    monkeypatch.delenv("SLUICE_NETWORKD", raising=False)
    assert networkd.directory() is None
    monkeypatch.setenv("SLUICE_NETWORKD", "/run/systemd/network")
    assert networkd.directory() == Path("/run/systemd/network")
