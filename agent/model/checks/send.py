# SPDX-License-Identifier: GPL-2.0-or-later
"""What a check sends, as an administrator writes bytes."""

import re
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from agent.model.checks.check import PortCheck

MOST = 1024
"""Bytes that are sent at most: they fit into one packet on every path (RFC 8200, 5: 1280 bytes with headers)."""

_ESCAPE = re.compile(r"\\(?:([rnt0\\])|x([0-9A-Fa-f]{2})|)")
_ESCAPED = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}


def bytes_of(text: str, encoding: Literal["text", "hex"]) -> bytes:
    """The bytes that are written so. Raises ValueError with what is to be done, in words."""
    if encoding == "hex":
        try:
            return bytes.fromhex(text)
        except ValueError:
            raise ValueError("is not in hexadecimal digits, two for each byte; write it like 0d0a, or 0d 0a") from None
    if text != text.strip() or not text.isprintable():
        raise ValueError(r"has spaces at an end or control characters; write them like \x20, \r, \n or \t")
    found, end = b"", 0
    for escape in _ESCAPE.finditer(text):
        letter, digits = escape.groups()
        if letter is digits is None:
            raise ValueError(r"has a backslash that begins nothing; there are \r, \n, \t, \0, \xHH, and \\ for itself")
        found += text[end : escape.start()].encode()
        found += _ESCAPED[letter] if letter else bytes.fromhex(digits)
        end = escape.end()
    return found + text[end:].encode()


class SendCheck(PortCheck):
    """A check that sends what the administrator says."""

    send: str = Field(
        default="",
        max_length=4 * MOST,
        title="Send",
        description=r"What is sent, 1024 bytes at most. In text, \r, \n, \t, \0 and \xHH stand for bytes, \\ for a "
        "backslash.",
    )
    encoding: Literal["text", "hex"] = Field(
        default="text",
        title="Written as",
        description="How it is written: as text, or as two hexadecimal digits a byte.",
    )

    @property
    def payload(self) -> bytes:
        """The bytes that are sent. Raises ValueError where `faults` tells that there are none."""
        return bytes_of(self.send, self.encoding)

    def faults(self) -> Iterator[tuple[str, str]]:
        """What is wrong with what is sent, besides what can be wrong with every check."""
        yield from super().faults()
        try:
            size = len(self.payload)
        except ValueError as error:
            yield "send", str(error)
            return
        if size > MOST:
            yield "send", f"is {size} bytes; make it at most {MOST}"
