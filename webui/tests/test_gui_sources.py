# SPDX-License-Identifier: GPL-2.0-or-later
"""A farm's source pool on the pages."""


def test_a_pool_is_typed_judged_and_shown(browser, shared_agent):
    page = browser.open("/farms/new")
    assert "open" not in page.one(id="part-source").attributes
    typed = {
        "name": "pooled",
        "addresses": "192.0.2.195",
        "ports": "80",
        "source_pool": "192.0.2.50, 192.0.2.59-192.0.2.51",
    }
    page = browser.fill(typed, press="save")
    assert browser.faults() == {
        "source_pool": '"192.0.2.59-192.0.2.51" is upside down; write the lower address first'
    }, browser.faults()
    assert "open" in page.one(id="part-source").attributes
    browser.fill({"source_pool": "192.0.2.50, 192.0.2.51-192.0.2.59"}, press="save")
    assert "is not possible with `dnat`" in browser.faults()["source_pool"]
    browser.fill({"forwarding": "snat", "source_pool": "192.0.2.50 198.51.100.1"}, press="save")
    assert "198.51.100.1 is in no network of a link" in browser.faults()["source_pool"]
    page = browser.fill({"source_pool": "192.0.2.50, 192.0.2.52/30"}, press="save")
    assert browser.path == "/farms/pooled", page.text
    assert "192.0.2.50 192.0.2.52-192.0.2.55" in page.one(id="main").text
    found = shared_agent.client().farm("pooled").farm.source_pool
    assert [str(each) for each in found] == ["192.0.2.50", "192.0.2.52-192.0.2.55"]
    page = browser.open("/farms/pooled/edit")
    assert "open" in page.one(id="part-source").attributes
    assert page.one(id="source_pool").text == "192.0.2.50 192.0.2.52-192.0.2.55"
    shared_agent.client().delete_farm("pooled")
