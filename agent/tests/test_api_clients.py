# SPDX-License-Identifier: GPL-2.0-or-later
"""The clients that farms remember: API, client library and command line."""

import json
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from agent.cli import main
from agent.client import Client, Problem
from agent.dataplane import Client as Remembered
from agent.tests.api_world import FARM, World
from agent.tests.command_line import at_hand

FARM_OF_TWO = {
    **FARM,
    "persistence": "address",
    "backends": {"b1": {"address": "192.0.2.21"}, "b2": {"address": "192.0.2.22"}},
}


def remembered(network: str, backend: str, port: int | None = None) -> Remembered:
    return Remembered(ip_network(network), port, backend, 90.0, "sticky4", network)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with at_hand(tmp_path, monkeypatch) as found:
        found.client().put_farm("web", FARM_OF_TWO)
        found.clients.known = [
            remembered("198.51.100.7/32", "b1"),
            remembered("198.51.100.8/32", "b2", 4000),
            remembered("203.0.113.0/24", "b1"),
            remembered("2001:db8::/64", ""),
        ]
        yield found


@pytest.fixture
def client(world: World) -> Client:
    return world.client()


@pytest.mark.parametrize(
    ("query", "clients"),
    [
        ({}, ["198.51.100.7", "198.51.100.8", "203.0.113.0/24", "2001:db8::/64"]),
        ({"backend": "b1"}, ["198.51.100.7", "203.0.113.0/24"]),
        ({"client": "198.51.100.0/24"}, ["198.51.100.7", "198.51.100.8"]),
        ({"client": "203.0.113.9"}, ["203.0.113.0/24"]),
        ({"client": "2001:db8::1"}, ["2001:db8::/64"]),
        ({"client": "198.51.100.8", "backend": "b1"}, []),
    ],
)
def test_clients_are_found_by_network_and_backend(
    world: World, client: Client, query: dict[str, str], clients: list[str]
):
    found = client.clients("web", **query)
    assert [each.client for each in found.clients] == clients
    assert found.total == len(clients)
    assert client.forget_clients("web", **query) == len(clients)
    assert len(world.clients.known) == 4 - len(clients)
    assert client.clients("web", **query).clients == []


def test_a_long_list_is_cut_and_says_so(client: Client):
    found = client.clients("web", limit=1)
    assert (len(found.clients), found.total) == (1, 4)
    assert found.clients[0].expires_s == 90.0
    assert (found.remembered, found.size, found.full) == (4, None, False)


def test_the_size_of_the_farms_own_is_told_and_whether_it_is_full(
    world: World, client: Client, capsys: pytest.CaptureFixture[str]
):
    client.put_farm("web", FARM_OF_TWO | {"persistence_size": 4})
    found = client.clients("web", backend="b1")
    assert (found.total, found.remembered, found.size, found.full) == (2, 4, 4, False)
    client.put_farm("web", FARM_OF_TWO | {"persistence_size": 3})
    assert client.clients("web", backend="b2").full, "three of IPv4"
    assert main(["clients", "web"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "4 remembered, at most 3 of each IP family; new clients of a full family are balanced, and not remembered."
    )


@pytest.mark.parametrize(
    ("farm", "query", "status"),
    [
        ("mail", {}, 404),
        ("web", {"backend": "b3"}, 404),
        ("web", {"client": "nobody"}, 400),
        ("web", {"client": "198.51.100.7/24"}, 400),
    ],
)
def test_what_is_not_there_or_no_network_is_refused(client: Client, farm: str, query: dict[str, str], status: int):
    for ask in (client.clients, client.forget_clients):
        with pytest.raises(Problem) as caught:
            ask(farm, **query)
        assert caught.value.status == status
    assert client.clients("web").total == 4


def test_forgetting_is_in_the_audit_log(world: World, client: Client, monkeypatch: pytest.MonkeyPatch):
    told: list[tuple[str, ...]] = []
    monkeypatch.setattr(world.controller.access, "audit", lambda *words: told.append(words))
    client.forget_clients("web", client="198.51.100.0/24", backend="b1")
    ((who, _source, what, which),) = told
    assert (who, what, which) == ("token provisioned", "forget clients of farm web", "198.51.100.0/24 of b1: 1")


def test_the_command_lists_and_forgets(world: World, capsys: pytest.CaptureFixture[str]):
    assert main(["clients", "web", "--limit", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["198.51.100.7", "b1", "1", "min", "30", "s"]
    assert lines[2].split()[:4] == ["198.51.100.8", "port", "4000", "b2"]
    assert lines[3] == "... and 2 more."
    assert main(["clients", "web", "--backend", "b1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["total"] == 2
    assert main(["clients", "web", "--client", "198.51.100.7", "--forget"]) == 0
    assert capsys.readouterr().out == "Forgotten: 1.\n"
    assert main(["clients", "web", "--client", "x"]) == 1
    assert "must be an address" in capsys.readouterr().err
    assert len(world.clients.known) == 3
