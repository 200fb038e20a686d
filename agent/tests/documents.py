# SPDX-License-Identifier: GPL-2.0-or-later
"""Documents for tests of the model, and the faults that they have."""

import pytest

from agent.model import Invalid, validate

FARM = {"addresses": ["192.0.2.10"], "ports": [80], "backends": {"a": {"address": "198.51.100.1"}}}
SIX = {"addresses": ["2001:db8::10"], "ports": [80]}


def document(**farms):
    """A document of farms by name (`_` for `-`), each FARM but for what is given."""
    return {"farms": {name.replace("_", "-"): FARM | farm for name, farm in farms.items()}}


def faults(content):
    """Place and words of each fault, of which there is one at least."""
    with pytest.raises(Invalid) as caught:
        validate(content)
    return [(fault.pointer, fault.message) for fault in caught.value.faults]


def pointers(content):
    """The places of the faults."""
    return [place for place, _ in faults(content)]
