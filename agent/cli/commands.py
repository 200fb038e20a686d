# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that ask the agent. Each gets the JSON that the API answers and prints it, or text made of it.

They do without the model: importing it would take most of the time that a command takes on a small machine.
"""

import argparse
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from agent.cli import listing, secret, status
from agent.cli.command import CannotRead, Command, Hidden, intact, read_file, typed_twice
from agent.cli.text import count, duration, moment, outline, plain, scalar, table
from agent.client.connection import AgentDown, Connection
from agent.client.readable import indented


def number(text: str) -> int:
    """A snapshot's number on the command line."""
    if not (text.isascii() and text.isdigit() and 1 <= len(text) <= 15 and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{plain(text)!r} is no snapshot's number")
    return int(text)


def _whole(text: str) -> int:
    """Any other whole number on the command line; which are too large, the agent knows."""
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise argparse.ArgumentTypeError(f"{plain(text)!r} is no whole number")
    return int(text)


def _nothing(parser: argparse.ArgumentParser) -> None:
    del parser


def _comment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--comment", default="", help="why, in your words; kept with the snapshot")
    parser.add_argument(
        "--parent", type=number, metavar="N", help="refuse the change unless snapshot N is in force", default=None
    )


def _show_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("farm", nargs="?", help="only this farm")
    parser.add_argument("--snapshot", type=number, metavar="N", help="of an earlier snapshot")


def _show(arguments: argparse.Namespace, agent: Connection) -> Any:
    if arguments.snapshot is not None:
        document = agent.request("GET", f"/snapshots/{arguments.snapshot}").json()["document"]
        if arguments.farm is None:
            return document
        if arguments.farm not in document["farms"]:
            raise CannotRead(f"there is no farm {plain(arguments.farm)!r} in snapshot {arguments.snapshot}")
        return document["farms"][arguments.farm]
    if arguments.farm is not None:
        return agent.request("GET", f"/farms/{quote(arguments.farm, safe='')}").json()
    return agent.request("GET", "/configuration").json()


def _show_show(arguments: argparse.Namespace, content: Any) -> Iterator[str]:
    del arguments
    yield from outline(content)


def _farm_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("show", "put", "delete"), help="what to do")
    parser.add_argument("farm", metavar="FARM", help="the farm; put makes it if there is none of this name")
    parser.add_argument("file", metavar="FILE", nargs="?", help="put: the farm as JSON; - or none: standard input")
    _comment(parser)


def _farm(arguments: argparse.Namespace, agent: Connection) -> Any:
    path = f"/farms/{quote(arguments.farm, safe='')}"
    if arguments.file is not None and arguments.action != "put":
        raise CannotRead(f"{arguments.action} takes no file")
    if arguments.action == "show":
        return agent.request("GET", path).json()
    query = {"comment": arguments.comment or None}
    if arguments.action == "delete":
        return agent.request("DELETE", path, query=query, parent=arguments.parent).json()
    body = read_file(arguments.file or "-")
    return agent.request("PUT", path, query=query, body=body, parent=arguments.parent).json()


def _show_farm(arguments: argparse.Namespace, content: Any) -> Iterator[str]:
    if arguments.action == "show":
        # What `farm put` takes.
        yield indented(content)
    else:
        yield from _show_made(arguments, content)


def _clients_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("farm", metavar="FARM", help="the farm")
    parser.add_argument("--client", metavar="NETWORK", help="only clients in this network, or this address")
    parser.add_argument("--backend", metavar="BACKEND", help="only clients of this backend")
    parser.add_argument("--limit", type=number, metavar="N", help="how many at most; 200 by default")
    parser.add_argument("--forget", action="store_true", help="forget them, all of them without the options above")


def _clients(arguments: argparse.Namespace, agent: Connection) -> Any:
    path = f"/farms/{quote(arguments.farm, safe='')}/clients"
    query = {"client": arguments.client, "backend": arguments.backend}
    if arguments.forget:
        return agent.request("DELETE", path, query=query).json()
    return agent.request("GET", path, query=query | {"limit": arguments.limit}).json()


def _show_clients(arguments: argparse.Namespace, content: Any) -> Iterator[str]:
    if arguments.forget:
        yield f"Forgotten: {count(content['forgotten'])}."
        return
    rows = [
        (
            each["client"] + (f" port {each['port']}" if each["port"] else ""),
            each["backend"] or "(gone)",
            duration(each["expires_s"]),
        )
        for each in content["clients"]
    ]
    yield from table(("client", "backend", "forgotten in"), rows, right=(2,)).splitlines()
    if content["total"] > len(rows):
        yield f"... and {count(content['total'] - len(rows))} more."
    if content["size"] is not None:
        words = "; new clients of a full family are balanced, and not remembered" if content["full"] else ""
        yield f"{content['remembered']} remembered, at most {content['size']} of each IP family{words}."


def _snapshots_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=number, default=20, metavar="N", help="how many at most; 20 by default")
    parser.add_argument("--before", type=number, metavar="N", help="only snapshots with smaller numbers")


def _snapshots(arguments: argparse.Namespace, agent: Connection) -> Any:
    query = {"limit": arguments.limit, "before": arguments.before}
    return agent.request("GET", "/snapshots", query=query).json()


def _show_snapshots(arguments: argparse.Namespace, content: Any) -> Iterator[str]:
    del arguments
    rows = [
        (
            "*" if entry["number"] == content["in_force"] else "",
            entry["number"],
            moment(entry["time"]),
            entry["author"],
            entry["comment"] if entry["outcome"] == "committed" else f"({entry['outcome']}) {entry['comment']}",
        )
        for entry in content["snapshots"]
    ]
    yield from table(("", "number", "time (UTC)", "author", "comment"), rows, right=(1,)).splitlines()


def _diff_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", type=number, metavar="A", help="the earlier snapshot")
    parser.add_argument("to", type=number, metavar="B", help="the later snapshot")


def _diff(arguments: argparse.Namespace, agent: Connection) -> Any:
    return agent.request("GET", f"/snapshots/{arguments.before}/diff/{arguments.to}").json()


def _show_diff(arguments: argparse.Namespace, content: Any) -> Iterator[str]:
    del arguments
    if not content["changes"]:
        yield "Nothing differs."
    for change in content["changes"]:
        where = plain(change["pointer"])
        if change["kind"] == "changed":
            yield f"~ {where}: {_compact(change['before'])} -> {_compact(change['after'])}"
        elif change["kind"] == "added":
            yield f"+ {where}: {_compact(change['after'])}"
        else:
            yield f"- {where}: {_compact(change['before'])}"


def _compact(value: Any) -> str:
    return plain(json.dumps(value, ensure_ascii=False))


def _rollback_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("number", type=number, metavar="N", help="the snapshot whose configuration comes back")
    _comment(parser)


def _rollback(arguments: argparse.Namespace, agent: Connection) -> Any:
    query = {"comment": arguments.comment or None}
    path = f"/snapshots/{arguments.number}/rollback"
    return agent.request("POST", path, query=query, parent=arguments.parent).json()


def _show_made(arguments: argparse.Namespace, content: Any) -> Iterator[str]:
    del arguments
    yield plain(f"Snapshot {content['number']} is in force: {content['comment'] or 'no comment'}")
    if content["parent"] is not None:
        yield f"`rollback {content['parent']}` brings back what was in force before."


def _apply_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a configuration document; - reads standard input")
    _comment(parser)


def _apply(arguments: argparse.Namespace, agent: Connection) -> Any:
    query = {"comment": arguments.comment or None}
    body = read_file(arguments.file)
    return agent.request("PUT", "/configuration", query=query, body=body, parent=arguments.parent).json()


def _password(arguments: argparse.Namespace, agent: Connection) -> Any:
    hidden: Hidden = arguments.hidden
    current, new = intact(hidden("Current password: ")), typed_twice(hidden, "password")
    try:
        return agent.request("PUT", "/password", content={"current": current, "new": new}).json()
    except AgentDown as down:
        raise AgentDown(f"{down} The next log-in tells whether the password has changed.") from None


def _show_password(arguments: argparse.Namespace, content: Any) -> Iterator[str]:
    del arguments
    yield f"The password has changed; other sessions ended: {scalar(content['sessions_ended'])}."


def _difference(arguments: argparse.Namespace, agent: Connection) -> Any:
    return agent.request("POST", "/compile", body=read_file(arguments.file)).json()


def _show_difference(arguments: argparse.Namespace, content: Any) -> Iterator[str]:
    del arguments
    yield content["difference"].rstrip("\n") or "# The kernel holds this already."


DIFFERENCE = Command("compile", "", _nothing, _difference, _show_difference)
"""`compile --difference`: what would change in the kernel."""


def _trace_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from", dest="client", required=True, metavar="CLIENT[:PORT]", help="where the packets come from"
    )
    parser.add_argument(
        "--to",
        required=True,
        metavar="ADDRESS[:PORT][/PROTOCOL]",
        help="where they go; write [ADDRESS]:PORT for IPv6; tcp, udp, sctp, or without a port icmp, "
        "gre, esp; by default any",
    )
    parser.add_argument("--seconds", type=_whole, default=10, metavar="N", help="how long to wait; 10 by default")
    parser.add_argument(
        "--count", type=_whole, default=10, metavar="N", help="how many packets are enough; 10 by default"
    )


def _trace(arguments: argparse.Namespace, agent: Connection) -> Any:
    content = {
        "from": arguments.client,
        "to": arguments.to,
        "seconds": arguments.seconds,
        "count": arguments.count,
    }
    agent.timeout += arguments.seconds
    try:
        return agent.request("POST", "/trace", content=content).json()
    finally:
        agent.timeout -= arguments.seconds


def _show_trace(arguments: argparse.Namespace, content: Any) -> Iterator[str]:
    del arguments
    yield plain(content["summary"])
    for packet in content["packets"]:
        yield ""
        yield plain(f"{'<-' if packet['direction'] == 'answer' else '->'} {packet['packet']}: {packet['outcome']}")
        yield from (plain(f"   {words}") for words in packet["words"])


COMMANDS = (
    Command("status", "farms and backends as they are now", _nothing, status.status, status.show_status),
    Command("show", "the configuration in force", _show_arguments, _show, _show_show),
    Command("farm", "show, put or delete one farm, as JSON", _farm_arguments, _farm, _show_farm, on_console=False),
    Command("clients", "the clients that a farm remembers", _clients_arguments, _clients, _show_clients),
    Command("lists", "the network lists, and who uses them", _nothing, listing.lists, listing.show_lists),
    Command("kernel", "the kernel's settings, and what they should be", _nothing, listing.kernel, listing.show_kernel),
    Command("secrets", "the secrets, without their values, and who names them", _nothing, secret.secrets, secret.show),
    Command(
        "secret",
        "set or delete a secret",
        secret.arguments,
        secret.change,
        secret.show_change,
        asks=True,
    ),
    Command("snapshots", "the snapshots, the newest first", _snapshots_arguments, _snapshots, _show_snapshots),
    Command("diff", "what changed between two snapshots", _diff_arguments, _diff, _show_diff),
    Command("rollback", "put an earlier configuration in force", _rollback_arguments, _rollback, _show_made),
    Command("apply", "put a document in force", _apply_arguments, _apply, _show_made, on_console=False),
    Command(
        "trace", "follow packets through the balancer, and say what happened", _trace_arguments, _trace, _show_trace
    ),
    Command("password", "change the administrator's password", _nothing, _password, _show_password, asks=True),
)
"""The commands, in the order of their help."""
