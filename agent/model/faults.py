# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults of a document: where (a JSON pointer), what, and how to mend it."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Fault:
    """One fault of a document.

    `pointer` is an RFC 6901 JSON pointer into the document ("" is the document as a whole), `message` says in a
    sentence what is wrong and what would be right.
    """

    pointer: str
    message: str


class Invalid(Exception):
    """A document that cannot be taken. `faults` holds every fault that was found, never only the first."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = sorted(set(faults))
        super().__init__("; ".join(f"{fault.pointer or '/'}: {fault.message}" for fault in self.faults))


def pointer(*parts: str | int) -> str:
    """Join the parts of a path to a JSON pointer, escaped as RFC 6901 section 3 says."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)
