# SPDX-License-Identifier: GPL-2.0-or-later
"""What an answer has to be like: a regular expression that is matched in linear time."""

from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any

import re2
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

MAX_MEMORY = 1 << 20
"""Bytes that a compiled pattern may take."""

_LINES = b"(?m)"


def _options(encoding: Any) -> Any:
    options = re2.Options()
    options.encoding = encoding
    options.max_mem = MAX_MEMORY
    # What is wrong is told by the exception; the library would write it to the standard error, too.
    options.log_errors = False
    return options


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> Any:
    """The compiled pattern, which searches bytes. Raises re2.error.

    RE2 (https://swtch.com/~rsc/regexp/regexp3.html) never backtracks: a search takes time in proportion to the text,
    whatever pattern and answer are. So no pattern and no backend can keep the agent busy. `^` and `$` are the ends of
    lines, since most answers end with the end of one.
    """
    return re2.compile(_LINES + pattern.encode(), _options(re2.Options.Encoding.UTF8))


@lru_cache(maxsize=1024)
def compiled_bytes(pattern: str) -> Any:
    r"""The same for what need not be text: `.` is any byte, \xff this one. Raises re2.error."""
    return re2.compile(_LINES + pattern.encode(), _options(re2.Options.Encoding.LATIN1))


def _sound(pattern: str, compiler: Callable[[str], Any] = compiled) -> str:
    # Forms and people lose such spaces, and a line of a form has no control characters.
    if pattern != pattern.strip() or not pattern.isprintable():
        raise PydanticCustomError(
            "pattern", r"has spaces at an end or control characters; write them like \x20, \r, \n or \t"
        )
    try:
        compiler(pattern)
    except re2.error as error:
        said = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
        raise PydanticCustomError(
            "pattern", "is not a pattern of RE2 ({said}); backreferences and look-around are not in it", {"said": said}
        ) from None
    return pattern


Pattern = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_sound)]
"""A regular expression of RE2."""

BytesPattern = Annotated[
    str, Field(min_length=1, max_length=1024), AfterValidator(lambda pattern: _sound(pattern, compiled_bytes))
]
"""A regular expression of RE2 that matches bytes."""
