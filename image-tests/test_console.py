# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line on the appliance's own console."""

import json

from lab.appliance import PASSWORD, VIRTUAL_ADDRESS, Appliance, demo_farm
from lab.laboratory import Laboratory


def test_the_console_tells_and_rolls_back(lab: Laboratory, claimed: Appliance) -> None:
    before = claimed.snapshot()
    claimed.put_farm("shop", demo_farm(lab.backends))
    claimed.wait_healthy("shop", "web1", "web2")
    console = claimed.machine.console
    console.wait("Press Enter to log in", 30)

    mark = console.mark()
    console.type("\r")
    console.wait(r"User \[admin\]: ", 30, mark)
    console.type("\r")
    console.wait("Password: ", 30, mark)
    console.type(f"{PASSWORD}\r")
    console.wait("sluice> ", 30, mark)
    assert PASSWORD not in console.text, "a password is not shown"

    mark = console.mark()
    console.type("status\r")
    console.wait("web2", 30, mark)
    console.wait("sluice> ", 30, mark)

    mark = console.mark()
    console.type("status --json\r")
    answer = console.wait(r"(?s)(\{.*\})\s*sluice> ", 30, mark).group(1)
    assert "shop" in json.loads(answer)["state"]["farms"]

    mark = console.mark()
    console.type(f"rollback {before}\r")
    console.wait("sluice> ", 30, mark + 10)
    assert claimed.must("GET", "/api/v1/configuration")["farms"] == {}
    assert lab.client.get(VIRTUAL_ADDRESS, timeout=3) not in ("web1", "web2")

    mark = console.mark()
    console.type("exit\r")
    console.wait("Press Enter to log in", 30, mark)


def test_the_console_lets_nobody_in_without_the_password(claimed: Appliance) -> None:
    console = claimed.machine.console
    console.wait("Press Enter to log in", 30)

    mark = console.mark()
    console.type("\r")
    console.wait(r"User \[admin\]: ", 30, mark)
    console.type("root\r")
    console.wait("Password: ", 30, mark)
    console.type("\r")
    console.wait("Press Enter to log in|not|wrong", 30, mark)
    assert "sluice> " not in console.text[mark:]
