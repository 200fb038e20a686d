# SPDX-License-Identifier: GPL-2.0-or-later
"""Every page of the GUI as it looks on the real appliance: on a desktop and a phone, in light and dark."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from lab.appliance import VIRTUAL_ADDRESS, Appliance, demo_farm
from lab.browser import DESKTOP, PHONE, Window
from lab.gui import Gui
from lab.host import BUILD
from lab.laboratory import Laboratory
from lab.relay import Traffic

PAGES = {
    "dashboard": ("/", "Dashboard"),
    "farms": ("/farms", "Farms"),
    "farm": ("/farms/shop", "shop"),
    "farm-new": ("/farms/new", "New farm"),
    "farm-edit": ("/farms/shop/edit", "Edit shop"),
    "snapshots": ("/snapshots", "Snapshots"),
    "snapshot": ("/snapshots/3", "Snapshot 3"),
    "lists": ("/network-lists", "Network lists"),
    "list": ("/network-lists/edit/office", "Edit list office"),
    "trace": ("/farms/shop/trace", "Trace a connection"),
    "system": ("/system", "System"),
    "link": ("/system/links/enp0s17", "Edit link enp0s17"),
    "secrets": ("/system/secrets", "Secrets"),
    "account": ("/account", "Account"),
}


def test_every_page_fits_every_screen(lab: Laboratory, claimed: Appliance, open_window: Callable[..., Window]) -> None:
    lab.backend("web2").stop()
    claimed.must("PUT", "/api/v1/network-lists/office", {"networks": ["192.0.2.0/24", "2001:db8::/32"]})
    claimed.must("PUT", "/api/v1/secrets/monitoring", {"kind": "text", "value": "correct horse battery"})
    claimed.put_farm("shop", demo_farm(lab.backends))
    intranet = {**demo_farm({"web1": lab.backends["web1"]}), "addresses": ["10.20.0.101"], "ports": [80, 443]}
    claimed.put_farm("intranet", {**intranet, "protocols": ["tcp", "udp"], "scheduler": "weighted"})
    claimed.wait_health("shop", "web2", "unhealthy")
    too_wide = []
    with Traffic(lambda: lab.client.get(VIRTUAL_ADDRESS)):
        for layout, size in (("desktop", DESKTOP), ("phone", PHONE)):
            for scheme in ("light", "dark"):
                window = open_window(size=size, dark=scheme == "dark")
                window.page.goto("/login")
                window.screenshot(BUILD / "screenshots" / f"login-{layout}-{scheme}.png")
                gui = Gui(window.page)
                gui.log_in()
                for name, (path, heading) in PAGES.items():
                    window.page.goto(path)
                    gui.heading(heading)
                    window.screenshot(BUILD / "screenshots" / f"{name}-{layout}-{scheme}.png")
                    width = window.page.evaluate("document.documentElement.scrollWidth")
                    if width > size[0]:
                        too_wide.append(f"{path} needs {width} pixels on a {layout} of {size[0]}")
    assert not too_wide


@pytest.mark.usefixtures("claimed")
@pytest.mark.parametrize("scripts", [True, False], ids=["with-scripts", "without-scripts"])
def test_a_farm_is_created_with_the_keyboard_alone(
    lab: Laboratory, open_window: Callable[..., Window], *, scripts: bool
) -> None:
    window = open_window(scripts=scripts)
    page = window.page
    gui = Gui(page)
    gui.log_in()
    page.goto("/farms/new")
    page.get_by_label("Name").first.focus()
    page.keyboard.type("shop")
    _tab_to(page, "addresses")
    page.keyboard.type(VIRTUAL_ADDRESS)
    _tab_to(page, "ports")
    page.keyboard.type("80")
    _tab_to(page, "backends-0-name")
    page.keyboard.type("web1")
    _tab_to(page, "backends-0-address")
    page.keyboard.type(lab.backends["web1"])
    page.keyboard.press("Enter")

    gui.heading("shop")
    assert lab.client.get(VIRTUAL_ADDRESS) == "web1"


def _tab_to(page: Page, identifier: str) -> None:
    """Press Tab until the element with this id has the focus."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement && document.activeElement.id") == identifier:
            return
    raise AssertionError(f"{identifier} cannot be reached with the keyboard")


def test_the_dashboard_says_when_the_agent_is_gone(lab: Laboratory, claimed: Appliance, window: Window) -> None:
    gui = Gui(window.page)
    window.expect_refusal(502)
    window.expect_refusal(503)
    window.expect_refusal(504)
    claimed.put_farm("shop", demo_farm(lab.backends))
    gui.log_in()
    gui.wait_backend("shop", "web1", "Healthy")

    claimed.run("systemctl", "stop", "sluice-agent.socket", "sluice-agent.service")

    gui.note("The agent does not answer; traffic keeps flowing.")
    assert lab.client.tally(4, VIRTUAL_ADDRESS) == {"web1": 2, "web2": 2}
    window.screenshot(BUILD / "screenshots" / "agent-gone.png")
    # A page that is opened now is served as well.
    window.page.goto("/")
    gui.note("The agent does not answer; traffic keeps flowing.")

    claimed.run("systemctl", "start", "sluice-agent.socket")
    gui.wait_backend("shop", "web1", "Healthy")
