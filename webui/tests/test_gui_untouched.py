# SPDX-License-Identifier: GPL-2.0-or-later
"""A form that nobody touched changes nothing, whatever a farm says."""

from typing import Any, Literal, get_args, get_origin

import pytest
from gui_agent import FARM

from agent.model import CHECKS, Backend, Farm, SorryServer, validate
from agent.tests.secret_world import certificate

CHECK = {"interval": 0.7, "timeout": 0.3, "rise": 1, "fall": 100, "retry_interval": 0.5}
CHECK |= {"address": "10.1.0.77", "invert": True}
HTTP = {
    "type": "http",
    "port": 8080,
    "method": "HEAD",
    "path": "/health?full=1",
    "host": "www.example.com",
    "headers": {"X-Probe": "one two", "X-Empty": ""},
    "statuses": ["200", "300-399"],
    "redirects": "follow",
    "body": "^ok, all of it$",
}
UDP = {"type": "udp", "port": 514, "send": "0d 0a", "encoding": "hex", "expect": "^ok"}
EXPECT = UDP | {"type": "expect", "banner": "^220[ -]"}
SMTP = {"type": "smtp", "port": 25, "ehlo": "lb1.example.com", "starttls": True}
DNS = {"type": "dns", "port": 53, "name": "example.com", "record": "MX", "expect": "^10"}
OTHERS = [
    DNS,
    DNS | {"rcode": "REFUSED", "expect": None},
    SMTP,
    EXPECT,
    UDP,
    UDP | {"answer": "optional", "expect": None},
]
TLS = {
    "port": 8443,
    "authorities": "untouched-ca",
    "server_name": "www.example.com",
    "certificate": "untouched-client",
    "warn_days": 30,
    "fail_days": 7,
}
BACKEND = {"address": "10.1.0.1", "port": 8080, "weight": 7, "tier": 3, "max_connections": 1000, "state": "drain"}
LISTS = {"untouched-in": {"networks": ["192.0.2.0/24"]}, "untouched-out": {"networks": ["198.51.100.0/24"]}}

FARMS: dict[str, dict[str, Any]] = {
    "untouched-hash": {
        "addresses": ["192.0.2.230", "192.0.2.31", "2001:db8::30"],
        "enabled": False,
        "protocols": ["tcp", "udp"],
        "ports": [53, "8000-8099", 443],
        "forwarding": "snat",
        "source_pool": ["192.0.2.50", "192.0.2.52-192.0.2.55", "2001:db8:2::100/125"],
        "scheduler": "source-hash",
        "hash_port": True,
        "hash_backends": 4,
        "hash_prefix4": 24,
        "hash_prefix6": 64,
        "persistence": "address-port",
        "persistence_timeout": 60,
        "persistence_prefix4": 16,
        "persistence_prefix6": 48,
        "persistence_size": 5000,
        "persistence_static": {"198.51.100.0/24": "b1", "203.0.113.7": "b2", "2001:db8:7::/48": "six"},
        "flow_timeout": 600,
        "flow_timeout_udp": 60,
        "minimum_active": 2,
        "on_failure": "cut",
        "drain_timeout": 86400,
        "when_down": "drop",
        "offload": False,
        "sorry_servers": [{"address": "10.1.0.9", "port": 8081}, {"address": "2001:db8:1::9"}],
        "limit_rate": 50,
        "limit_burst": 70,
        "limit_connections": 8,
        "limit_prefix4": 24,
        "limit_prefix6": 56,
        "limit_action": "reject",
        "limit_resets": 3,
        "strict_tcp": True,
        "log_prefix": "443",
        "log_rate": 5,
        "allow": ["untouched-in"],
        "deny": ["untouched-out"],
        "rate_in": 20_000_001,
        "rate_out": 1_500_000_000,
        "dscp_in": 46,
        "dscp_out": 63,
        "traffic_class": "bulk",
        "checks": [
            CHECK | {"port": 53},
            CHECK | {"port": 54, "interval": 9},
            CHECK | {"type": "icmp"},
            CHECK | HTTP,
            CHECK | TLS | {"type": "tls"},
            CHECK | HTTP | TLS | {"type": "https"},
        ],
        "backends": {
            "b1": BACKEND,
            "b2": {"address": "10.1.0.2", "state": "disabled"},
            "six": {"address": "2001:db8:1::1", "port": 80},
        },
    },
    "untouched-weights": {
        "addresses": ["192.0.2.232"],
        "scheduler": "weighted",
        "slow_start": 30,
        "rate_in": 64_000,
        "dscp_in": 0,
        "dscp_out": 0,
        "log_rate": 1,
        "checks": [CHECK | kind for kind in OTHERS],
        "backends": {f"b{i}": {"address": f"10.1.0.{i}", "weight": i, "port": 1000 + i} for i in range(1, 60)},
    },
    "untouched-all": {"addresses": ["192.0.2.233"], "protocols": ["all"], "ports": ["all"], "scheduler": "priority"},
    "untouched-stateless": {
        "addresses": ["192.0.2.234"],
        "protocols": ["sctp"],
        "forwarding": "stateless",
        "backends": {"b": {"address": "192.0.2.134", "port": 81}},
    },
    "untouched-direct": {"addresses": ["192.0.2.235"], "ports": ["9000-9010"], "forwarding": "direct"},
}
"""Farms that together say something else than the default in every field; what excludes each other is apart."""


def test_every_field_says_something_else_than_its_default():
    document = validate({"farms": {name: FARM | farm for name, farm in FARMS.items()}, "network_lists": LISTS})
    farms = document.farms.values()
    parts = {
        Farm: list(farms),
        Backend: [backend for farm in farms for backend in farm.backends.values()],
        SorryServer: [server for farm in farms for server in farm.sorry_servers],
        **{
            kind: [check for farm in farms for check in farm.checks if isinstance(check, kind)]
            for kind in CHECKS.values()
        },
    }
    same = {
        f"{kind.__name__}.{name}"
        for kind, those in parts.items()
        for name, field in kind.model_fields.items()
        if all(getattr(each, name) == field.get_default(call_default_factory=True) for each in those)
        and not (get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1)
    }
    assert same == set(), "say something in these fields, too"


@pytest.fixture
def untouched(shared_agent):
    """Commits a farm by its name; afterwards it is gone, and so are its lists, which other tests do not know."""
    client = shared_agent.client()
    for name, content in LISTS.items():
        client.put_network_list(name, content)
    pem, key = certificate()
    for name, kind, value in (("untouched-ca", "authorities", pem), ("untouched-client", "certificate", pem + key)):
        client.put_secret(name, kind, value)
    made = []

    def put(name):
        client.put_farm(name, FARM | FARMS[name])
        made.append(name)
        return client

    yield put
    for name in made:
        client.delete_farm(name)
    for name in LISTS:
        client.delete_network_list(name)
    for name in ("untouched-ca", "untouched-client"):
        client.delete_secret(name)


@pytest.mark.parametrize("name", FARMS)
def test_a_form_that_nobody_touched_changes_nothing(browser, untouched, name):
    client = untouched(name)
    before = client.farms()
    browser.open(f"/farms/{name}/edit")
    browser.fill({}, press="save")
    assert browser.path == f"/farms/{name}", browser.page.text
    assert "Nothing was changed" in browser.page.text
    after = client.farms()
    assert after.farms[name] == before.farms[name]
    assert after.snapshot == before.snapshot
