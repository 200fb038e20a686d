# SPDX-License-Identifier: GPL-2.0-or-later
"""What is checked: a check and the address and port it goes to, wherever in the document it stands."""

import json
from dataclasses import dataclass, field
from functools import lru_cache

from agent.model import Backend, Check, Configuration, Farm, PortCheck
from agent.model.types import Address

_PACE = {"interval", "timeout", "rise", "fall", "retry_interval"}


@lru_cache(maxsize=1024)
def _settings(check: Check) -> tuple[str, str]:
    """All settings of a check as text, and those without the pace. Kept: few checks are asked of many backends."""
    settings = check.model_dump(mode="json", exclude={"type", "port", "address"})
    asked = {name: value for name, value in settings.items() if name not in _PACE}
    return json.dumps(settings, sort_keys=True), json.dumps(asked, sort_keys=True)


@dataclass(frozen=True, eq=False)
class Target:
    """One thing to check. Two targets are equal when their keys are: farms that ask the same share the answer."""

    address: Address
    port: int | None
    """None for a protocol that has none."""
    check: Check
    key: str = field(init=False)
    """Everything that is asked, as text: type, address, port and all settings of the check."""
    subject: str = field(init=False)
    """The key without the pace (`_PACE`): a target whose pace alone changed keeps its verdict."""

    def __post_init__(self) -> None:
        """Make the two names of the target."""
        base = f"{self.check.type} {self.address} {self.port or '-'}"
        settings, asked = _settings(self.check)
        object.__setattr__(self, "key", f"{base} {settings}")
        object.__setattr__(self, "subject", f"{base} {asked}")

    def __eq__(self, other: object) -> bool:
        """Whether both ask the same."""
        return isinstance(other, Target) and self.key == other.key

    def __hash__(self) -> int:
        """By the key."""
        return hash(self.key)


def target_of(farm: Farm, backend: Backend, check: Check) -> Target:
    """What `check` of `farm` asks of `backend`."""
    port = (check.port or backend.port or farm.ports[0].first) if isinstance(check, PortCheck) else None
    return Target(check.address or backend.address, port, check)


def askers(config: Configuration) -> dict[Target, list[str]]:
    """Everything that the farms of a document ask, with the farms that do.

    A farm that is not enabled asks nothing, a disabled backend is not asked; one that drains is.
    """
    result: dict[Target, list[str]] = {}
    for name, farm in config.farms.items():
        if farm.enabled and farm.checks:
            asked = [backend for backend in farm.backends.values() if backend.state != "disabled"]
            for check in farm.checks:
                for target in {target_of(farm, backend, check) for backend in asked}:
                    names = result.setdefault(target, [])
                    if names[-1:] != [name]:  # two of its checks may ask the same
                        names.append(name)
    return result


def targets(config: Configuration) -> set[Target]:
    """The keys of `askers`."""
    return set(askers(config))
