# SPDX-License-Identifier: GPL-2.0-or-later
"""The API's endpoints, by the real client over a real socket."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.client import AgentDown, Client, Problem
from agent.model import Configuration, Farm, Fault, PortRange, validate
from agent.tests.api_world import FARM, PASSWORD, World, running


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with running(tmp_path) as found:
        yield found


@pytest.fixture
def client(world: World) -> Client:
    return world.client()


def refused(status: int, call, *arguments, **options) -> Problem:
    with pytest.raises(Problem) as caught:
        call(*arguments, **options)
    assert caught.value.status == status, caught.value.detail
    return caught.value


def test_the_first_configuration_is_snapshot_1(client: Client):
    current = client.configuration()
    assert current.snapshot == 1
    assert current.document == Configuration()


def test_a_commit_makes_a_snapshot_with_author_and_comment(client: Client):
    made = client.commit({"version": 1, "farms": {"web": FARM}}, comment="The first farm: äöü & 100 %", parent=1)
    assert (made.number, made.parent, made.author) == (2, 1, "token provisioned")
    assert made.comment == "The first farm: äöü & 100 %"
    assert made.software == "1.2.3"
    assert client.configuration().document.farms["web"] == Farm.model_validate(FARM)
    assert client.configuration().snapshot == 2


def test_all_faults_are_told_and_nothing_changes(client: Client):
    document = {"farms": {"web": {**FARM, "ports": [0], "addresses": ["x"]}}, "colour": "red"}
    problem = refused(422, client.commit, document)
    assert [fault.pointer for fault in problem.errors] == ["/colour", "/farms/web/addresses/0", "/farms/web/ports/0"]
    assert all(isinstance(fault, Fault) for fault in problem.errors)
    assert client.configuration().snapshot == 1


def test_what_the_kernel_refuses_is_told_with_its_place(world: World, client: Client):
    world.kernel.refuses = {"web"}
    problem = refused(422, client.put_farm, "web", FARM)
    assert problem.errors == [Fault("/farms/web/addresses", "the kernel refuses it: it does not like this")]
    assert client.configuration().snapshot == 1
    refused(422, client.compile, {"farms": {"web": FARM}})


def test_a_commit_from_an_old_snapshot_is_refused_and_names_the_current_one(client: Client):
    client.put_farm("web", FARM)
    problem = refused(412, client.commit, Configuration(), parent=1)
    assert problem.current == 2
    assert "web" in client.farms().farms
    assert client.commit(Configuration(), parent=2).number == 3


def test_farms_one_by_one(client: Client):
    answer = client.request("PUT", "/farms/web", content=FARM, query={"comment": "new"})
    assert answer.status == 201
    assert answer.headers["location"] == "/api/v1/farms/web"
    assert answer.headers["etag"] == '"2"'
    assert client.request("PUT", "/farms/web", content={**FARM, "ports": [80, 443]}).status == 200
    assert client.farm("web").farm.ports == [PortRange(80, 80), PortRange(443, 443)]
    assert client.put_farm("mail", {**FARM, "ports": [25]}).number == 4
    assert sorted(client.farms().farms) == ["mail", "web"]
    assert client.delete_farm("web", comment="gone", parent=4).number == 5
    assert client.farms().snapshot == 5
    assert list(client.farms().farms) == ["mail"]
    refused(404, client.farm, "web")
    refused(404, client.delete_farm, "web")


def test_a_farm_is_checked_against_the_whole_document(client: Client):
    client.put_farm("web", FARM)
    problem = refused(422, client.put_farm, "www", {**FARM, "backends": {"a": {"address": "2001:db8::1"}}})
    assert [fault.pointer for fault in problem.errors] == [
        "/farms/www/addresses/0",
        "/farms/www/addresses/0",
        "/farms/www/backends/a/address",
    ]
    refused(412, client.put_farm, "mail", {**FARM, "ports": [25]}, parent=1)
    assert refused(412, client.delete_farm, "web", parent=1).current == 2


def test_a_farm_of_a_bad_name_shows_the_fault_at_the_name(client: Client):
    for name, place in (("BAD", "/farms/BAD"), ("a b", "/farms/a b"), ("a/b", "/farms/a~1b"), ("é", "/farms/é")):
        assert refused(422, client.put_farm, name, FARM).errors[0].pointer == place
        refused(404, client.farm, name)


def test_the_same_farm_again_makes_no_snapshot(client: Client):
    assert client.put_farm("web", FARM).number == 2
    assert client.put_farm("web", FARM).number == 2
    assert client.snapshots().snapshots[0].number == 2


def test_snapshots_diff_and_rollback(client: Client):
    client.put_farm("web", FARM, comment="one")
    client.put_farm("web", {**FARM, "ports": [81]}, comment="two")
    found = client.snapshots()
    assert [(entry.number, entry.comment) for entry in found.snapshots] == [(3, "two"), (2, "one"), (1, "First start")]
    assert found.in_force == 3
    assert [entry.number for entry in client.snapshots(limit=1, before=3).snapshots] == [2]
    assert client.snapshot(2).document.farms["web"].ports == [PortRange(80, 80)]
    diff = client.diff(2, 3)
    assert (diff.before, diff.to) == (2, 3)
    assert [(change.pointer, change.before, change.after) for change in diff.changes] == [
        ("/farms/web/ports", [80], [81])
    ]
    made = client.rollback(2, parent=3)
    assert made.number == 4
    assert "2" in made.comment
    assert client.farm("web").farm.ports == [PortRange(80, 80)]
    assert client.rollback(3, comment="back again").comment == "back again"
    for call in (lambda: client.snapshot(99), lambda: client.rollback(99), lambda: client.diff(1, 99)):
        refused(404, call)
    assert refused(412, client.rollback, 1, parent=2).current == 5


def test_compile_shows_what_the_kernel_would_hold_and_changes_nothing(world: World, client: Client):
    preview = client.compile({"farms": {"web": FARM}})
    assert "192.0.2.21" in preview.script
    assert client.configuration().snapshot == 1
    refused(422, client.compile, {"farms": {"web": {}}})


def test_compile_shows_the_difference_to_what_the_kernel_holds_now(client: Client):
    client.put_farm("web", FARM)
    assert client.compile({"farms": {"web": FARM}}).difference == ""
    lines = client.compile({"farms": {"web": {**FARM, "ports": [81]}}}).difference.splitlines()
    assert lines == [
        "delete element inet sluice services4 { 192.0.2.10 . tcp . 80 }",
        "add element inet sluice services4 { 192.0.2.10 . tcp . 81 : 1 }",
    ]
    assert client.configuration().snapshot == 2


def test_state_and_system(client: Client):
    client.put_farm("web", FARM)
    state = client.state()
    assert state.snapshot == 2
    assert state.farms["web"].status == "up"
    assert state.farms["web"].backends["web1"].share == pytest.approx(0.5)
    assert state.farms["web"].traffic.active == 4
    system = client.system()
    assert system.product == "Sluice"
    assert [link.name for link in system.links] == ["eth0"]


def test_claim_log_in_and_log_out(world: World):
    anyone = world.client(token=None)
    assert anyone.claimed() is False
    refused(403, anyone.claim, "AAAA-AAAA-AAAA", PASSWORD)
    code = world.controller.access.claim_code
    assert [fault.pointer for fault in refused(422, anyone.claim, code, "short").errors] == ["/password"]
    session = anyone.claim(code, PASSWORD)
    assert session.user == "admin"
    assert anyone.claimed() is True
    refused(409, anyone.claim, code, PASSWORD)

    admin = anyone.acting(token=session.token, source="198.51.100.9")
    assert admin.put_farm("web", FARM).author == "admin"
    admin.logout()
    refused(401, admin.farms)
    assert anyone.login("admin", PASSWORD).token != session.token


def test_wrong_passwords_are_throttled_and_say_until_when(world: World):
    world.admin()
    anyone = world.client(token=None, source="203.0.113.5")
    statuses = []
    for _ in range(30):
        with pytest.raises(Problem) as caught:
            anyone.login("admin", "wrong password")
        statuses.append(caught.value.status)
        if caught.value.status == 429:
            break
    assert statuses[0] == 401
    assert statuses[-1] == 429
    assert caught.value.retry_after >= 1


def test_the_administrator_changes_the_password(world: World):
    admin = world.admin()
    anyone = world.client(token=None)
    other = anyone.acting(token=anyone.login("admin", PASSWORD).token)
    answer = admin.request("PUT", "/password", content={"current": PASSWORD, "new": "a new long password"})
    assert (answer.status, answer.json()) == (200, {"sessions_ended": 1})
    assert admin.system().claimed
    refused(401, other.system)
    assert world.client().system().claimed, "API tokens stay"
    refused(401, anyone.login, "admin", PASSWORD)
    assert anyone.login("admin", "a new long password").user == "admin"
    assert admin.change_password("a new long password", PASSWORD) == 1
    query = "SELECT actor, source, detail FROM audit WHERE action = 'password' ORDER BY number"
    assert world.stored(query) == [("admin", "198.51.100.7", "password changed, other sessions ended: 1")] * 2


def test_a_change_of_the_password_that_is_refused_says_where(world: World):
    admin = world.admin()
    # 403 and not 401: the session holds.
    wrong = refused(403, admin.change_password, "not the password", "a new long password")
    assert [fault.pointer for fault in wrong.errors] == ["/current"]
    weak = refused(422, admin.change_password, PASSWORD, "short")
    assert weak.errors == [Fault("/new", "the password needs at least 10 characters, any you like")]
    assert admin.system().claimed
    assert world.client(token=None).login("admin", PASSWORD).user == "admin"


def test_an_api_token_cannot_change_the_password_and_is_told_who_can(world: World):
    world.admin()
    problem = refused(403, world.client().change_password, PASSWORD, "a new long password")
    assert problem.detail == "An API token cannot change the password; log in, and use the session's token."
    assert problem.errors == []
    refused(401, world.client(token=None).change_password, PASSWORD, "a new long password")
    assert world.client(token=None).login("admin", PASSWORD).user == "admin"


def test_a_session_is_no_way_to_guess_the_password(world: World):
    thief = world.admin().acting(token=world.client(token=None).login("admin", PASSWORD).token, source="203.0.113.5")
    for _ in range(5):
        refused(403, thief.change_password, "not the password", "a new long password")
    assert refused(429, thief.change_password, PASSWORD, "a new long password").retry_after >= 1
    assert world.client(token=None).login("admin", PASSWORD).user == "admin"


def test_a_new_password_that_cannot_be_kept_is_refused(world: World, monkeypatch: pytest.MonkeyPatch):
    from agent.storage import StoreFull

    def full(*arguments, **options):
        raise StoreFull("no space is left on the data partition")

    admin = world.admin()
    with monkeypatch.context() as patch:
        patch.setattr(world.controller.access._vault._disk, "transaction", full)
        refused(507, admin.change_password, PASSWORD, "a new long password")
    assert world.client(token=None).login("admin", PASSWORD).user == "admin"


def test_every_change_is_in_the_audit_log_with_who_and_from_where(world: World):
    admin = world.admin()
    admin.put_farm("web", FARM, comment="why")
    admin.commit({"farms": {"web": FARM, "mail": {**FARM, "ports": [25]}}})
    admin.rollback(1)
    admin.put_farm("dns", {**FARM, "ports": [53]})
    admin.delete_farm("dns")
    query = "SELECT actor, source, action, detail FROM audit WHERE detail LIKE '%snapshot%' ORDER BY number"
    assert world.stored(query) == [
        ("admin", "198.51.100.7", "create farm web", "snapshot 2: why"),
        ("admin", "198.51.100.7", "commit", "snapshot 3"),
        ("admin", "198.51.100.7", "rollback to snapshot 1", "snapshot 4"),
        ("admin", "198.51.100.7", "create farm dns", "snapshot 5"),
        ("admin", "198.51.100.7", "delete farm dns", "snapshot 6"),
    ]


def test_the_console_gets_the_code_and_the_own_addresses(world: World):
    world.host.addresses.append("192.0.2.10/32")
    world.client().put_farm("web", FARM)
    shown = world.client(token=None).console()
    assert shown.claim_code == world.controller.access.claim_code
    assert shown.addresses == ["192.0.2.1", "2001:db8::1"]
    world.admin()
    assert world.client(token=None).console().claim_code is None


def test_nobody_else_gets_the_code(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("agent.api.now.console_uids", lambda: frozenset({54321}))
    problem = refused(403, world.client().console)
    assert str(world.controller.access.claim_code) not in json.dumps(problem.extra) + problem.detail


def test_while_starting_every_endpoint_says_so(tmp_path: Path):
    with running(tmp_path, starts=False) as world:
        for call in (world.client().state, world.client(token=None).claimed, world.client(token=None).console):
            problem = refused(503, call)
            assert problem.retry_after == 2


def test_a_full_disk_is_told_and_changes_nothing(world: World, client: Client, monkeypatch: pytest.MonkeyPatch):
    from agent.snapshots import StoreFull

    def full(*arguments, **options):
        raise StoreFull("no space is left on the data partition")

    monkeypatch.setattr(world.controller.store, "prepare", full)
    assert "No space is left" in refused(507, client.put_farm, "web", FARM).detail
    assert client.configuration().snapshot == 1


def test_what_nobody_foresaw_is_told_by_an_id_only(world: World, client: Client, monkeypatch, caplog):
    async def broken(config):
        raise RuntimeError("secret inner thing")

    monkeypatch.setattr(world.controller, "preview", broken)
    problem = refused(500, client.compile, {})
    assert "secret" not in problem.detail
    number = problem.detail.split()[-1].rstrip(".")
    assert f"Error {number}" in caplog.text
    assert "secret inner thing" in caplog.text


def test_two_who_change_different_farms_at_once_both_win(world: World):
    from concurrent.futures import ThreadPoolExecutor

    names = [f"farm-{number}" for number in range(6)]
    with ThreadPoolExecutor(3) as pool:
        jobs = [
            pool.submit(world.client().put_farm, name, {**FARM, "ports": [8000 + number]})
            for number, name in enumerate(names)
        ]
        for job in jobs:
            job.result()
    assert sorted(world.client().farms().farms) == names


def test_a_large_document_goes_through(client: Client):
    farms = {
        f"farm-{number}": {**FARM, "addresses": [f"192.0.{2 + number // 250}.{number % 250 + 1}"], "ports": [8080]}
        for number in range(1000)
        if not 20 <= number <= 22
    }
    document = {"farms": farms}
    validate(document)
    client.commit(document)
    assert len(client.configuration().document.farms) == len(farms)
    assert len(client.state().farms) == len(farms)


def test_no_agent(tmp_path: Path):
    with pytest.raises(AgentDown, match="not running"):
        Client(tmp_path / "none.sock").state()
