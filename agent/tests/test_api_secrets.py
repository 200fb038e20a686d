# SPDX-License-Identifier: GPL-2.0-or-later
"""Secrets over the API, by the command line, and with the document that names them: at commit, rollback and start."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from secret_world import Document, certificate

from agent.cli import main
from agent.client import Problem
from agent.tests.api_world import PASSWORD, World, running
from agent.tests.command_line import at_hand

VALUE = "hush-hush-9f31"
NAMING = {"version": 1, "alerts": {"night": {"type": "mail", "password": "smtp"}}}


@pytest.fixture(autouse=True)
def _documents_name_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    # What is parsed from here on has the fields of the test's document; no field of the product names a secret yet.
    monkeypatch.setattr("agent.model.text.Configuration", Document)
    monkeypatch.setattr("agent.api.history.Configuration", Document)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with at_hand(tmp_path, monkeypatch) as found:
        yield found


def refused(ask, *arguments, **more) -> Problem:
    with pytest.raises(Problem) as caught:
        ask(*arguments, **more)
    assert VALUE not in str(vars(caught.value))
    return caught.value


def test_secrets_are_set_listed_replaced_and_erased(world: World):
    client = world.client()
    assert client.secrets() == {}
    made, key = certificate()
    assert client.put_secret("smtp", "text", VALUE).kind == "text"
    told = client.put_secret("client", "certificate", made + key)
    assert told.certificates[0].subject == "CN=lb1.example.net, O=Example"
    assert (told.certificates[0].ends - told.certificates[0].begins).days == 30
    answer = client.request("GET", "/secrets").body
    assert sorted(json.loads(answer)) == ["client", "smtp"]
    for hidden in (VALUE, "PRIVATE", "BEGIN"):
        assert hidden.encode() not in answer
    assert client.secrets()["smtp"].used_by == []
    again = client.request("PUT", "/secrets/smtp", content={"kind": "text", "value": "other"})
    assert again.status == 200
    new = client.request("PUT", "/secrets/third", content={"value": "x"})
    assert new.status == 201
    client.delete_secret("smtp")
    assert refused(client.delete_secret, "smtp").status == 404
    actions = [action for (action,) in world.stored("SELECT action FROM audit ORDER BY number")]
    assert actions[-5:] == ["create secret", "create secret", "replace secret", "create secret", "delete secret"]
    assert VALUE not in str(world.stored("SELECT * FROM audit"))


@pytest.mark.parametrize(
    ("name", "content", "status", "pointer", "words"),
    [
        ("Wrong", {"value": VALUE}, 422, "/name", "is no name"),
        ("a", {"value": VALUE + "\n"}, 422, "/value", "control character"),
        ("a", {"kind": VALUE, "value": "text"}, 422, "/kind", "must be text, certificate or authorities"),
        ("a", {"kind": "certificate", "value": VALUE}, 422, "/value", "no private keys"),
        ("a", {"value": [VALUE]}, 422, "/value", "must be a text"),
        ("a", {}, 422, "/value", "is missing"),
        ("a", VALUE, 422, "", "must be an object"),
        ("a", {"value": VALUE * 100_000}, 413, None, "larger than 1048576 bytes"),
    ],
)
def test_faults_name_their_place_and_never_the_value(world: World, name, content, status, pointer, words):
    problem = refused(world.client().request, "PUT", f"/secrets/{name}", content=content)
    assert problem.status == status
    if pointer is not None:
        (fault,) = problem.errors
        assert fault.pointer == pointer
        assert words in fault.message
    else:
        assert words in problem.detail
    assert world.client().secrets() == {}


def test_what_the_document_names_must_be_there_and_stays(world: World):
    client = world.client()
    problem = refused(client.commit, NAMING)
    assert [(fault.pointer, fault.message.split(";")[0]) for fault in problem.errors] == [
        ("/alerts/night/password", "there is no secret smtp that holds a text (there are: none)")
    ]
    assert refused(client.compile, NAMING).status == 422
    client.put_secret("smtp", "authorities", certificate()[0])
    assert "the secret smtp holds CA certificates; name one" in refused(client.commit, NAMING).errors[0].message
    client.put_secret("smtp", "text", VALUE)
    client.commit(NAMING)
    assert client.secrets()["smtp"].used_by == ["/alerts/night/password"]
    assert client.put_secret("smtp", "text", "another").used_by == ["/alerts/night/password"]
    for change in (
        lambda: client.delete_secret("smtp"),
        lambda: client.put_secret("smtp", "authorities", certificate()[0]),
    ):
        problem = refused(change)
        assert problem.status == 409
        assert "The configuration in force names the secret smtp" in problem.detail
        assert [fault.pointer for fault in problem.errors] == ["/alerts/night/password"]
    assert client.system().troubles == []
    client.delete_secret("smtp", force=True)
    (trouble,) = client.system().troubles
    assert (trouble.code, "missing: smtp" in trouble.message) == ("secret-missing", True)


def test_a_rollback_to_what_names_a_secret_that_is_gone_is_refused_by_name(world: World):
    client = world.client()
    client.put_secret("smtp", "text", VALUE)
    number = client.commit(NAMING).number
    client.commit({"version": 1})
    client.delete_secret("smtp")
    problem = refused(client.rollback, number)
    assert problem.status == 422
    assert "there is no secret smtp" in problem.errors[0].message
    client.put_secret("smtp", "text", "another")
    assert client.rollback(number).number == number + 2


def test_no_value_is_in_documents_snapshots_or_differences(world: World):
    client = world.client()
    client.put_secret("smtp", "text", VALUE)
    number = client.commit(NAMING).number
    for path in (
        "/configuration",
        f"/snapshots/{number}",
        f"/snapshots/1/diff/{number}",
        "/state",
        "/system",
        "/metrics",
    ):
        assert VALUE.encode() not in client.request("GET", path).body


def test_a_document_whose_secret_is_gone_is_in_force_after_a_start_and_says_so(tmp_path: Path):
    with running(tmp_path) as world:
        world.client().put_secret("smtp", "text", VALUE)
        number = world.client().commit(NAMING).number
    (tmp_path / "secrets.db").unlink()
    with running(tmp_path) as world:
        assert world.client().system().snapshot == number
        codes = [trouble.code for trouble in world.client().system().troubles]
        assert codes == ["secret-missing"]
        world.client().put_secret("smtp", "text", VALUE)
        assert world.client().system().troubles == []


def test_a_stranger_gets_nothing(world: World):
    for method, path in (("GET", "/secrets"), ("PUT", "/secrets/a"), ("DELETE", "/secrets/a")):
        assert refused(world.client(token="no").request, method, path).status == 401


# The command line


def given(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def test_the_command_line_reads_values_from_standard_input(world: World, monkeypatch, capsys):
    assert main(["secrets"]) == 0
    assert capsys.readouterr().out == "There are no secrets.\n"
    given(monkeypatch, VALUE + "\n")
    assert main(["secret", "set", "smtp"]) == 0
    assert world.controller.access.named.text("smtp") == VALUE
    made, key = certificate()
    given(monkeypatch, made + key)
    assert main(["secret", "set", "client", "--kind", "certificate"]) == 0
    assert "CN=lb1.example.net, O=Example, expires 20" in capsys.readouterr().out
    world.client().commit(NAMING)
    assert main(["secrets"]) == 0
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if line.startswith("smtp")).split()
    assert (line[1], line[-1]) == ("text", "/alerts/night/password")
    assert main(["secret", "delete", "smtp"]) == 1
    assert "/alerts/night/password: names the secret smtp" in capsys.readouterr().err
    assert main(["secret", "delete", "smtp", "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"deleted": "smtp"}
    given(monkeypatch, "\n")
    assert main(["secret", "set", "smtp"]) == 1
    assert "The value is empty." in capsys.readouterr().err


def test_at_a_terminal_a_value_is_typed_twice_and_not_shown(world: World, monkeypatch, capsys):
    asked = []

    def typed(words: str) -> str:
        asked.append(words)
        return PASSWORD if len(asked) != 4 else "a slip"

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", typed)
    assert main(["secret", "set", "smtp"]) == 0
    assert asked == ["New value: ", "Repeat the new value: "]
    assert world.controller.access.named.text("smtp") == PASSWORD
    assert main(["secret", "set", "smtp"]) == 1
    assert "the two new values differ; nothing has changed" in capsys.readouterr().err
    assert main(["secret", "set", "ours", "--kind", "authorities"]) == 1
    assert "certificates come from a file" in capsys.readouterr().err
