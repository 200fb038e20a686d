# SPDX-License-Identifier: GPL-2.0-or-later
"""Quality of service on the pages: as typed, as shown, and what it dropped."""

import time


def test_ceilings_marks_and_class_are_typed_shown_and_taken_away(browser, shared_agent):
    browser.open("/farms/new")
    given = {"rate_in": "2.5M", "rate_out": "64k", "dscp_in": "af41", "dscp_out": "5", "traffic_class": "interactive"}
    page = browser.fill({"name": "graded", "addresses": "192.0.2.166", "ports": "80", **given}, press="save")
    assert browser.path == "/farms/graded", page.text
    for words in ("2.5Mbit/s", "64kbit/s", "34 (AF41)", "Interactive"):
        assert words in page.text
    # The agent asks the kernel once a second at most.
    deadline = time.monotonic() + 10
    while "Dropped packets: Ceiling to the backends 0, Ceiling to the clients 0." not in page.text:
        assert time.monotonic() < deadline, page.text
        page = browser.open("/farms/graded/live")
    assert page.one(id="without-effect").text == (
        "Its class of traffic, interactive, does nothing: no link has a bandwidth."
    )
    page = browser.open("/farms/graded/edit")
    assert "open" in page.one(id="part-quality").attributes
    assert [page.one(id=name).attributes["value"] for name in ("rate_in", "rate_out", "dscp_in")] == [
        "2.5M",
        "64k",
        "34",
    ]
    browser.fill(
        {"rate_in": "", "rate_out": "", "dscp_in": "", "dscp_out": "", "traffic_class": "normal"}, press="save"
    )
    assert shared_agent.client().farm("graded").farm.packet_features() == ()
    assert "open" not in browser.open("/farms/graded/edit").one(id="part-quality").attributes
    assert "does nothing" not in browser.open("/farms/graded").text


def test_faults_stand_at_their_fields(browser, shared_agent):
    shared_agent.client().put_farm("wrong", {"addresses": ["192.0.2.167"], "ports": [80]})
    browser.open("/farms/wrong/edit")
    browser.fill({"rate_in": "fast", "rate_out": "1k", "dscp_in": "64", "dscp_out": "gold"}, press="save")
    assert set(browser.faults()) == {"rate_in", "rate_out", "dscp_in", "dscp_out"}
