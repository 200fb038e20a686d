# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a command that asks the agent, and turns what goes wrong into words and an exit status."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.cli.command import CannotRead, Command, Hidden
from agent.cli.commands import COMMANDS
from agent.cli.text import plain
from agent.client.connection import AgentDown, Connection, Problem
from agent.client.readable import indented

DONE, REFUSED, DOWN = 0, 1, 3
"""Exit statuses: done, refused (faults, not found, no right), no agent; argparse has 2 for wrong arguments."""


def add_commands(parsers: Any, *, on_console: bool, hidden: Hidden) -> None:
    """Add the commands to a parser's subparsers; those that ask for secrets use `hidden`."""
    for command in COMMANDS:
        if command.on_console or not on_console:
            parser = parsers.add_parser(command.name, help=command.summary, description=command.summary)
            command.arguments(parser)
            add_json(parser)
            parser.set_defaults(command=command, hidden=hidden)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json`, which all commands have."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def ask(command: Command, arguments: argparse.Namespace, agent: Connection) -> int:
    """Run a command and print its result or what is wrong; the result is the exit status."""
    try:
        content = command.run(arguments, agent)
    except Problem as problem:
        return _refused(arguments, problem)
    except AgentDown as down:
        return failed(arguments, str(down), DOWN)
    except CannotRead as error:
        return failed(arguments, str(error), REFUSED)
    if arguments.json:
        print(indented(content))
    else:
        for line in command.show(arguments, content):
            print(line)
    return DONE


def failed(arguments: argparse.Namespace, words: str, status: int) -> int:
    """Say what is wrong, as JSON on standard output where that was asked for, else in words on standard error."""
    if arguments.json:
        print(json.dumps({"detail": words}, indent=2))
    else:
        print(plain(words), file=sys.stderr)
    return status


def fault_lines(faults: tuple[tuple[str, str], ...]) -> Iterator[str]:
    """Faults as they are printed: one a line, its pointer first; / is the document as a whole."""
    for pointer, words in faults:
        yield plain(f"{pointer or '/'}: {words}")


def token() -> str | None:
    """The token of the environment: SLUICE_TOKEN, or the contents of the file SLUICE_TOKEN_FILE. Raises CannotRead."""
    given, name = os.environ.get("SLUICE_TOKEN", ""), os.environ.get("SLUICE_TOKEN_FILE")
    if not given and not name:
        return None
    if not given and name:
        try:
            given = Path(name).read_text(encoding="ascii")
        except (OSError, ValueError) as error:
            raise CannotRead(f"can't read the token in {name}: {getattr(error, 'strerror', None) or error}") from None
    given = given.strip()
    if not (given.isascii() and given.isprintable() and given):
        raise CannotRead("the token must be one line of ASCII characters")
    return given


def typed(words: str) -> str:
    """What is typed after `words` at the terminal that runs the command; it is not shown. Raises CannotRead."""
    if not sys.stdin.isatty():
        raise CannotRead("passwords are typed at a terminal; programs use the API, PUT /api/v1/password")
    import getpass  # noqa: PLC0415  one command needs it

    try:
        return getpass.getpass(words)
    except EOFError:
        raise CannotRead("nothing was typed; nothing has changed") from None
    except UnicodeError:
        raise CannotRead("what was typed is not UTF-8; use ASCII characters, or another terminal") from None


def _refused(arguments: argparse.Namespace, problem: Problem) -> int:
    if arguments.json:
        errors = [{"pointer": pointer, "detail": words} for pointer, words in problem.faults]
        content = {"title": problem.title, "status": problem.status, "detail": problem.detail, "errors": errors}
        print(json.dumps(content | problem.extra, indent=2))
        return REFUSED
    hint = " SLUICE_TOKEN or SLUICE_TOKEN_FILE brings one." if problem.status == 401 and token() is None else ""
    failed(arguments, problem.detail + hint, REFUSED)
    told = problem.detail.casefold()
    for line in fault_lines(tuple(fault for fault in problem.faults if fault[1].casefold() not in told)):
        print(line, file=sys.stderr)
    return REFUSED
