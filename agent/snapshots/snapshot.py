# SPDX-License-Identifier: GPL-2.0-or-later
"""A snapshot, and what can be wrong when one is asked for."""

import json
from dataclasses import dataclass
from datetime import datetime

from agent.model import Configuration, validate
from agent.model.answers import Outcome

MAX_AUTHOR = 200
"""Characters of an author's name that are kept."""

MAX_COMMENT = 2000
"""Characters of a comment that are kept."""


@dataclass(frozen=True)
class Entry:
    """What is known about a snapshot without its document."""

    number: int
    """1, 2, 3 ...; a number is given once, also to a snapshot that is abandoned, so there may be gaps in a list."""
    parent: int | None
    """The snapshot that was in force when this one was prepared; None for the first."""
    digest: str
    """SHA-256 of the canonical document, hexadecimal."""
    author: str
    comment: str
    time: datetime
    """When it was prepared, UTC."""
    version: int
    """Version of the document's schema."""
    software: str
    """Version of the software that wrote it."""
    outcome: Outcome


@dataclass(frozen=True)
class Snapshot(Entry):
    """A snapshot with its document."""

    document: bytes
    """The canonical document, exactly the bytes that `digest` is of."""

    def configuration(self, before: Configuration | None = None) -> Configuration:
        """The document as a Configuration. Raises agent.model.Invalid if today's rules refuse it.

        `before` as in agent.model.validate.
        """
        # Not agent.model.parse: that limits what comes from outside, and the canonical form may be longer than that.
        return validate(json.loads(self.document), before)


@dataclass(frozen=True)
class Recovery:
    """What `Store.recover` found."""

    in_force: Snapshot | None
    """What is in force; None on a box that never had a configuration, or lost all copies of it."""
    abandoned: int | None
    """The snapshot that was pending when the agent or the power went, and is abandoned now."""


class Conflict(Exception):
    """The commit was edited from another snapshot than the one in force. `current` is the number in force."""

    def __init__(self, current: int | None) -> None:
        self.current = current
        super().__init__(f"snapshot {current} is in force by now; look at what it changed and edit from there")


class NotFound(Exception):
    """There is no snapshot of this number."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"there is no snapshot {number}")


class Pending(Exception):
    """Another snapshot waits for its confirmation; `number` is it."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"snapshot {number} waits for its confirmation")


class NotPending(Exception):
    """The snapshot that was to be confirmed or abandoned does not wait for that."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"snapshot {number} does not wait for its confirmation")
