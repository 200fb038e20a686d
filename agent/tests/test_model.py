# SPDX-License-Identifier: GPL-2.0-or-later
"""The document as a whole: its defaults, names, versions and bounds."""

import pytest
from documents import FARM, document, faults, pointers

from agent.model import Configuration, parse, validate
from agent.model.rules import MAX_SERVICES


def test_an_empty_document_is_the_default():
    assert validate({}) == parse("{}") == Configuration()


def test_the_smallest_farm():
    farm = validate(document(web={})).farms["web"]
    assert (farm.protocols, farm.forwarding, farm.scheduler, farm.enabled) == (["tcp"], "dnat", "round-robin", True)
    assert (farm.backends["a"].weight, farm.backends["a"].state, farm.backends["a"].port) == (1, "enabled", None)
    assert farm.families == (4,)


def test_every_fault_is_told_at_its_place():
    content = {
        "version": 1,
        "colour": "blue",
        "system": {"hostname": "Not A Name"},
        "farms": {
            "web": {
                "addresses": ["192.0.2.300", "192.0.2.1"],
                "ports": [0, 70000, 80.5, "80", True],
                "protocols": ["icmp"],
                "backends": {"a": {"address": "198.51.100.1", "weight": 0, "state": "gone"}, "b": {}},
                "checks": [{"type": "icmp", "interval": 0}, {"type": "nagios"}],
            },
            "-bad-": FARM,
        },
    }
    assert pointers(content) == sorted(
        [
            "/colour",
            "/farms/-bad-",
            "/farms/web/addresses/0",
            "/farms/web/backends/a/state",
            "/farms/web/backends/a/weight",
            "/farms/web/backends/b/address",
            "/farms/web/checks/0/interval",
            "/farms/web/checks/1/type",
            "/farms/web/ports/0",
            "/farms/web/ports/1",
            "/farms/web/ports/2",
            "/farms/web/ports/3",
            "/farms/web/ports/4",
            "/farms/web/protocols/0",
            "/system/hostname",
        ]
    )


@pytest.mark.parametrize("version", [0, 2, -1, "1", 1.5, 1.0, None, True, 10**4000])
def test_other_versions_are_refused(version):
    assert pointers({"version": version}) == ["/version"]


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a" * 64, "a b", "ä", "a\n", "\n", "a\x00", "../a"])
def test_names_of_farms_and_backends(name):
    assert pointers({"farms": {name: FARM}}) == [f"/farms/{name.replace('/', '~1')}"]
    backends = {name: {"address": "198.51.100.1"}}
    assert len(faults(document(web={"backends": backends}))) == 1


@pytest.mark.parametrize("name", ["", "Eth0", "0eth", "eth 0", "e" * 16, "eth/0", "eth0\n", "../eth0", ".", ".."])
def test_names_of_links(name):
    ((_, message),) = faults({"links": {name: {}}})
    assert "kernel's name" in message


@pytest.mark.parametrize("name", ["", "A", "a..b", ".a", "a.", "a_b", "-a", "a-", "a" * 64, "a\n", ".".join("a" * 9)])
def test_host_names(name):
    assert pointers({"system": {"hostname": name}}) == ["/system/hostname"]


@pytest.mark.parametrize(("field", "value"), [("addresses", "192.0.2.9"), ("ports", 80), ("protocols", "tcp")])
def test_a_value_stands_once(field, value):
    assert pointers(document(web={field: [value, value]})) == [f"/farms/web/{field}"]


def test_documents_do_not_change():
    with pytest.raises(ValueError, match="frozen"):
        Configuration().version = 1


def test_the_services_of_all_farms_are_bounded():
    each = {"ports": list(range(1, 65)), "protocols": ["tcp", "udp"]}
    content = {
        "farms": {
            f"farm-{count}": each | {"addresses": [f"10.{count // 256}.{count % 256}.{host}" for host in range(1, 65)]}
            for count in range(13)
        }
    }
    assert 12 * 64 * 64 * 2 <= MAX_SERVICES < 13 * 64 * 64 * 2
    assert pointers(content) == ["/farms"]
    content["farms"].pop("farm-12")
    validate(content)


def test_ten_thousand_farms_are_a_document():
    farms = {
        f"farm-{count}": {"addresses": [f"10.{count // 250}.{count % 250}.1"], "ports": [80]} for count in range(10_000)
    }
    assert len(validate({"farms": farms}).farms) == 10_000
    farms["one-more"] = {"addresses": ["10.200.1.1"], "ports": [80]}
    assert pointers({"farms": farms}) == ["/farms"]
