# SPDX-License-Identifier: GPL-2.0-or-later
"""Switching the appliance on: for the first time, with provisioning, and after a power cut."""

import re
import ssl

from lab import disk
from lab.appliance import (
    ADDRESS,
    BOOT_SECONDS,
    LINKS,
    PASSWORD,
    VIRTUAL_ADDRESS,
    Appliance,
    demo_farm,
    links_document,
)
from lab.host import BUILD
from lab.laboratory import Laboratory, factory_credentials

SCREENSHOTS = BUILD / "screenshots"
NEW_PASSWORD = "another battery staple"


def test_a_box_that_was_told_only_its_name_asks_dhcp_and_shows_its_claim_code(lab: Laboratory) -> None:
    box = lab.factory_appliance("told-its-name", {"sluice.hostname": "edge-7.example"})
    box.start()
    box.wait_ready()

    console = box.machine.console
    assert console.wait(rf"https://{re.escape(ADDRESS)}", 60)
    assert box.claim_code()
    assert console.wait(r"on edge-7\.example$", 60)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    box.machine.screenshot(SCREENSHOTS / "console.png")

    # Nothing is open but the GUI's port and DHCP's.
    assert _listening(box.run("cat", "/proc/net/tcp", "/proc/net/tcp6"), "0A") == {443}
    assert _listening(box.run("cat", "/proc/net/udp", "/proc/net/udp6"), "07") <= {68, 546}
    # The whole disk is in use, the slots for the next firmware are there.
    box.power_cut()
    raw = disk.as_raw(box.machine.disks, lab.folder / "told-its-name.raw")
    parts = disk.partitions(raw)
    raw.unlink()
    assert [part.label for part in parts].count("_empty") == 2
    assert next(part.size for part in parts if part.label == "sluice-data") > 2 << 30


def test_a_provisioned_box_serves_without_a_hand_laid_on_it(lab: Laboratory) -> None:
    farms = {"shop": demo_farm(lab.backends)}
    token = "a-token-that-the-provisioning-chose-0123456789"
    credentials = factory_credentials(farms, admin_password=PASSWORD, api_token=token)
    box = lab.factory_appliance("provisioned", credentials)
    box.start()
    box.wait_ready()
    box.token = token

    assert box.must("GET", "/api/v1/claim") == {"claimed": True}
    assert box.must("GET", "/api/v1/configuration")["links"].keys() == links_document().keys()
    box.wait_healthy("shop", "web1", "web2")
    assert lab.client.tally(10, VIRTUAL_ADDRESS) == {"web1": 5, "web2": 5}
    certificate = ssl.get_server_certificate((ADDRESS, 443))
    assert "BEGIN CERTIFICATE" in certificate
    box.log_in()
    box.must("PUT", "/api/v1/password", {"current": PASSWORD, "new": NEW_PASSWORD})
    _expect_kernel_settings(box)

    # A power cut, and on again without any credential: what counts is on the disk.
    snapshot = box.snapshot()
    farm = demo_farm(lab.backends, scheduler="weighted")
    farm["backends"]["web1"]["weight"] = 3
    box.put_farm("shop", farm)
    box.power_cut()
    box.credentials = {}
    box.token = ""
    box.start()
    box.wait_ready(BOOT_SECONDS)
    assert box.api("POST", "/api/v1/sessions", {"user": "admin", "password": PASSWORD}).status == 401
    box.log_in(NEW_PASSWORD)

    assert box.snapshot() == snapshot + 1
    assert box.must("GET", "/api/v1/farms/shop")["backends"]["web1"]["weight"] == 3
    box.wait_healthy("shop", "web1", "web2")
    assert lab.client.tally(8, VIRTUAL_ADDRESS) == {"web1": 6, "web2": 2}
    assert ssl.get_server_certificate((ADDRESS, 443)) == certificate, "the device's key stays"


def test_a_restored_copy_goes_on_as_if_nothing_had_been(lab: Laboratory) -> None:
    """What all other stories rest on: network, clock and disk of a restored machine."""
    box = lab.restored_appliance("restored")
    box.claim()
    before = float(box.run("cat", "/proc/uptime").split()[0])

    assert box.must("GET", "/api/v1/system")["links"]
    assert LINKS["clients"] in {link["name"] for link in box.must("GET", "/api/v1/system")["links"]}
    box.put_farm("shop", demo_farm(lab.backends))
    box.wait_healthy("shop", "web1", "web2")
    assert lab.client.tally(4, VIRTUAL_ADDRESS) == {"web1": 2, "web2": 2}
    assert 0 < float(box.run("cat", "/proc/uptime").split()[0]) - before < 120


def _expect_kernel_settings(box: Appliance) -> None:
    """The kernel is set as image and memory want it; a setting that somebody changes is told until it is right."""
    system = box.must("GET", "/api/v1/system")
    assert [setting for setting in system["kernel_settings"] if setting["value"] != setting["wanted"]] == []
    assert not [trouble for trouble in system["troubles"] if trouble["code"].startswith("kernel-")]
    shown = {setting["name"]: setting["value"] for setting in system["kernel_settings"]}
    for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.netfilter.nf_conntrack_acct"):
        assert shown[name] == box.run("cat", f"/proc/sys/{name.replace('.', '/')}").strip() == "1"
    size = int(box.run("cat", "/proc/sys/net/netfilter/nf_conntrack_max"))
    assert size == int(box.run("cat", "/proc/sys/net/netfilter/nf_conntrack_buckets")) == system["conntrack_max"]
    assert size == max(system["memory_total"] // 4096 // 4096 * 4096, 65536)
    # Every link has what is set for all links, also one that was there before the settings were.
    assert {box.run("cat", f"/proc/sys/net/ipv4/conf/{link}/send_redirects").strip() for link in LINKS.values()} == {
        "0"
    }

    box.run("tee", "/proc/sys/net/ipv4/conf/all/rp_filter", text="1")
    (trouble,) = [each for each in box.must("GET", "/api/v1/system")["troubles"] if each["code"] == "kernel-settings"]
    assert "net.ipv4.conf.all.rp_filter is 1 instead of 2" in trouble["message"]
    box.run("tee", "/proc/sys/net/ipv4/conf/all/rp_filter", text="2")
    assert not [each for each in box.must("GET", "/api/v1/system")["troubles"] if each["code"] == "kernel-settings"]


def _listening(table: str, state: str) -> set[int]:
    """The local ports of the sockets in `state`, in tables of the kernel (proc_net_tcp(5))."""
    found = set()
    for line in table.splitlines():
        fields = line.split()
        if (
            len(fields) > 3
            and fields[3] == state
            and not fields[1].startswith(("0100007F", "000000000000000000000000010"))
        ):
            found.add(int(fields[1].rpartition(":")[2], 16))
    return found
