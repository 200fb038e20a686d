# SPDX-License-Identifier: GPL-2.0-or-later
"""What all parts of the document share."""

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """A part of the document: unknown fields are faults, nothing is coerced, nothing changes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
