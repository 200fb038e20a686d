# SPDX-License-Identifier: GPL-2.0-or-later
"""Text of strangers made fit to be stored and shown on one line."""

import unicodedata


def plain(text: str, limit: int) -> str:
    """`text` on one line, at most `limit` characters.

    Control and format characters (line ends, escape sequences, bidirectional overrides) and lone surrogates become
    spaces, and spaces at the ends go.
    """
    cut = text[: limit * 2]
    return "".join(" " if unicodedata.category(sign)[0] == "C" else sign for sign in cut).strip()[:limit]
