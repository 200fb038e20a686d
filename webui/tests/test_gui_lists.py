# SPDX-License-Identifier: GPL-2.0-or-later
"""Network lists on the pages: made, pasted, chosen by farms, kept while they are used, deleted."""


def count(browser, name):
    return browser.page.one("tr", data_list=name).one("td", data_label="Networks").text


def test_a_list_is_made_chosen_changed_and_deleted(browser, shared_agent):
    client = shared_agent.client()
    assert "There are no network lists yet" in browser.open("/network-lists").text
    browser.open("/network-lists/new")
    typed = "192.0.2.0/25, 198.51.100.7\n2001:db8::/32"
    page = browser.fill({"name": "bad", "description": "Those who knock", "networks": typed})
    assert browser.path == "/network-lists", page.text
    row = page.one("tr", data_list="bad")
    assert "Those who knock 3 none none" in row.text
    assert [str(each) for each in client.network_list("bad").content.networks] == [
        "192.0.2.0/25", "198.51.100.7/32", "2001:db8::/32",
    ]  # fmt: skip
    # A farm chooses it.
    client.put_farm("guarded", {"addresses": ["192.0.2.181"], "ports": [80]})
    browser.open("/farms/guarded/edit")
    page = browser.fill({"deny": ["bad"]}, press="save")
    assert browser.path == "/farms/guarded", page.text
    assert client.farm("guarded").farm.deny == ["bad"]
    assert "Denied clients bad" in page.text
    assert "guarded" in browser.open("/network-lists").one("tr", data_list="bad").text
    # It is kept while the farm uses it.
    page = browser.open("/network-lists/delete/bad")
    assert "cannot be deleted while farms use it: guarded" in page.text
    page = browser.fill({})
    assert "Farm guarded uses it: take it out there first." in page.text
    browser.open("/network-lists/edit/bad")
    browser.fill({"networks": "203.0.113.0/24"})
    assert count(browser, "bad") == "1"
    client.delete_farm("guarded")
    browser.open("/network-lists/delete/bad")
    page = browser.fill({})
    assert "Network list bad is deleted." in page.text


def test_thousands_of_lines_are_pasted_and_one_too_many_is_told(browser, shared_agent):
    lines = [f"2001:db8:{number:x}::/64" for number in range(10_001)]
    browser.open("/network-lists/new")
    browser.fill({"name": "long", "networks": "\n".join(lines)})
    assert browser.faults() == {"networks": "has too many; at most 10000"}
    browser.fill({"name": "long", "networks": "\n".join(lines[1:])})
    assert browser.path == "/network-lists", browser.page.text
    assert count(browser, "long") == "10 000"
    shared_agent.client().delete_network_list("long")


def test_faults_say_which_line(browser):
    browser.open("/network-lists/new")
    page = browser.fill({"name": "Wrong", "networks": "192.0.2.0/24"})
    assert "is no name" in page.text
    page = browser.fill({"name": "wrong", "networks": "192.0.2.0/24 198.51.100.9/24 nonsense"})
    assert '"198.51.100.9/24" has bits set behind its prefix length; the network is 198.51.100.0/24' in page.text
    assert '"nonsense" is not a network' in page.text
