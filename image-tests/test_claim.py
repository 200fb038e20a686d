# SPDX-License-Identifier: GPL-2.0-or-later
"""A box that nobody owns can be taken by whoever stands before its console, and by nobody else."""

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from lab.appliance import ADDRESS, PASSWORD, Appliance
from lab.browser import Window
from lab.gui import Gui
from lab.waiting import wait_until


def test_the_console_shows_how_to_claim(appliance: Appliance) -> None:
    assert appliance.claim_code()
    appliance.machine.console.wait(rf"https://{ADDRESS}", 5)
    # And nothing of it stands where others could read it.
    assert appliance.claim_code() not in "\n".join(entry.message for entry in appliance.journal())


def test_a_stranger_sees_the_setup_page_and_nothing_else(appliance: Appliance, window: Window) -> None:
    window.page.goto("/farms")
    window.page.wait_for_url("**/setup")
    Gui(window.page).heading("Make this appliance yours")
    assert appliance.api("GET", "/api/v1/state").status == 401
    assert appliance.api("GET", "/api/v1/configuration").status == 401


def test_a_stranger_cannot_fill_memory_with_what_nobody_reads(appliance: Appliance) -> None:
    assert appliance.api("POST", "/login", b"x" * 300_000).status == 413, "as the web server holds forms in memory"
    assert appliance.api("PUT", "/api/v1/configuration", b"x" * 30_000_000).status == 401
    assert "buffered to a temporary file" not in "\n".join(entry.message for entry in appliance.journal())


def test_a_wrong_code_is_refused_and_soon_throttled(appliance: Appliance, window: Window) -> None:
    for status in (401, 403, 422, 429):
        window.expect_refusal(status)
    gui = Gui(window.page)
    gui.claim("AAAA-BBBB")
    gui.heading("Make this appliance yours")
    assert window.page.get_by_role("alert").count() or window.page.locator("[aria-invalid=true]").count()

    def told_to_wait_long() -> bool:
        answer = appliance.api("POST", "/api/v1/claim", {"code": "AAAA-BBBB", "password": PASSWORD})
        return answer.status == 429 and int(answer.headers["retry-after"]) >= 6

    # Each failure doubles the wait, until one is long enough that the next request comes well before its end.
    wait_until(told_to_wait_long, "a wait of six seconds", 120)
    last = appliance.api("POST", "/api/v1/claim", {"code": appliance.claim_code(), "password": PASSWORD})
    assert last.status == 429, "whoever guesses has to wait, even if the next guess were right"
    assert int(last.headers["retry-after"]) > 0


def test_a_claimed_box_cannot_be_claimed_again(claimed: Appliance, window: Window) -> None:
    code = claimed.claim_code()
    claimed.token = ""

    assert claimed.api("POST", "/api/v1/claim", {"code": code, "password": "another password"}).status in (403, 409)

    window.page.goto("/setup")
    window.page.wait_for_url("**/login**")


def test_a_wrong_password_is_refused_and_soon_throttled(claimed: Appliance) -> None:
    claimed.token = ""
    wrong = {"user": "admin", "password": "not the password"}
    statuses = [claimed.api("POST", "/api/v1/sessions", wrong).status for _ in range(12)]

    assert statuses[:5] == [401] * 5
    # Not of the last one: each wait ends, and the try that is the first after it is looked at.
    assert 429 in statuses, statuses


@pytest.mark.parametrize("scripts", [True, False], ids=["with-scripts", "without-scripts"])
def test_the_administrator_changes_the_password(
    claimed: Appliance, open_window: Callable[..., Window], *, scripts: bool
) -> None:
    window = open_window(scripts=scripts)
    for status in (401, 403):
        window.expect_refusal(status)
    gui = Gui(window.page)
    gui.log_in()
    gui.change_password("not the password", "another battery staple")
    assert gui.faults_of(window.page.get_by_label("Current password")) == ["this is not the current password"]
    assert claimed.api("GET", "/api/v1/state").status == 200, "nothing has changed yet"

    gui.change_password(PASSWORD, "another battery staple")

    gui.note("The password has changed. One other session has ended.")
    assert claimed.api("GET", "/api/v1/state").status == 401, "the session that was begun elsewhere has ended"
    gui.log_out()
    gui.log_in()
    expect(window.page.get_by_role("alert")).to_contain_text("The user name or the password is wrong.")
    gui.log_in("another battery staple")
    gui.heading("Dashboard")
    claimed.log_in("another battery staple")
