# SPDX-License-Identifier: GPL-2.0-or-later
"""What breaks around the appliance or in it: traffic goes on, and it says what is wrong."""

from lab import disk
from lab.appliance import BOOT_SECONDS, LINKS, VIRTUAL_ADDRESS, Appliance, demo_farm, links_document
from lab.journal import Expected
from lab.laboratory import Laboratory
from lab.waiting import wait_until

KILLED = Expected(
    "init.scope|systemd", "sluice-agent.service: (Main process exited|Failed)", "the story kills the agent"
)


def test_traffic_flows_on_when_the_agent_is_killed(lab: Laboratory, claimed: Appliance) -> None:
    claimed.put_farm("shop", demo_farm(lab.backends))
    claimed.wait_healthy("shop", "web1", "web2")
    assert lab.client.tally(10, VIRTUAL_ADDRESS) == {"web1": 5, "web2": 5}
    wait_until(lambda: claimed.farm_now("shop")["traffic"]["new"] == 10, "10 connections counted", 15)
    passed = claimed.farm_now("shop")["traffic"]["bytes_out"]
    claimed.expected.append(KILLED)
    # Kept down, else systemd starts it again at once. The socket stays open, as it does when the agent hangs.
    claimed.run("systemctl", "stop", "sluice-agent.socket", "sluice-agent.service")

    assert lab.client.tally(10, VIRTUAL_ADDRESS) == {"web1": 5, "web2": 5}

    claimed.run("systemctl", "start", "sluice-agent.socket")
    claimed.wait_ready(60)
    assert lab.client.tally(10, VIRTUAL_ADDRESS) == {"web1": 5, "web2": 5}
    wait_until(lambda: claimed.farm_now("shop")["traffic"]["new"] == 30, "what the kernel held is adopted", 15)
    # Those that came while nobody counted are known to connection tracking, for a minute still.
    assert claimed.farm_now("shop")["traffic"]["bytes_out"] > 2.5 * passed > 0


def test_a_killed_agent_is_started_again(lab: Laboratory, claimed: Appliance) -> None:
    claimed.put_farm("shop", demo_farm(lab.backends))
    claimed.wait_healthy("shop", "web1", "web2")
    claimed.expected.append(KILLED)
    before = claimed.run("systemctl", "show", "--value", "--property=MainPID", "sluice-agent.service").strip()

    claimed.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", "sluice-agent.service")

    claimed.wait_ready(60)
    after = claimed.run("systemctl", "show", "--value", "--property=MainPID", "sluice-agent.service").strip()
    assert after not in (before, "0")
    assert lab.client.tally(10, VIRTUAL_ADDRESS) == {"web1": 5, "web2": 5}
    claimed.wait_healthy("shop", "web1", "web2")


def test_without_a_dhcp_server_it_balances_and_says_so(lab: Laboratory, claimed: Appliance) -> None:
    claimed.put_farm("shop", demo_farm(lab.backends))
    box = _booted_copy(lab, claimed, dhcp=False)

    wait_until(lambda: lab.client.get(VIRTUAL_ADDRESS) in ("web1", "web2"), "balancing", BOOT_SECONDS)
    # The first checks may have failed before the links were up; they rise again.
    wait_until(lambda: lab.client.tally(4, VIRTUAL_ADDRESS) == {"web1": 2, "web2": 2}, "both backends in turn", 60)
    box.machine.console.wait(f"No DHCP server has given the link {LINKS['mgmt']} an address", 60)

    lab.dhcp.start()
    box.wait_ready(120)


def test_without_a_cable_it_boots_and_goes_on_when_there_is_one(lab: Laboratory, claimed: Appliance) -> None:
    claimed.put_farm("shop", demo_farm(lab.backends))
    box = _booted_copy(lab, claimed, unplugged=frozenset({"mgmt", "clients", "backends"}))

    for link in LINKS.values():
        box.machine.console.wait(f"The link {link} has no carrier", BOOT_SECONDS)

    for segment in ("mgmt", "clients", "backends"):
        box.machine.plug(segment, connected=True)
    box.wait_ready(120)
    wait_until(lambda: lab.client.get(VIRTUAL_ADDRESS) in ("web1", "web2"), "balancing", 60)


FILL = """\
import os
data = os.statvfs("/data")
with open("/data/filler", "wb") as file:
    os.posix_fallocate(file.fileno(), 0, data.f_bfree * data.f_frsize - (1 << 20))
"""


def test_a_full_data_partition_refuses_changes_and_balances(lab: Laboratory, claimed: Appliance) -> None:
    claimed.put_farm("shop", demo_farm(lab.backends))
    claimed.wait_healthy("shop", "web1", "web2")
    claimed.run("/usr/bin/python3", "-c", FILL, check=False)
    claimed.run("dd", "if=/dev/zero", "of=/data/rest", "bs=4096", check=False)
    claimed.expected.append(Expected("sluice-agent.service", "A request failed: .* full", "the story fills the disk"))
    snapshot = claimed.snapshot()

    answer = claimed.api("PUT", "/api/v1/farms/other", demo_farm(lab.backends, addresses=["10.20.0.101"]))

    assert answer.status == 507, answer
    assert "full" in str(answer.body).lower() or "space" in str(answer.body).lower()
    assert claimed.snapshot() == snapshot
    assert lab.client.tally(10, VIRTUAL_ADDRESS) == {"web1": 5, "web2": 5}

    # And it starts with what it can read.
    box = _booted_copy(lab, claimed)
    box.wait_ready()
    wait_until(lambda: lab.client.get(VIRTUAL_ADDRESS) in ("web1", "web2"), "balancing", 60)
    box.log_in()
    assert any("full" in trouble["message"] or "space" in trouble["message"] for trouble in _troubles(box))


def test_a_data_partition_of_garbage_does_not_keep_it_from_booting(lab: Laboratory, claimed: Appliance) -> None:
    claimed.put_farm("shop", demo_farm(lab.backends))
    claimed.power_cut()
    raw = disk.as_raw(claimed.machine.disks, lab.folder / "garbage.raw")
    data = disk.partition(raw, "sluice-data")
    # The superblock and all its copies (ext4 keeps them in groups 1 and the powers of 3, 5 and 7), so that there is
    # nothing to repair it from.
    for group in (0, 1, 3, 5, 7, 9):
        disk.overwrite(raw, data, group * (128 << 20), 1 << 20)
    disk.from_raw(raw, claimed.machine.disks)

    box = _booted_copy(lab, claimed)

    box.expected_units = frozenset({"data.mount"})
    box.wait_ready()
    box.machine.console.wait("There is no data partition", 60)
    # Its owner and its configuration went with the partition: it can be claimed, and used until the next start.
    box.claim()
    box.must(
        "PUT",
        "/api/v1/configuration",
        {"version": 1, "links": links_document(), "farms": {"shop": demo_farm(lab.backends)}},
    )
    wait_until(lambda: lab.client.get(VIRTUAL_ADDRESS) in ("web1", "web2"), "balancing", 60)


def test_a_damaged_database_falls_back_to_the_last_good_document(lab: Laboratory, claimed: Appliance) -> None:
    claimed.put_farm("shop", demo_farm(lab.backends))
    claimed.wait_healthy("shop", "web1", "web2")
    claimed.run("systemctl", "stop", "sluice-agent.service", "sluice-agent.socket")
    claimed.run("dd", "if=/dev/urandom", "of=/data/agent/snapshots.db", "bs=4096", "count=64", "conv=notrunc")
    claimed.run("sync")

    box = _booted_copy(lab, claimed)

    wait_until(lambda: lab.client.get(VIRTUAL_ADDRESS) in ("web1", "web2"), "balancing", BOOT_SECONDS)
    box.wait_ready()
    box.log_in()
    assert _troubles(box), "it must say that the snapshots were damaged"


def _booted_copy(
    lab: Laboratory, box: Appliance, *, dhcp: bool = True, unplugged: frozenset[str] = frozenset()
) -> Appliance:
    """Cut the power of `box` and boot a copy of it, without any credential of its own: all it knows is on its disk."""
    box.run("sync") if box.machine.running else None
    box.power_cut()
    if not dhcp:
        lab.dhcp.stop()
    copy = lab.appliance_on(f"{box.machine.folder.name}-again", box.machine.disks)
    copy.machine.unplugged = unplugged
    copy.token = ""
    copy.start()
    return copy


def _troubles(box: Appliance) -> list[dict[str, str]]:
    found: list[dict[str, str]] = box.must("GET", "/api/v1/system")["troubles"]
    return found
