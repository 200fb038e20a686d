# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of several kinds, set up in the browser, made by the sandboxed agent against real servers."""

from lab.appliance import VIRTUAL_ADDRESS, Appliance, demo_farm
from lab.browser import Window
from lab.gui import Gui
from lab.laboratory import Laboratory

PACE = {"interval": 1.0, "timeout": 1.0, "rise": 1, "fall": 2}


def test_what_a_server_answers_decides(lab: Laboratory, claimed: Appliance, window: Window) -> None:
    checks = [{"type": "icmp", **PACE}, {"type": "http", "path": "/health", "statuses": ["200"], **PACE}]
    six = {f"{name}-six": {"address": lab.backend(name).address6} for name in lab.backends}
    claimed.put_farm("shop", demo_farm(lab.backends, checks=checks))
    claimed.put_farm("six", demo_farm({}, addresses=["fd00:20::101"], checks=checks) | {"backends": six})
    claimed.wait_healthy("shop", "web1", "web2")
    claimed.wait_healthy("six", *six)
    assert "/health" in {seen.path for seen in lab.backend("web1").seen}
    assert lab.client.tally(4, VIRTUAL_ADDRESS) == {"web1": 2, "web2": 2}

    # A check of another kind is added in the browser; one of the two does not answer as it wants.
    gui = Gui(window.page)
    gui.log_in()
    gui.edit_farm("shop")
    region = window.page.get_by_role("region", name="Checks")
    region.get_by_label("Kind of check").select_option(label="HTTP")
    region.get_by_role("button", name="Add check").click()
    added = region.get_by_role("group", name="HTTP").nth(1)
    added.get_by_label("Body").fill("^web1$")
    for label, value in (("Interval", "1"), ("Timeout", "1"), ("Fall", "2")):
        added.get_by_label(label, exact=True).fill(value)
    gui.commit("only web1 is what it should be")
    gui.heading("shop")
    gui.wait_backend("shop", "web2", "Unhealthy")
    window.page.get_by_text("the body is not as it should be").first.wait_for()
    claimed.wait_health("shop", "web2", "unhealthy")
    assert lab.client.tally(4, VIRTUAL_ADDRESS) == {"web1": 4}


def test_secrets_are_kept_and_never_shown(claimed: Appliance, window: Window) -> None:
    claimed.must("PUT", "/api/v1/secrets/monitoring", {"kind": "text", "value": "correct horse battery"})

    gui = Gui(window.page)
    gui.log_in()
    window.page.goto("/system/secrets")
    gui.heading("Secrets")
    window.page.get_by_text("monitoring").first.wait_for()

    assert "correct horse" not in window.page.content()
    assert "correct horse" not in str(claimed.must("GET", "/api/v1/secrets"))
    assert "correct horse" not in str(claimed.must("GET", "/api/v1/configuration"))
    assert not [entry for entry in claimed.journal() if "correct horse" in entry.message]
