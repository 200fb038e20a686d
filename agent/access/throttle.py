# SPDX-License-Identifier: GPL-2.0-or-later
"""Failures are counted by where they come from and by account, and each further one must wait longer.

A try is counted before it is looked at and taken back when it was right, so that a hundred at once are not a hundred
free ones. A try that comes too early is refused without a look and not counted.
"""

import math
import sqlite3
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

from agent.access.errors import Throttled
from agent.storage import plain

FORGET_S = 24 * 3600.0
"""Failures count no longer after a day without another."""
MAX_ROWS = 4096
MAX_KNOWN = 64


@dataclass(frozen=True)
class Policy:
    """`free` failures cost nothing; then the wait is `first` seconds, doubled by each failure up to `most`."""

    free: int
    first: float
    most: float

    def wait(self, failures: int) -> float:
        """Seconds to wait after so many failures."""
        over = failures - self.free
        return 0.0 if over < 0 else min(self.most, self.first * 2.0 ** min(over, 32))


SOURCE = Policy(free=5, first=2.0, most=900.0)
"""For an IPv4 address, or an IPv6 network of 64 bits."""
ACCOUNT = Policy(free=20, first=1.0, most=60.0)
"""For an account, over all sources that it was never logged in from."""

_POLICIES = {"source": SOURCE, "account": ACCOUNT}


def place(source: str) -> str:
    """What counts as one source: an IPv4 address, an IPv6 /64, or another word such as "console"."""
    try:
        address = ip_address(source.partition("%")[0])
    except ValueError:
        return plain(source, 64)
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ip_network((address, 64), strict=False))
    return str(address)


def begin(connection: sqlite3.Connection, source: str, account: str | None, now: float) -> None:
    """Count a try as failed, until `succeed` says otherwise. Raises Throttled if it comes too early."""
    keys = [("source", place(source))]
    if account is not None and not _trusted(connection, source):
        keys.append(("account", account))
    counts = [(kind, key, *_read(connection, kind, key, now)) for kind, key in keys]
    wait = max(left for *_, left in counts)
    if wait > 0:
        raise Throttled(max(1, math.ceil(wait)))
    for kind, key, failures, _ in counts:
        until = now + _POLICIES[kind].wait(failures + 1)
        connection.execute(
            "INSERT OR REPLACE INTO throttle VALUES (?, ?, ?, ?, ?)", (kind, key, failures + 1, until, now)
        )
    connection.execute(
        "DELETE FROM throttle WHERE kind = 'source' AND key NOT IN "
        "(SELECT key FROM throttle WHERE kind = 'source' ORDER BY last DESC LIMIT ?)",
        [MAX_ROWS],
    )


def succeed(connection: sqlite3.Connection, source: str, account: str | None, now: float) -> None:
    """The try was right: its source starts anew, and is known to the account from now on."""
    connection.execute("DELETE FROM throttle WHERE kind = 'source' AND key = ?", [place(source)])
    if account is None:
        return
    if not _trusted(connection, source):
        # Only this one try is taken back: the failures of others go on counting.
        connection.execute(
            "UPDATE throttle SET failures = max(0, failures - 1), until = 0 WHERE kind = 'account' AND key = ?",
            [account],
        )
    connection.execute("INSERT OR REPLACE INTO known VALUES (?, ?)", (place(source), now))
    connection.execute(
        "DELETE FROM known WHERE source NOT IN (SELECT source FROM known ORDER BY last DESC LIMIT ?)", [MAX_KNOWN]
    )


def _trusted(connection: sqlite3.Connection, source: str) -> bool:
    # Strangers who fail all day must not keep the administrator out: where a log-in was right before, and at the
    # console, only the source's own failures count.
    if source == "console":
        return True
    return connection.execute("SELECT 1 FROM known WHERE source = ?", [place(source)]).fetchone() is not None


def _read(connection: sqlite3.Connection, kind: str, key: str, now: float) -> tuple[int, float]:
    row = connection.execute("SELECT failures, until, last FROM throttle WHERE kind = ? AND key = ?", (kind, key))
    failures, until, last = row.fetchone() or (0, 0.0, now)
    if abs(now - last) > FORGET_S:
        return 0, 0.0
    # A clock that was set back must not make the wait longer than it can be.
    left = until - now
    return failures, left if left <= _POLICIES[kind].most else 0.0
