# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line, against a real agent and without one."""

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli import main
from agent.cli.commands import COMMANDS
from agent.cli.text import count, duration, outline, plain, size, table
from agent.system.tuning import KernelSettings
from agent.tests.api_world import FARM, PASSWORD, TOKEN, World
from agent.tests.command_line import ROOT, at_hand, document, run


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with at_hand(tmp_path, monkeypatch) as found:
        yield found


def test_kernel_shows_settings_and_which_of_them_are_wrong(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    assert main(["kernel"]) == 0
    assert "not Sluice's on this machine" in capsys.readouterr().out

    (tmp_path / "sysctl.conf").write_text("kernel.ostype = Linux\nkernel.osrelease = 0.01\nkernel.none = 1\n")
    world.controller._settings = KernelSettings([tmp_path / "sysctl.conf"])
    assert main(["kernel"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    release = os.uname().release
    assert lines[1:] == [
        ["kernel.ostype", "Linux", "Linux"],
        ["!", "kernel.osrelease", release, "0.01"],
        ["!", "kernel.none", "not", "there", "1"],
    ]
    assert main(["kernel", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[1]["value"] == release
    # And it is told with everything else that is wrong.
    assert main(["status"]) == 0
    assert f"! Kernel settings are not as they should be: kernel.osrelease is {release}" in capsys.readouterr().out


def test_every_command_prints_json(world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    world.client().put_farm("web", FARM)
    name = document(tmp_path, {"farms": {"mail": {**FARM, "ports": [25]}}})
    other = str(tmp_path / "other.json")
    Path(other).write_text(json.dumps(FARM | {"ports": [81]}))
    for arguments, key in (
        (["status"], "state"),
        (["show"], "farms"),
        (["show", "web"], "backends"),
        (["farm", "show", "web"], "backends"),
        (["farm", "put", "other", other], "digest"),
        (["farm", "delete", "other"], "digest"),
        (["show", "--snapshot", "1"], "system"),
        (["snapshots"], "in_force"),
        (["diff", "1", "2"], "changes"),
        (["rollback", "1"], "digest"),
        (["apply", name], "digest"),
        (["compile", name], "sets"),
    ):
        assert main([*arguments, "--json"]) == 0
        assert key in json.loads(capsys.readouterr().out)


def test_every_command_is_in_the_manual():
    manual = (ROOT / "docs" / "cli.md").read_text()
    for command in COMMANDS:
        actions = ("show ", "put ", "delete ") if command.name == "farm" else ("",)
        assert all(re.search(rf"^\| `{command.name}[ `]{action}", manual, re.MULTILINE) for action in actions)


def test_one_farm_is_shown_changed_and_deleted(world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    world.client().put_farm("web", FARM)
    assert main(["farm", "show", "web"]) == 0
    web = json.loads(capsys.readouterr().out)
    web["backends"]["web3"] = {"address": "192.0.2.23"}
    name = document(tmp_path, web)
    assert main(["farm", "put", "web", name, "--comment", "one more", "--parent", "2"]) == 0
    assert capsys.readouterr().out.startswith("Snapshot 3 is in force: one more\n")
    assert sorted(world.client().farm("web").farm.backends) == ["web1", "web2", "web3"]
    # A program's output is a farm, too.
    done = run("farm", "put", "a b/c", SLUICE_SOCKET=str(world.socket), SLUICE_TOKEN=TOKEN, given=json.dumps(web))
    assert (done.returncode, done.stdout) == (1, "")
    assert "/farms/a b~1c" in done.stderr
    done = run(
        "farm",
        "put",
        "mail",
        SLUICE_SOCKET=str(world.socket),
        SLUICE_TOKEN=TOKEN,
        given=json.dumps(web | {"ports": [25]}),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert main(["farm", "delete", "web", "--comment", "gone"]) == 0
    assert list(world.client().farms().farms) == ["mail"]
    capsys.readouterr()
    # What is refused changes nothing, and every fault is told.
    web["ports"] = [0]
    web["colour"] = 1
    assert main(["farm", "put", "mail", document(tmp_path, web)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines[1:]] == ["/farms/mail/colour", "/farms/mail/ports/0"]
    for arguments, words in (
        (["show", "web"], "There is no farm"),
        (["delete", "web"], "There is no farm"),
        (["delete", "mail", "--parent", "1"], "Snapshot 5 is in force by now"),
        (["delete", "mail", name], "delete takes no file"),
        (["put", "mail", str(tmp_path / "none")], "can't read"),
    ):
        assert main(["farm", *arguments]) == 1
        assert words in capsys.readouterr().err
    assert world.client().farm("mail").farm.ports[0].first == 25


def test_show_snapshots_diff_and_rollback(world: World, capsys: pytest.CaptureFixture[str]):
    world.client().put_farm("web", FARM, comment="The first farm")
    assert main(["show", "web"]) == 0
    out = capsys.readouterr().out
    assert "ports: 80" in out
    assert "    address: 192.0.2.21" in out
    assert main(["snapshots"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:2] == ["*", "2"]
    assert "The first farm" in lines[1]
    assert main(["diff", "1", "2"]) == 0
    assert capsys.readouterr().out.startswith("+ /farms/web: {")
    assert main(["rollback", "1", "--comment", "no farm"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Snapshot 3 is in force: no farm",
        "`rollback 2` brings back what was in force before.",
    ]
    assert main(["rollback", "2", "--parent", "1"]) == 1
    assert "3" in capsys.readouterr().err


def test_apply_puts_a_file_in_force_or_says_every_fault(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    assert main(["apply", document(tmp_path, {"farms": {"web": FARM}}), "--comment", "from a file"]) == 0
    assert world.client().snapshots().snapshots[0].comment == "from a file"
    assert main(["apply", document(tmp_path, {"colour": 1, "farms": {"web": {}}})]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines[1:]] == ["/colour", "/farms/web/addresses", "/farms/web/ports"]
    assert main(["apply", document(tmp_path, {"colour": 1}), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["errors"][0]["pointer"] == "/colour"


def test_without_a_token_it_says_how_to_give_one(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("SLUICE_TOKEN")
    assert main(["status"]) == 1
    assert "SLUICE_TOKEN" in capsys.readouterr().err
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    monkeypatch.setenv("SLUICE_TOKEN_FILE", str(file))
    assert main(["status"]) == 0
    for hostile in ("two\nlines", "\u2192", " "):
        monkeypatch.setenv("SLUICE_TOKEN", hostile)
        assert main(["status"]) == 1
        assert "one line of ASCII" in capsys.readouterr().err
    monkeypatch.delenv("SLUICE_TOKEN")
    monkeypatch.setenv("SLUICE_TOKEN_FILE", str(tmp_path / "none"))
    assert main(["status"]) == 1
    assert "can't read the token" in capsys.readouterr().err


def at_a_terminal(*arguments: str, typed: bytes, **environment: str) -> tuple[int, str, str]:
    """Exit status, what the terminal shows, and standard output of a command in front of which somebody sits."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "agent", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **environment},
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        shown = b""
        for line in typed.splitlines(keepends=True):
            # A prompt ends with a space; what is typed before it would be thrown away.
            while not shown.endswith(b": "):
                shown += os.read(ours, 4096)
            os.write(ours, line)
            shown += b"|"
        out = process.stdout.read().decode()
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            while more := os.read(ours, 4096):
                shown += more
        os.close(ours)
        return process.wait(60), shown.decode(), out


def test_the_password_is_changed_at_a_terminal_with_a_session(world: World):
    token = world.admin().token or ""
    new = "a new long password"
    environment = {"SLUICE_SOCKET": str(world.socket), "SLUICE_TOKEN": token}
    typed = f"{PASSWORD}\n{new}\n{new}\n".encode()
    status, shown, out = at_a_terminal("password", "--json", typed=typed, **environment)
    assert (status, json.loads(out)) == (0, {"sessions_ended": 0})
    assert PASSWORD not in shown
    assert new not in shown
    assert world.client(token=None).login("admin", new).user == "admin"
    # The old one, and the end of input in the middle.
    status, shown, out = at_a_terminal("password", typed=typed, **environment)
    assert (status, out) == (1, "")
    assert shown.count("This is not the current password.") == 1
    status, shown, _ = at_a_terminal("password", typed=b"x\n\x04", **environment)
    assert status == 1
    assert "nothing was typed; nothing has changed" in shown


def test_the_password_is_changed_by_no_program_and_no_api_token(world: World):
    world.admin()
    done = run("password", SLUICE_SOCKET=str(world.socket), SLUICE_TOKEN=TOKEN)
    assert done.returncode == 1
    assert "PUT /api/v1/password" in done.stderr
    typed = f"{PASSWORD}\n{PASSWORD}\n{PASSWORD}\n".encode()
    status, shown, _ = at_a_terminal("password", typed=typed, SLUICE_SOCKET=str(world.socket), SLUICE_TOKEN=TOKEN)
    assert status == 1
    assert "An API token cannot change the password; log in, and use the session's token." in shown


def test_no_agent_is_told_in_words(tmp_path: Path):
    done = run("status", SLUICE_SOCKET=str(tmp_path / "none.sock"))
    assert done.returncode == 3
    assert "not running" in done.stderr
    assert "Traceback" not in done.stderr
    done = run("status", "--json", SLUICE_SOCKET=str(tmp_path / "none.sock"))
    assert done.returncode == 3
    assert "not running" in json.loads(done.stdout)["detail"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["rollback"],
        ["rollback", "x"],
        ["rollback", "0"],
        ["diff", "1"],
        ["status", "--colour"],
        ["farm", "web"],
    ],
)
def test_wrong_arguments_are_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_serve_is_there_for_python_m_agent_only(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["serve"])
    assert main(["serve"], serve=lambda: 42) == 42
    capsys.readouterr()


def test_everyday_commands_start_without_the_model_and_the_server(tmp_path: Path):
    code = (
        "import sys; from agent.cli import main; main(['status']);"
        "print(sorted({'pydantic', 'aiohttp', 'asyncio', 'pyroute2', 'agent.model'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"SLUICE_SOCKET": str(tmp_path / "none")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_hostile_text_does_not_reach_the_terminal():
    assert plain("a\x1b[31mb\u202ec\x9b") == "a?[31mb?c?"
    assert list(outline({"a\n": ["\x07", "é"]})) == ["a?: ?, é"]
    assert "\x1b" not in table(("x",), [("\x1b[2J",)])


def test_figures_are_short():
    assert [count(n) for n in (0, 9999, 12_345, 4_500_000)] == ["0", "9999", "12.3k", "4.5M"]
    assert [size(n) for n in (0, 1023, 1536, 3 * 2**30)] == ["0 B", "1023 B", "1.5 KiB", "3.0 GiB"]
    assert [duration(n) for n in (0, 59.9, 61, 7384, 90_000)] == ["0 s", "59 s", "1 min 1 s", "2 h 3 min", "1 d 1 h"]


def test_the_reference_in_docs_is_that_of_the_model():
    from agent.cli.reference import reference

    written = (ROOT / "docs" / "configuration.md").read_text()
    assert written == reference(), "run: python3 -m agent reference > docs/configuration.md"


def test_the_reference_has_every_field_of_the_model():
    from agent.cli.reference import reference
    from agent.model import Configuration

    text = reference()
    schema = Configuration.model_json_schema()
    for part in (schema, *schema["$defs"].values()):
        for field in part["properties"]:
            assert f"| `{field}` |" in text
