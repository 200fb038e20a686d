# SPDX-License-Identifier: GPL-2.0-or-later
"""Arguments of the command line, and which function each command is. Imports little: each command brings its own."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from agent.cli.asking import DONE, REFUSED, add_commands, add_json, ask, failed, token, typed
from agent.cli.command import CannotRead, Command
from agent.cli.commands import DIFFERENCE
from agent.client.connection import Connection

EPILOG = """\
environment:
  SLUICE_SOCKET      the agent's socket, /run/sluice-api/agent.sock by default
  SLUICE_TOKEN       a session's or an API token
  SLUICE_TOKEN_FILE  a file with the token, where SLUICE_TOKEN is not set

exit status: 0 done, 1 refused, 2 wrong arguments, 3 the agent does not answer
"""


def main(arguments: Sequence[str] | None = None, *, serve: Callable[[], int] | None = None) -> int:
    """Run a command; the result is the exit status. `serve` runs the agent: only `python3 -m agent` has it."""
    parser = _parser(with_serve=serve is not None)
    given = parser.parse_args(arguments)
    try:
        return _run(given, serve)
    except CannotRead as error:
        return failed(given, str(error), REFUSED)
    except BrokenPipeError:
        # Who reads our output has seen enough. The interpreter must not try once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return REFUSED
    except KeyboardInterrupt:
        return 130


def _run(given: argparse.Namespace, serve: Callable[[], int] | None) -> int:
    if isinstance(given.command, Command):
        return ask(given.command, given, Connection(token=token(), source=None))
    if given.command == "serve":
        assert serve is not None  # the parser has no such command otherwise
        return serve()
    run: Callable[[argparse.Namespace], int] = given.command
    return run(given)


def _parser(*, with_serve: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sluice",
        description="Sluice, a load-balancing appliance.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(json=False)
    parsers = parser.add_subparsers(metavar="COMMAND", required=True)
    add_commands(parsers, on_console=False, hidden=typed)

    words = "what the kernel would hold for a document, as a script that `nft -f` loads; needs no agent and no root, "
    words += "unless the difference is asked for"
    compiling = parsers.add_parser("compile", help=words, description=words)
    compiling.add_argument("file", metavar="FILE", help="a configuration document; - reads standard input")
    compiling.add_argument(
        "--difference", action="store_true", help="ask the agent: only the commands that lead there from what is now"
    )
    add_json(compiling)
    compiling.set_defaults(command=_compile)

    for name, summary, command in (
        ("console", "the console on the appliance's screen or serial port", _console),
        ("identity", "make the appliance's TLS key, certificate and session key where they are missing", _identity),
        ("tune", "size the kernel's connection table by the machine's memory", _tune),
        ("reference", "print the reference of the configuration as Markdown", _reference),
    ):
        parsers.add_parser(name, help=summary, description=summary).set_defaults(command=command)
    if with_serve:
        summary = "run the agent: API, checks, data plane"
        parsers.add_parser("serve", help=summary, description=summary).set_defaults(command="serve")
    return parser


def _compile(given: argparse.Namespace) -> int:
    if given.difference:
        return ask(DIFFERENCE, given, Connection(token=token(), source=None))
    from agent.cli.compile import compile_file  # noqa: PLC0415  the model and the data plane take long to import

    return compile_file(given.file, as_json=given.json)


def _console(given: argparse.Namespace) -> int:
    from agent.cli.console import Console  # noqa: PLC0415  termios and more that no other command needs

    del given
    Console().run()
    return DONE


def _identity(given: argparse.Namespace) -> int:
    from agent.system.identity import main as make_identity  # noqa: PLC0415  needed here only

    del given
    return make_identity()


def _tune(given: argparse.Namespace) -> int:
    from agent.system.tuning import main as tune  # noqa: PLC0415  needed here only

    del given
    return tune()


def _reference(given: argparse.Namespace) -> int:
    from agent.cli.reference import reference  # noqa: PLC0415  the model takes long to import

    del given
    print(reference(), end="")
    return DONE
