# SPDX-License-Identifier: GPL-2.0-or-later
"""Claim, log in, log out, change the password, and who gets in."""

import pytest
from gui_agent import PASSWORD
from gui_browser import Browser

from agent.client import Client, Problem


def test_an_unclaimed_box_is_claimed_with_the_code_of_its_console(fresh_agent, gui):
    browser = Browser(gui(fresh_agent))
    browser.open("/farms")
    assert browser.path == "/setup", "everything leads to the set-up page"

    browser.fill({"code": "WRONG-CODE", "password": PASSWORD, "repeat": PASSWORD})
    assert browser.status == 403
    assert "not the code" in browser.faults()["code"]

    browser.fill({"code": fresh_agent.claim_code, "password": PASSWORD, "repeat": PASSWORD + "x"})
    assert browser.faults() == {"repeat": "The two passwords differ."}

    browser.fill({"code": fresh_agent.claim_code, "password": "short", "repeat": "short"})
    assert browser.status == 422
    assert "password" in browser.faults()

    page = browser.fill({"code": f" {fresh_agent.claim_code} ", "password": PASSWORD, "repeat": PASSWORD})
    assert browser.path == "/", page.text
    assert "Create your first farm" in page.text

    later = Browser(gui(fresh_agent))
    later.open("/setup")
    assert later.path == "/login", "nobody can claim it again"


def test_no_page_repeats_a_password(fresh_agent, gui):
    browser = Browser(gui(fresh_agent))
    browser.open("/setup")
    page = browser.fill({"code": "", "password": "seen-by-nobody", "repeat": "seen-by-nobody"})
    assert "code" in browser.faults()
    assert not any("seen-by-nobody" in str(node.attributes) for node in page.walk())


def test_log_in_and_out(stranger):
    stranger.open("/snapshots?before=7")
    assert stranger.path == "/login"
    stranger.fill({"user": "admin", "password": PASSWORD})
    assert stranger.path == "/snapshots", "back to where it was going"

    token_cookie = stranger.cookie("__Host-sluice")
    page = stranger.page.one(class_="who")
    csrf = page.one("input").attributes["value"]
    stranger.post("/logout", {"csrf": csrf})
    assert stranger.path == "/login"
    assert stranger.cookie("__Host-sluice") != token_cookie
    stranger.open("/")
    assert stranger.path == "/login"


def test_log_out_ends_the_session_at_the_agent_too(app, shared_agent):
    browser = Browser(app)
    browser.log_in(PASSWORD)
    client = Client(shared_agent.socket, token=browser.token)
    assert client.system().claimed
    browser.post("/logout", {"csrf": browser.csrf()})
    with pytest.raises(Problem) as refused:
        client.system()
    assert refused.value.status == 401


def test_a_session_that_the_agent_ended_leads_to_the_log_in_page(app, shared_agent):
    browser = Browser(app)
    browser.log_in(PASSWORD)
    Client(shared_agent.socket, token=browser.token).logout()
    browser.open("/farms")
    assert browser.path == "/login"
    browser.fill({"user": "admin", "password": PASSWORD})
    assert browser.path == "/farms"


def test_a_live_fragment_without_a_session_asks_the_page_to_load_anew(stranger):
    answer = stranger.raw("GET", "/live", headers={"HX-Request": "true"})
    assert answer.status_code == 401
    assert answer.headers["HX-Refresh"] == "true"


def test_a_wrong_password_is_told_without_saying_which(fresh_agent, gui):
    browser = Browser(gui(fresh_agent.claimed()))
    for user in ("admin", "nobody"):
        browser.open("/login")
        page = browser.fill({"user": user, "password": "not this one"})
        assert browser.status == 401
        assert "The user name or the password is wrong." in page.text


def test_too_many_tries_are_told_with_the_time_to_wait(fresh_agent, gui):
    browser = Browser(gui(fresh_agent.claimed()))
    for _ in range(30):
        browser.open("/login")
        page = browser.fill({"user": "admin", "password": "guess"})
        if browser.status == 429:
            break
    assert browser.status == 429
    assert int(browser.headers["Retry-After"]) > 0
    assert "There were too many tries. Wait" in page.text


@pytest.mark.parametrize(
    "target",
    [
        "https://elsewhere.test/",
        "//elsewhere.test/",
        "/\\elsewhere.test",
        "/\t/elsewhere.test",
        "\\\\elsewhere.test",
        "javascript:alert(1)",
        "/" + "a" * 600,
    ],
)
def test_nobody_is_sent_elsewhere_after_logging_in(stranger, target):
    stranger.open("/login")
    csrf = stranger.page.one("main").one("form").one(id="csrf").attributes["value"]
    answer = stranger.raw("POST", "/login", data={"csrf": csrf, "user": "admin", "password": PASSWORD, "next": target})
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/"


NEW_PASSWORD = "a battery of staples"


def change(browser, current, new, repeat=None):
    """Send the form of the account's page."""
    browser.open("/account")
    return browser.fill({"current": current, "new": new, "repeat": new if repeat is None else repeat})


def test_the_password_is_changed_on_the_page_of_the_account(fresh_agent, gui):
    app = gui(fresh_agent.claimed())
    browser, elsewhere = Browser(app), Browser(app)
    for one in (browser, elsewhere):
        one.log_in(PASSWORD)
    elsewhere.open("/farms")
    link = browser.page.one(class_="who").one("a", href="/account")
    assert link.attributes["aria-label"] == "Account: admin"
    page = browser.open("/account")
    assert page.one(class_="who").one("a").attributes["aria-current"] == "page"
    assert page.one("main").one("strong").text == "admin"

    # The one of the claim, and `elsewhere`.
    page = browser.fill({"current": PASSWORD, "new": NEW_PASSWORD, "repeat": NEW_PASSWORD})
    assert (browser.path, browser.status) == ("/account", 200)
    assert page.one(role="status").text == "The password has changed. 2 other sessions have ended."
    assert not browser.open("/account").all(role="status"), "told once"
    elsewhere.open("/farms")
    assert elsewhere.path == "/login"
    elsewhere.fill({"user": "admin", "password": PASSWORD})
    assert elsewhere.status == 401
    elsewhere.fill({"user": "admin", "password": NEW_PASSWORD})
    assert elsewhere.path == "/farms"

    page = change(browser, NEW_PASSWORD, PASSWORD)
    assert "One other session has ended." in page.one(role="status").text
    page = change(browser, PASSWORD, NEW_PASSWORD)
    assert "There was no other session." in page.one(role="status").text


def test_faults_of_a_change_stand_at_their_fields_and_nothing_changes(fresh_agent, gui):
    browser = Browser(gui(fresh_agent.claimed()))
    browser.log_in(PASSWORD)
    seen = []
    for current, new, repeat, status, faults in (
        ("", "", "", 422, {"current": "Type your current password.", "new": "Choose a new password."}),
        (PASSWORD, NEW_PASSWORD, PASSWORD, 422, {"repeat": "The two new passwords differ."}),
        (PASSWORD, "short", "short", 422, {"new": "the password needs at least 10 characters, any you like"}),
        (PASSWORD, "\N{KEY}" * 65, None, 422, {"new": "the password may take at most 256 bytes"}),
        (PASSWORD, "x" * 1025, None, 422, {"new": "is too long"}),
        ("x" * 1025, NEW_PASSWORD, None, 422, {"current": "is too long"}),
        ("wrong", NEW_PASSWORD, None, 403, {"current": "this is not the current password"}),
    ):
        page = change(browser, current, new, repeat)
        assert browser.status == status
        assert browser.faults() == faults
        links = page.one(id="faults").all("a")
        assert [link.attributes["href"] for link in links] == [f"#{name}" for name in faults]
        seen += [str(node.attributes) for node in page.walk()]
    for secret in (PASSWORD, NEW_PASSWORD):
        assert not any(secret in text for text in seen), "no page repeats a password"
    assert "At least 10 characters" in browser.page.one(id="new-help").text
    assert Client(fresh_agent.socket).login("admin", PASSWORD).user == "admin"


def test_guesses_of_the_current_password_have_to_wait(fresh_agent, gui):
    browser = Browser(gui(fresh_agent.claimed()))
    browser.log_in(PASSWORD)
    for _ in range(5):
        change(browser, "guess", NEW_PASSWORD)
        assert browser.status == 403
    page = change(browser, PASSWORD, NEW_PASSWORD)
    assert browser.status == 429
    assert int(browser.headers["Retry-After"]) > 0
    assert "There were too many tries. Wait" in page.text
    browser.open("/farms")
    assert browser.path == "/farms", "still logged in"


def test_the_account_is_for_those_who_are_logged_in(stranger, app, shared_agent):
    stranger.open("/account")
    assert stranger.path == "/login"
    browser = Browser(app)
    browser.log_in(PASSWORD)
    browser.open("/account")
    Client(shared_agent.socket, token=browser.token).logout()
    browser.fill({"current": PASSWORD, "new": NEW_PASSWORD, "repeat": NEW_PASSWORD})
    assert browser.path == "/login", "the session had ended"
    assert Client(shared_agent.socket).login("admin", PASSWORD).user == "admin"


def test_without_an_agent_the_account_says_what_is_not_known(fresh_agent, gui):
    browser = Browser(gui(fresh_agent.claimed()))
    browser.log_in(PASSWORD)
    browser.open("/account")
    fresh_agent.kill()
    page = browser.fill({"current": PASSWORD, "new": NEW_PASSWORD, "repeat": NEW_PASSWORD})
    assert browser.status == 503
    assert "The next log-in tells whether the password has changed." in page.one(id="faults").text
