# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands about secrets: their values go in, and never come out."""

import argparse
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from agent.cli.command import CannotRead, read_file, typed_twice
from agent.cli.text import moment, plain, table
from agent.client.connection import Connection

KINDS = ("text", "certificate", "authorities")


def arguments(parser: argparse.ArgumentParser) -> None:
    """`secret set NAME`, `secret delete NAME`."""
    parser.add_argument(
        "action",
        choices=("set", "delete"),
        help="set: the value is read from standard input or, at a terminal, typed twice and not shown",
    )
    parser.add_argument("name", metavar="NAME", help="the secret")
    parser.add_argument(
        "--kind",
        choices=KINDS,
        default="text",
        help="what is set: a text (the default), a certificate with its chain and private key in PEM, or the "
        "certificates of authorities in PEM",
    )
    parser.add_argument("--force", action="store_true", help="delete it even while the configuration in force names it")


def change(given: argparse.Namespace, agent: Connection) -> Any:
    """Set or delete a secret."""
    path = f"/secrets/{quote(given.name, safe='')}"
    if given.action == "delete":
        agent.request("DELETE", path, query={"force": 1 if given.force else None})
        return {"deleted": given.name}
    content = {"kind": given.kind, "value": _value(given)}
    return {given.name: agent.request("PUT", path, content=content).json()}


def show_change(given: argparse.Namespace, content: Any) -> Iterator[str]:
    """What was done; the certificates that are kept."""
    yield plain(f"Secret {given.name} is {'deleted' if given.action == 'delete' else 'set'}.")
    for each in content.get(given.name, {}).get("certificates", ()):
        yield plain(f"  {each['subject'] or ', '.join(each['names'])}, expires {moment(each['ends'])} UTC")


def secrets(given: argparse.Namespace, agent: Connection) -> Any:
    """Ask for the secrets."""
    del given
    return agent.request("GET", "/secrets").json()


def show(given: argparse.Namespace, content: Any) -> Iterator[str]:
    """The secrets as a table."""
    del given
    head = ("secret", "kind", "set (UTC)", "expires (UTC)", "named by")
    rows = [
        (
            name,
            each["kind"],
            moment(each["changed"]),
            # What is of use as long as the first of them.
            moment(min(one["ends"] for one in each["certificates"])) if each["certificates"] else "",
            ", ".join(each["used_by"]),
        )
        for name, each in sorted(content.items())
    ]
    yield from table(head, rows).splitlines() if rows else ["There are no secrets."]


def _value(given: argparse.Namespace) -> str:
    if sys.stdin.isatty():
        if given.kind != "text":
            raise CannotRead(f"certificates come from a file: sluice secret set NAME --kind {given.kind} < FILE")
        value: str = typed_twice(given.hidden, "value")
        return value
    try:
        text = read_file("-").decode()
    except UnicodeDecodeError:
        raise CannotRead("standard input is not UTF-8 text") from None
    # The line break that an editor or `echo` puts at the end.
    return text.removesuffix("\n").removesuffix("\r") if given.kind == "text" else text
