# SPDX-License-Identifier: GPL-2.0-or-later
"""The console on the appliance's screen and serial port: a banner, a log-in, and the commands."""

import argparse
import contextlib
import shlex
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from agent.cli.asking import add_commands, ask
from agent.cli.command import CannotRead, Command, Hidden
from agent.cli.terminal import Hangup, Terminal, TimeIsUp
from agent.cli.text import plain
from agent.client.connection import AgentDown, Answer, Connection, Problem

POLL = 3.0
"""Seconds between two looks at what the banner shows."""

LOGIN_SECONDS = 60.0
"""How long it waits for a name or a password."""

IDLE_SECONDS = 600.0
"""How long a session may rest before it is ended."""

PROMPT = "sluice> "


class _Session(Connection):
    """A connection with a session's token, that notes when the agent does not take it any more."""

    ended = False

    def request(self, method: str, path: str, **arguments: Any) -> Answer:
        """As Connection has it."""
        try:
            return super().request(method, path, **arguments)
        except Problem as problem:
            self.ended = self.ended or problem.status == 401
            raise


class Console:
    """The console on one terminal. `poll` and `idle` are in seconds."""

    def __init__(self, terminal: Terminal | None = None, *, poll: float = POLL, idle: float = IDLE_SECONDS) -> None:
        self._terminal = terminal or Terminal()
        self._agent = Connection(timeout=5)
        self._poll = poll
        self._idle = idle

    def run(self) -> None:
        """Serve whoever comes, until the terminal is gone."""
        with contextlib.suppress(Hangup):
            while True:
                self._wait_for_someone()
                session = self._log_in()
                if session is not None:
                    self._converse(session)

    def _wait_for_someone(self) -> None:
        """Show the banner, anew whenever it changes, until somebody presses Enter."""
        self._terminal.echo(on=False)
        shown = ""
        while True:
            text = self._banner()
            if text != shown:
                self._terminal.write(text)
                shown = text
            with contextlib.suppress(TimeIsUp):
                self._terminal.line(self._poll)
                return

    def _banner(self) -> str:
        try:
            content = self._agent.request("GET", "/console").json()
        except (AgentDown, Problem) as error:
            return f"\nSluice\n\n  ! {plain(error)}\n    What is balanced stays balanced; trying again.\n"
        return "\n".join(banner(content)) + "\n"

    def _log_in(self) -> _Session | None:
        terminal = self._terminal
        try:
            user = terminal.ask("User [admin]: ", LOGIN_SECONDS).strip() or "admin"
            password = terminal.ask("Password: ", LOGIN_SECONDS, hidden=True)
            answer = self._agent.request("POST", "/sessions", content={"user": user, "password": password}).json()
        except TimeIsUp:
            terminal.write("\n")
            return None
        except (AgentDown, Problem) as error:
            terminal.write(f"{plain(error)}\n")
            return None
        finally:
            terminal.discard()
        terminal.write("Type help for the commands, exit to log out.\n")
        return _Session(token=answer["token"])

    def _converse(self, session: _Session) -> None:
        parser = _parser(self._hidden)
        try:
            while not session.ended:
                line = self._terminal.ask(PROMPT, self._idle)
                if line.strip() in ("exit", "quit", "logout"):
                    return
                with contextlib.redirect_stderr(sys.stdout):
                    self._obey(parser, line, session)
        except TimeIsUp:
            self._terminal.write(f"\nLogged out after {self._idle / 60:g} minutes without a command.\n")
        finally:
            with contextlib.suppress(AgentDown, Problem):
                session.request("DELETE", "/sessions/current")

    def _obey(self, parser: argparse.ArgumentParser, line: str, session: _Session) -> None:
        try:
            words = shlex.split(line)
        except ValueError as error:
            self._terminal.write(f"{error}\n")
            return
        if not words:
            return
        if words[0] == "help":
            words = [*words[1:2], "--help"]
        try:
            given = parser.parse_args(words)
        except SystemExit:  # argparse has printed its help or what is wrong
            return
        command: Command = given.command
        try:
            ask(command, given, session)
        except OSError:
            raise Hangup from None
        finally:
            if command.asks:
                # What was typed ahead may be secret: it must not become a command, which is shown.
                self._terminal.discard()

    def _hidden(self, words: str) -> str:
        try:
            return self._terminal.ask(words, LOGIN_SECONDS, hidden=True)
        except TimeIsUp:
            raise CannotRead(f"nothing was typed for {LOGIN_SECONDS:g} seconds; nothing has changed") from None


def banner(content: Mapping[str, Any]) -> Iterator[str]:
    """The lines of the banner, from what `GET /console` answers."""
    yield ""
    yield plain(f"{content['product']} {content['version']} on {content['hostname']}")
    yield ""
    addresses = [f"https://{f'[{address}]' if ':' in address else address}/" for address in content["addresses"]]
    for index, address in enumerate(addresses or ["no address yet"]):
        yield plain(f"  {'GUI and API' if index == 0 else '':12}{address}")
    if content["claim_code"] is not None:
        yield plain(f"  {'Claim code':12}{content['claim_code']}")
    for trouble in content["troubles"]:
        yield plain(f"  ! {trouble['message']}")
    yield ""
    if content["claim_code"] is not None:
        yield "Nobody owns this appliance yet: open the address in a browser and enter the claim code."
    else:
        yield "Press Enter to log in."


def _parser(hidden: Hidden) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="", usage="COMMAND [ARGUMENTS]", add_help=True)
    parsers = parser.add_subparsers(metavar="COMMAND", required=True, prog="")
    add_commands(parsers, on_console=True, hidden=hidden)
    parsers.add_parser("help", help="this help; `help COMMAND` for a command's arguments")
    parsers.add_parser("exit", help="log out")
    return parser
