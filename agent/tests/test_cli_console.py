# SPDX-License-Identifier: GPL-2.0-or-later
"""The console on a terminal, as the person in front of it sees it."""

import os
import pty
import re
import select
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest

from agent.cli.console import banner
from agent.client import Problem
from agent.tests.api_world import FARM, PASSWORD, World, running

ROOT = Path(__file__).parents[2]
CODE = "import sys; from agent.cli.console import Console; Console(poll=0.1, idle=float(sys.argv[1])).run()"


class Screen:
    """The person's side of a pseudo-terminal."""

    def __init__(self, terminal: int, process: "subprocess.Popen[bytes]") -> None:
        self._terminal = terminal
        self.process = process
        self.text = ""

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def wait_for(self, pattern: str, seconds: float = 20) -> str:
        """Read until `pattern` is shown; returns, and forgets, all up to its end."""
        end = monotonic() + seconds
        while not (found := re.search(pattern, self.text)):
            left = end - monotonic()
            assert left > 0, f"{pattern!r} is not in {self.text!r}"
            if select.select([self._terminal], [], [], left)[0]:
                self.text += os.read(self._terminal, 65536).decode()
        shown, self.text = self.text[: found.end()], self.text[found.end() :]
        return shown

    def is_quiet(self, seconds: float) -> bool:
        """Whether nothing is printed for so long."""
        return not self.text and not select.select([self._terminal], [], [], seconds)[0]

    def log_in(self, password: str = PASSWORD) -> None:
        self.type("\n")
        self.wait_for("User ")
        self.type("\n")
        self.wait_for("Password: ")
        self.type(password + "\n")


@contextmanager
def console(socket: Path, *, idle: float = 60) -> Iterator[Screen]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, str(idle)],
        cwd=ROOT,
        env={"SLUICE_SOCKET": str(socket), "TERM": "dumb", "LC_ALL": "C.UTF-8"},
        stdin=theirs,
        stdout=theirs,
        start_new_session=True,
    )
    try:
        yield Screen(ours, process)
    finally:
        os.close(theirs)
        os.close(ours)
        try:
            assert process.wait(20) == 0  # the terminal is gone, which is its end
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with running(tmp_path) as found:
        yield found


def test_the_banner_shows_address_and_code_and_follows_what_changes(world: World):
    with console(world.socket) as screen:
        shown = screen.wait_for("enter the claim code\\.\r\n")
        assert "https://192.0.2.1/" in shown
        assert "https://[2001:db8::1]/" in shown
        assert "fe80" not in shown
        assert str(world.controller.access.claim_code) in shown
        assert screen.is_quiet(0.5)
        world.admin()
        assert "Claim code" not in screen.wait_for("Press Enter to log in.\r\n")
        world.host.addresses[0] = "192.0.2.99/24"
        assert "https://192.0.2.99/" in screen.wait_for("Press Enter to log in.\r\n")
        assert screen.is_quiet(0.5)


def test_log_in_commands_and_log_out(world: World):
    world.admin().put_farm("web", FARM, comment="The first farm")
    with console(world.socket) as screen:
        screen.wait_for("Press Enter")
        screen.log_in()
        assert PASSWORD not in screen.wait_for("sluice> ")
        screen.type("status\n")
        assert "web: up" in screen.wait_for("\r\nsluice> ")
        screen.type("snapshots\n")
        assert "The first farm" in screen.wait_for("\r\nsluice> ")
        screen.type("rollback 1 --comment 'from the console'\n")
        assert "Snapshot 3 is in force: from the console" in screen.wait_for("\r\nsluice> ")
        screen.type("show --json\n")
        assert '"farms": {}' in screen.wait_for("\r\nsluice> ")
        screen.type("exit\n")
        screen.wait_for("Press Enter")
    made = world.client().snapshot(3)
    assert made.author == "admin"
    # That of the test; the console has ended its own.
    assert world.stored("SELECT source FROM sessions") == [("198.51.100.7",)]


def change_password(screen: Screen, current: str, new: str, repeat: str) -> str:
    """What is shown from the command to the next prompt."""
    screen.type("password\n")
    screen.wait_for("Current password: ")
    screen.type(current + "\n")
    screen.wait_for("New password: ")
    screen.type(new + "\n")
    screen.wait_for("Repeat the new password: ")
    screen.type(repeat + "\n")
    return screen.wait_for("sluice> ")


def test_the_password_is_changed_without_showing_it(world: World):
    admin = world.admin()
    new = "a new long p\u00e4ssword"
    with console(world.socket) as screen:
        screen.wait_for("Press Enter")
        screen.log_in()
        screen.wait_for("sluice> ")
        shown = change_password(screen, PASSWORD, new, new)
        assert "The password has changed; other sessions ended: 1." in shown
        assert new not in shown
        with pytest.raises(Problem):
            admin.system()
        screen.type("status\n")
        assert "There are no farms." in screen.wait_for("\r\nsluice> ")
        screen.type("exit\n")
        screen.wait_for("Press Enter")
        screen.log_in()
        assert "wrong" in screen.wait_for("Press Enter")
        screen.log_in(new)
        screen.wait_for("sluice> ")
    query = "SELECT actor, source FROM audit WHERE action = 'password'"
    assert world.stored(query) == [("admin", "console")]
    assert world.client(token=None).login("admin", new).user == "admin"


def test_a_password_that_is_not_changed_says_why(world: World):
    world.admin()
    new = "a new long password"
    with console(world.socket) as screen:
        screen.wait_for("Press Enter")
        screen.log_in()
        screen.wait_for("sluice> ")
        for current, first, second, words in (
            (PASSWORD, new, new + "x", "the two new passwords differ; nothing has changed"),
            ("not the password", new, new, "This is not the current password."),
            (PASSWORD, "short", "short", "at least 10 characters"),
        ):
            shown = change_password(screen, current, first, second)
            assert words in shown
            assert shown.count("current password") <= 1, "a fault is told once"
        screen.type("status\n")
        assert "There are no farms." in screen.wait_for("\r\nsluice> ")
    assert world.client(token=None).login("admin", PASSWORD).user == "admin"


def test_a_terminal_that_sends_no_utf8_sets_no_password(world: World):
    world.admin()
    with console(world.socket) as screen:
        screen.wait_for("Press Enter")
        screen.log_in()
        screen.wait_for("sluice> ")
        screen.type("password\n")
        screen.wait_for("Current password: ")
        screen.type(PASSWORD + "\n")
        for words in ("New password: ", "Repeat the new password: "):
            screen.wait_for(words)
            os.write(screen._terminal, "a new long p\u00e4ssword\n".encode("latin-1"))
        assert "does not send UTF-8" in screen.wait_for("sluice> ")
    assert world.client(token=None).login("admin", PASSWORD).user == "admin"


def test_what_is_typed_ahead_of_a_password_command_is_never_shown_nor_run(world: World):
    world.admin()
    with console(world.socket) as screen:
        screen.wait_for("Press Enter")
        screen.log_in()
        screen.wait_for("sluice> ")
        screen.type("password\n")
        screen.wait_for("Current password: ")
        # A line too much, as when somebody pastes them.
        screen.type("typed one\ntyped two\ntyped three\ntyped four\n")
        shown = screen.wait_for("sluice> ")
        screen.type("exit\n")
        shown += screen.wait_for("Press Enter")
        assert "differ" in shown
        assert "typed" not in shown
        assert "invalid choice" not in shown


def test_mistakes_at_the_prompt_are_told_and_harm_nothing(world: World):
    world.admin()
    with console(world.socket) as screen:
        screen.wait_for("Press Enter")
        screen.log_in()
        screen.wait_for("sluice> ")
        for line, words in (
            ("nonsense", "invalid choice"),
            ("rollback", "required"),
            ("rollback x", "no snapshot's number"),
            ("rollback 99", "[Nn]o snapshot 99"),
            ("show 'web", "No closing quotation"),
            ("apply /etc/passwd", "invalid choice"),
            ("serve", "invalid choice"),
            ("help", "rollback"),
            ("help rollback", "--comment"),
            ("help password", "change the administrator's password"),
            ("password now", "unrecognized arguments"),
            ("\x03\x1a\x04", "."),
            ("", ""),
        ):
            screen.type(line + "\n")
            assert re.search(words, screen.wait_for("sluice> "))
    assert world.controller.in_force.number == 1


def test_a_wrong_password_is_told_and_leads_back_to_the_banner(world: World, caplog: pytest.LogCaptureFixture):
    world.admin()
    with console(world.socket) as screen:
        screen.wait_for("Press Enter")
        screen.log_in("wrong password")
        assert "wrong password" not in screen.wait_for("Press Enter")
    assert "log-in failed from console" in caplog.text


def test_an_idle_session_ends(world: World):
    world.admin()
    with console(world.socket, idle=0.5) as screen:
        screen.wait_for("Press Enter")
        screen.log_in()
        screen.wait_for("Logged out after")
        screen.wait_for("Press Enter")


def test_a_session_that_was_ended_elsewhere_leads_back_to_the_banner(world: World):
    world.admin()
    with console(world.socket) as screen:
        screen.wait_for("Press Enter")
        screen.log_in()
        screen.wait_for("sluice> ")
        world.controller.access._vault.change(lambda c: c.execute("DELETE FROM sessions") and None)
        screen.type("status\n")
        screen.wait_for("log in")
        screen.wait_for("Press Enter")


def test_without_an_agent_it_says_so_and_finds_the_agent_when_it_comes(tmp_path: Path):
    with console(tmp_path / "agent.sock") as screen:
        screen.wait_for("not running")
        screen.wait_for("trying again.\r\n")
        assert screen.is_quiet(0.5)
        with running(tmp_path):
            screen.wait_for("Claim code")
        screen.wait_for("not running")


def test_keys_that_end_programs_do_not_end_the_console(world: World):
    world.admin()
    with console(world.socket) as screen:
        screen.wait_for("Press Enter")
        modes = termios.tcgetattr(screen._terminal)
        assert not modes[3] & (termios.ECHO | termios.ISIG)
        screen.type("\x03\x1a\x1c\x04\n")
        screen.wait_for("User ")
        assert screen.process.poll() is None


def test_the_banner_keeps_hostile_text_away_from_the_terminal():
    content = {
        "product": "Sluice",
        "version": "1",
        "hostname": "a\x1b[2Jb",
        "addresses": [],
        "claim_code": None,
        "troubles": [{"code": "x", "message": "No \x07 data."}],
    }
    text = "\n".join(banner(content))
    assert "no address yet" in text
    assert "! No ? data." in text
    assert "\x1b" not in text
