# SPDX-License-Identifier: GPL-2.0-or-later
"""What an answer has to be like: a regular expression that is matched in linear time."""

from functools import lru_cache
from typing import Annotated, Any

import re2
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

MAX_MEMORY = 1 << 20
"""Bytes that a compiled pattern may take."""


def _options() -> Any:
    options = re2.Options()
    options.max_mem = MAX_MEMORY
    # What is wrong is told by the exception; the library would write it to the standard error, too.
    options.log_errors = False
    return options


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> Any:
    """The compiled pattern, which searches bytes. Raises re2.error.

    RE2 (https://swtch.com/~rsc/regexp/regexp3.html) never backtracks: a search takes time in proportion to the text,
    whatever pattern and answer are. So no pattern and no backend can keep the agent busy.
    """
    return re2.compile(pattern.encode(), _options())


def _sound(pattern: str) -> str:
    try:
        compiled(pattern)
    except re2.error as error:
        said = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
        raise PydanticCustomError(
            "pattern", "is not a pattern of RE2 ({said}); backreferences and look-around are not in it", {"said": said}
        ) from None
    return pattern


Pattern = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_sound)]
"""A regular expression of RE2."""
