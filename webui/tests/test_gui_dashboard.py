# SPDX-License-Identifier: GPL-2.0-or-later
"""The live pages, and what they do when the agent is gone."""

from datetime import UTC, datetime, timedelta

import pytest
from flask import render_template
from gui_agent import PASSWORD
from gui_browser import Browser, parse

from agent.model.state import BackendNow, FarmNow, StateNow, Traffic
from webui.live import FEW, PAGE, backend_sign, farm_row, overview
from webui.rates import Samples

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def backend(health="healthy", state="enabled", role="active", **traffic: int) -> BackendNow:
    """A backend's state."""
    return BackendNow(
        address="10.0.0.1",
        port=None,
        state=state,
        role=role,
        health=health,
        reason="",
        since=None,
        latency_ms=None,
        weight=1,
        share=1,
        traffic=Traffic(**traffic),
    )


def state(seconds: float, farms: dict[str, FarmNow]) -> StateNow:
    """The state at a time after noon."""
    return StateNow(time=NOON + timedelta(seconds=seconds), snapshot=1, farms=farms, troubles=[])


def farm(status="up", backends=None, **traffic: int) -> FarmNow:
    """A farm's state."""
    return FarmNow(
        status=status,
        addresses=["192.0.2.1"],
        protocols=["tcp"],
        ports=[80],
        scheduler="round-robin",
        forwarding="dnat",
        when_down="reject",
        exact_turn=True,
        traffic=Traffic(**traffic),
        backends=backends or {},
    )


def test_every_farm_and_backend_is_on_the_dashboard_with_its_state_in_a_word(browser, shared_agent):
    client = shared_agent.client()
    client.put_farm(
        "visible",
        {
            "addresses": ["192.0.2.100"],
            "ports": [80],
            "backends": {"on": {"address": "10.3.0.1"}, "out": {"address": "10.3.0.2", "state": "drain"}},
        },
    )
    client.put_farm("hidden", {"enabled": False, "addresses": ["192.0.2.101"], "ports": [80]})
    page = browser.open("/?q=visible")
    card = page.one("article", data_farm="visible")
    assert "Draining" in card.one("tr", data_backend="out").text
    assert "100 %" in card.one("tr", data_backend="on").text
    assert not page.all("article", data_farm="hidden")
    assert browser.open("/?q=10.3.0.2").one("article", data_farm="visible")
    page = browser.open("/?status=disabled&q=hidden")
    assert "Disabled" in page.one("article", data_farm="hidden").text
    assert "No farm matches" in browser.open("/?q=nowhere").text
    fragment = browser.open("/live?q=visible", HX_Request="true")
    assert fragment.one("article", data_farm="visible")
    assert not fragment.all("html")


def test_the_live_region_asks_for_what_the_page_shows(browser):
    region = browser.open("/?q=a%26b&status=down").one(id="live")
    assert region.attributes["hx-get"] == "/live?q=a%26b&status=down"
    assert region.attributes["hx-trigger"] == "every 2s, resume"


def test_a_farms_page_is_live_too(browser, shared_agent):
    shared_agent.client().put_farm("single", {"addresses": ["192.0.2.102"], "ports": [80]})
    page = browser.open("/farms/single")
    assert page.one(id="live").attributes["hx-get"] == "/farms/single/live"
    assert browser.open("/farms/single/live").one("article", data_farm="single")


def test_the_system_page_names_the_links(browser):
    page = browser.open("/system")
    assert "192.0.2.1/24" in page.one(id="link/eth0").text
    assert "Memory" in page.text


def test_a_farms_page_says_whether_it_is_offloaded_and_why_not(browser, shared_agent):
    farm = {"addresses": ["192.0.2.77"], "ports": [80], "backends": {"a": {"address": "192.0.2.78"}}}
    shared_agent.client().put_farm("offloaded", farm)
    browser.open("/farms/offloaded")
    none = "Established connections are not offloaded."
    assert browser.page.one(id="offload").text == f"{none} The appliance has no Ethernet link."  # but virtual ones
    shared_agent.client().put_farm("offloaded", farm | {"offload": False})
    browser.open("/farms/offloaded")
    assert browser.page.one(id="offload").text == f"{none} It is switched off for this farm."
    shared_agent.client().put_farm("offloaded", farm | {"protocols": ["tcp", "sctp"]})
    browser.open("/farms/offloaded")
    told = browser.page.one(id="offload").text
    assert told == f"{none} SCTP cannot be offloaded. The appliance has no Ethernet link."
    browser.open("/system")
    assert "the appliance has no Ethernet link" in browser.page.text


def test_the_system_page_shows_kernel_settings_and_which_of_them_are_wrong(fresh_agent, gui):
    browser = Browser(gui(fresh_agent.claimed()))
    browser.log_in(PASSWORD)
    assert "Kernel settings" not in browser.open("/system").text

    settings = fresh_agent.folder / "sysctl.conf"
    settings.write_text("# What it is.\nkernel.ostype = Linux\n")
    page = browser.open("/system")
    assert "The one setting is as it should be" in page.text
    row = page.one(id="setting/kernel.ostype").text
    assert "Linux" in row
    assert "What it is." in row

    settings.write_text("kernel.ostype = Linux\n# How old it is.\nkernel.osrelease = 0.01\n")
    page = browser.open("/system")
    assert "1 of 2 is not as it should be" in page.text
    assert "should be 0.01" in page.one(id="setting/kernel.osrelease").text
    assert "should be" not in page.one(id="setting/kernel.ostype").text
    # A trouble like any other: it stands on the dashboard, too.
    assert "kernel.osrelease is" in browser.open("/").one(id="troubles").text


def test_when_the_agent_is_gone_the_pages_say_so_and_recover(fresh_agent, gui):
    browser = Browser(gui(fresh_agent.claimed()))
    browser.log_in(PASSWORD)
    assert "hidden" in browser.page.one(id="stale").attributes
    fresh_agent.kill()

    page = browser.open("/")
    assert browser.status == 200
    stale = page.one(id="stale")
    assert "hidden" not in stale.attributes
    assert "The agent does not answer; traffic keeps flowing." in stale.text
    assert str(datetime.now(UTC).year) in stale.one(id="stale-seen").text
    assert page.one(id="live").attributes["hx-get"] == "/live", "it goes on asking"

    for path in ("/live", "/farms", "/farms/new", "/snapshots", "/system"):
        page = browser.open(path)
        assert browser.status == 503
        assert browser.headers["Retry-After"] == "5"
        assert page.one("meta", http_equiv="refresh").attributes["content"] == "5"
        assert "Traffic keeps flowing" in page.text

    stranger = Browser(gui(fresh_agent))
    stranger.open("/login")
    assert stranger.status == 503

    fresh_agent.start()
    browser.open("/")
    assert browser.path == "/", "the session is still good"
    assert "hidden" in browser.page.one(id="stale").attributes


def test_what_was_typed_is_kept_when_the_agent_is_gone(fresh_agent, gui):
    browser = Browser(gui(fresh_agent.claimed()))
    browser.log_in(PASSWORD)
    browser.open("/farms/new")
    fresh_agent.kill()
    page = browser.fill({"name": "patient", "addresses": "192.0.2.5", "ports": "80"}, press="save")
    assert browser.status == 503
    assert "The agent does not answer" in page.one(id="faults").text
    assert page.one(id="name").attributes["value"] == "patient"
    fresh_agent.start()
    browser.fill({}, press="save")
    assert browser.path == "/farms/patient"


def test_rates_are_the_difference_of_two_answers():
    samples = Samples()
    assert samples.add(state(0, {"f": farm(new=100, backends={"b": backend(new=100, bytes_in=1000)})})) == {}
    rates = samples.add(state(2, {"f": farm(new=110, backends={"b": backend(new=110, bytes_in=5000)})}))
    assert rates["f", None].new == 5
    assert rates["f", "b"].bytes_in == 2000
    assert samples.last_seen == NOON + timedelta(seconds=2)


def test_rates_look_back_a_few_seconds_and_no_further():
    samples = Samples()
    for second in range(0, 41, 2):
        rates = samples.add(state(second, {"f": farm(new=second * second)}))
    assert rates["f", None].new == pytest.approx((40**2 - 34**2) / 6)
    assert samples.add(state(100, {"f": farm(new=9999)})) == {}, "after a pause there is nothing to compare with"


def test_two_pages_that_poll_at_once_do_not_disturb_the_rates():
    samples = Samples()
    samples.add(state(0, {"f": farm(new=0)}))
    samples.add(state(2, {"f": farm(new=20)}))
    assert samples.add(state(2.05, {"f": farm(new=21)}))["f", None].new == pytest.approx(21 / 2.05)
    assert samples.add(state(4, {"f": farm(new=40)}))["f", None].new == 10


def test_what_was_made_anew_has_no_rate():
    samples = Samples()
    samples.add(state(0, {"f": farm(new=50), "g": farm(new=1)}))
    rates = samples.add(state(2, {"f": farm(new=3), "g": farm(new=3), "h": farm(new=9)}))
    assert rates["f", None].new is None
    assert rates["g", None].new == 1
    assert rates["h", None].new is None
    assert samples.add(state(-60, {"g": farm(new=4)})) == {}, "the clock was set back"


@pytest.mark.parametrize(
    ("health", "state", "role", "word"),
    [
        ("healthy", "enabled", "active", "Healthy"),
        ("healthy", "enabled", "standby", "Standby"),
        ("unknown", "enabled", "standby", "Standby"),
        ("healthy", "enabled", "full", "Full"),
        ("healthy", "drain", "draining", "Draining"),
        ("unhealthy", "drain", "drained", "Drained"),
        ("unhealthy", "enabled", "failed", "Unhealthy"),
        ("unhealthy", "drain", "failed", "Unhealthy"),
        ("unknown", "disabled", "disabled", "Disabled"),
        ("unknown", "enabled", "active", "Not checked"),
    ],
)
def test_a_backends_sign(health, state, role, word):
    assert backend_sign(backend(health, state, role)).word == word


def test_a_backend_that_starts_slowly_says_so(app):
    starting = backend().model_copy(update={"ramp": 0.3})
    assert backend_sign(starting).word == "Starting"
    now = farm(backends={"a": starting, "b": backend()})
    with app.test_request_context():
        page = parse(
            render_template("farms/live.html", name="f", row=farm_row("f", now, {}), state=state(0, {"f": now}))
        )
    assert page.one(id="farm/f/a/ramp").text == "a Back again; starts slowly, at 30 % of its weight now"
    assert not page.all(id="farm/f/b/ramp")


def test_trouble_comes_first_and_long_lists_have_pages():
    farms = {f"f{i:03}": farm() for i in range(120)} | {
        "zz": farm("down"),
        "yy": farm("degraded"),
        "aa": farm("disabled"),
    }
    shown = overview(state(0, farms), {})
    assert [row.name for row in shown.rows[:3]] == ["zz", "yy", "f000"]
    assert (len(shown.rows), shown.total, shown.pages) == (PAGE, 123, 3)
    last = overview(state(0, farms), {}, page=99)
    assert last.page == 3
    assert last.rows[-1].name == "aa"
    assert overview(state(0, farms), {}, status="down").matching == 1
    assert overview(state(0, farms), {}, search=" F11 ").matching == 10


def test_of_a_large_farm_the_dashboard_shows_a_few_backends_with_trouble_among_them():
    backends = {f"b{i:03}": backend() for i in range(256)} | {
        "b200": backend("unhealthy", role="failed"),
        "b201": backend(state="drain", role="draining"),
    }
    row = overview(state(0, {"f": farm(backends=backends)}), {}).rows[0]
    assert len(row.backends) == FEW
    assert row.more == 256 - FEW
    assert [shown.name for shown in row.backends][-3:] == ["b021", "b200", "b201"]
