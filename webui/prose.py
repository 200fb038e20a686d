# SPDX-License-Identifier: GPL-2.0-or-later
"""The model's descriptions as HTML: what stands in back-quotes is shown as code."""

import re

from markupsafe import Markup, escape


def prose(text: str) -> Markup:
    """`text` escaped, with back-quoted words in <code>."""
    # Escaping leaves back-quotes alone.
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 what they enclose is escaped
