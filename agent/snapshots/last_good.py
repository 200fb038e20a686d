# SPDX-License-Identifier: GPL-2.0-or-later
"""`last-good.json`: a checked copy, as JSON, of the snapshot in force, for the day the database is damaged."""

import hashlib
import json
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.snapshots.snapshot import Snapshot
from agent.storage import write_atomically

NAME = "last-good.json"
FORMAT = 1


def write(directory: Path, snapshot: Snapshot) -> None:
    """Replace the copy. Raises StoreError; the old copy is whole then."""
    content = {field.name: getattr(snapshot, field.name) for field in fields(snapshot)}
    content["time"] = snapshot.time.isoformat()
    # The document is in canonical form: at 10 000 farms it takes seconds to be written anew, and 20 MB to be copied.
    text: list[bytes] = []
    for name, value in sorted(content.items()):
        text += b"," if text else b"{", _canonical(name), b":", value if name == "document" else _canonical(value)
    text.append(b"}")
    digest = hashlib.sha256()
    for piece in text:
        digest.update(piece)
    head = b'{"format":%d,"sha256":"%b",\n"snapshot":' % (FORMAT, digest.hexdigest().encode())
    write_atomically(directory / NAME, head, *text, b"}\n")


def read(directory: Path) -> Snapshot | None:
    """The snapshot of the copy; None if there is none or it is not what was written."""
    try:
        whole = json.loads((directory / NAME).read_bytes())
        content = whole["snapshot"]
        if whole["format"] != FORMAT or whole["sha256"] != _sum(content):
            return None
        content["document"] = _canonical(content["document"])
        content["time"] = datetime.fromisoformat(content["time"])
        snapshot = Snapshot(**content)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return snapshot if hashlib.sha256(snapshot.document).hexdigest() == snapshot.digest else None


def _canonical(content: Any) -> bytes:
    # The same form as agent.model.canonical, for documents that today's rules may refuse.
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _sum(content: Any) -> str:
    return hashlib.sha256(_canonical(content)).hexdigest()
