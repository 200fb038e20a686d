# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands that ask for one thing and show it as a table."""

import argparse
from collections.abc import Iterator
from typing import Any

from agent.cli.text import count, table
from agent.client.connection import Connection


def kernel(arguments: argparse.Namespace, agent: Connection) -> Any:
    """Ask for the settings."""
    del arguments
    return agent.request("GET", "/system").json()["kernel_settings"]


def show_kernel(arguments: argparse.Namespace, content: Any) -> Iterator[str]:
    """The settings as a table."""
    del arguments
    if not content:
        yield "The kernel's settings are not Sluice's on this machine."
        return
    rows = [
        (
            "" if setting["value"] == setting["wanted"] else "!",
            setting["name"],
            "not there" if setting["value"] is None else setting["value"],
            setting["wanted"],
        )
        for setting in content
    ]
    yield from table(("", "setting", "is", "should be"), rows).splitlines()


def lists(arguments: argparse.Namespace, agent: Connection) -> Any:
    """Ask for the lists."""
    del arguments
    return agent.request("GET", "/network-lists").json()


def show_lists(arguments: argparse.Namespace, content: Any) -> Iterator[str]:
    """The lists as a table."""
    del arguments
    rows = [
        (
            name,
            count(each["networks"]),
            ", ".join(each["allowed_by"]),
            ", ".join(each["denied_by"]),
            each["description"],
        )
        for name, each in sorted(content.items())
    ]
    head = ("list", "networks", "allowed by", "denied by", "description")
    yield from table(head, rows, right=(1,)).splitlines() if rows else ["There are no network lists."]
