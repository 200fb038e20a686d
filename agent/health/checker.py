# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the checks: one task for each distinct target."""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, get_args

from agent.health.probe import Answer, CheckFailed, CheckNotMade, Probe
from agent.health.rise_fall import RiseFall
from agent.health.table import PROBES
from agent.health.target import Target
from agent.health.verdict import Verdict
from agent.model.state import Health, Trouble
from agent.model.types import Address

_log = logging.getLogger(__name__)

FIRST_TRIES_PER_SECOND = 1000
"""New targets are tried for the first time no faster than this, so that a start with thousands is no burst."""

EARLIER = 0.05
"""An interval is shortened by a random part of up to this much, so that targets drift apart; it is never lengthened,
so that a failure is noticed within fall x interval."""

PATIENCE = 60.0
"""Seconds after the start of checking in which the links may come up; then what fails has failed, whyever."""

NOT_TRIED = Verdict("unknown", "no try has been made yet")

OnChange = Callable[[Target, Verdict], None]


@dataclass
class _Known:
    """What is known of a target; all that outlives its task."""

    health: Health = "unknown"
    run: int = 0
    verdict: Verdict = NOT_TRIED


class _Checked:
    """A target, what is known of it, and the task that asks."""

    def __init__(self, target: Target, known: _Known) -> None:
        self.target = target
        self.machine = RiseFall(target.check.rise, target.check.fall, known.health, known.run)
        self.verdict = known.verdict
        self.warning = ""
        self.task: asyncio.Task[None] | None = None

    @property
    def known(self) -> _Known:
        return _Known(self.machine.health, self.machine.run, self.verdict)

    @property
    def interval(self) -> float:
        """From the start of the last try to that of the next: shorter while the verdict is turning, if that is set."""
        check = self.target.check
        if check.retry_interval is not None and self.machine.turning:
            return check.retry_interval
        return check.interval

    def take(self, label: str, outcome: Answer | str) -> bool:
        """Take an answer, or why there is none. Says whether the health changed."""
        inverted = self.target.check.invert
        latency: float | None
        if isinstance(outcome, Answer):
            label = label if outcome.latency is None else f"{label} answers"
            ok, reason = not inverted, ": ".join(filter(None, (label, outcome.words)))
            latency = None if outcome.latency is None else outcome.latency * 1000
        else:
            ok, reason = inverted, f"{label}: {outcome}"
            latency = self.verdict.latency_ms
        if inverted:
            reason += ", as it should be" if ok else ", and should not"
        changed = self.machine.result(ok=ok)
        needed = self.machine.rise if ok else self.machine.fall
        warned = isinstance(outcome, Answer) and outcome.warning
        self.warning = f"{self.target.address}, {reason}" if warned else ""
        self._conclude(reason, changed=changed, needed=needed, latency_ms=None if inverted else latency)
        return changed

    def waits(self, label: str, reason: str, why: str) -> None:
        """Take a failure that says nothing of the target, and why."""
        self.verdict = replace(self.verdict, reason=f"{label}: {reason}; not counted: {why}")

    def _conclude(self, reason: str, *, changed: bool, needed: int, latency_ms: float | None) -> None:
        if self.machine.run:
            reason += f" ({self.machine.run} of {needed} in a row that it takes)"
        since = datetime.now(UTC) if changed else self.verdict.since
        self.verdict = Verdict(self.machine.health, reason, since, latency_ms)


class Checker:
    """Keeps one task for each distinct target; to be used from one event loop."""

    def __init__(
        self,
        on_change: OnChange,
        *,
        probes: Mapping[str, Probe] = PROBES,
        chance: Callable[[], float] = random.random,
        not_yet: Callable[[Address], str | None] = lambda _address: None,
        patience: float = PATIENCE,
    ) -> None:
        """Make it; nothing runs before `update`.

        `on_change(target, verdict)` is called from the event loop whenever the health of a target changes (not for a
        changed latency or reason). `probes` are the check types; `chance` gives jitter, a number in [0, 1).
        `not_yet(address)` says in words what of our own does not lead there yet, such as a link that is coming up;
        None when nothing is in the way. For `patience` seconds after the first `update`, a failure meanwhile makes
        nothing of a target that nothing is known of.
        """
        self._on_change = on_change
        self._probes = probes
        self._chance = chance
        self._not_yet = not_yet
        self._patience = patience
        self._patient_until: float | None = None
        self._checked: dict[str, _Checked] = {}
        self._by_subject: dict[str, _Checked] = {}
        self._restored: dict[str, _Known] = {}
        self._hindered: dict[str, str] = {}
        self._stopping: set[asyncio.Task[None]] = set()

    def update(self, targets: Iterable[Target]) -> None:
        """Check these targets from now on: start what is new, stop what is gone, leave the rest alone.

        A new target starts with what is known of it: from `restore`, or from a target that differs in its pace only.
        """
        if self._patient_until is None:
            self._patient_until = asyncio.get_running_loop().time() + self._patience
        wanted = {target.key: target for target in targets}
        for key in self._checked.keys() - wanted.keys():
            self._stop(self._checked.pop(key))
        new = [target for key, target in wanted.items() if key not in self._checked]
        for target in new:
            alike = self._by_subject.get(target.subject)
            known = self._restored.get(target.key) or (alike.known if alike else _Known())
            checked = _Checked(target, known)
            self._checked[target.key] = checked
            delay = self._chance() * min(target.check.interval, len(new) / FIRST_TRIES_PER_SECOND)
            checked.task = asyncio.get_running_loop().create_task(self._run(checked, delay), name=f"check {target.key}")
        self._by_subject = {checked.target.subject: checked for checked in self._checked.values()}
        self._restored.clear()

    def verdict(self, target: Target) -> Verdict:
        """What is known of a target, or what `update` would begin with: unknown where nothing alike is checked."""
        checked = self._checked.get(target.key) or self._by_subject.get(target.subject)
        return checked.verdict if checked else NOT_TRIED

    def hindrance(self) -> str | None:
        """Why tries cannot be made at present for want of something of our own, in words; None when they can."""
        reasons = list(self._hindered.values())  # a copy: other threads ask, too
        return f"{len(reasons)} checks cannot be made: {reasons[0]}" if reasons else None

    def troubles(self) -> Iterator[Trouble]:
        """What a person has to do something about: tries that cannot be made, and backends that are well, but."""
        if hindrance := self.hindrance():
            yield Trouble(code="checks-hindered", message=hindrance)
        # A copy: other threads ask, too.
        if warnings := [each.warning for each in list(self._checked.values()) if each.warning]:
            more = f" (and {len(warnings) - 1} more)" if len(warnings) > 1 else ""
            yield Trouble(code="checks-warn", message=f"A check warns: {warnings[0]}{more}")

    def export(self) -> dict[str, Any]:
        """What is known of every target, to be kept as JSON over a restart of the agent."""
        return {
            key: {
                "health": checked.machine.health,
                "run": checked.machine.run,
                "reason": checked.verdict.reason,
                "since": checked.verdict.since.isoformat() if checked.verdict.since else None,
                "latency_ms": checked.verdict.latency_ms,
            }
            for key, checked in self._checked.items()
        }

    def restore(self, kept: object) -> None:
        """Take what `export` gave, for the next `update`; what is not of its form is left out."""
        for key, value in kept.items() if isinstance(kept, dict) else ():
            try:
                health, run = value["health"], value["run"]
                since = datetime.fromisoformat(value["since"]) if value["since"] else None
                latency = value["latency_ms"]
                sound = (
                    health in get_args(Health)
                    and isinstance(run, int)
                    and run >= 0
                    and (latency is None or isinstance(latency, int | float))
                )
                reason = str(value["reason"])
            except (KeyError, TypeError, ValueError):
                continue
            if sound:
                self._restored[key] = _Known(health, run, Verdict(health, reason, since, latency))

    async def stop(self) -> None:
        """Stop all checks, and wait until none is left."""
        for checked in self._checked.values():
            self._stop(checked)
        self._checked.clear()
        await asyncio.gather(*self._stopping, return_exceptions=True)

    def _stop(self, checked: _Checked) -> None:
        self._hindered.pop(checked.target.key, None)
        if checked.task is not None:
            checked.task.cancel()
            self._stopping.add(checked.task)
            checked.task.add_done_callback(self._stopping.discard)

    async def _run(self, checked: _Checked, delay: float) -> None:
        """Try again and again; the next try starts an interval after the last one did, never while it runs."""
        loop = asyncio.get_running_loop()
        start = loop.time() + delay
        while True:
            await asyncio.sleep(start - loop.time())
            start = loop.time()
            if await self._try(checked):
                # Not called from here: an error of the caller's must not end the checking.
                loop.call_soon(self._on_change, checked.target, checked.verdict)
            start += checked.interval * (1 - EARLIER * self._chance())

    async def _try(self, checked: _Checked) -> bool:
        """Try once. Says whether the health changed."""
        target = checked.target
        probe = self._probes[target.check.type]
        label = probe.label(target)
        why = self._in_the_way(checked)
        outcome: Answer | str
        try:
            async with asyncio.timeout(target.check.timeout):
                outcome = await probe.probe(target)
        except CheckFailed as error:
            outcome = str(error)
        except TimeoutError:
            # Judged here and not by a clock of the probe's: of two that have run out, the later may win.
            well = target.check.silence_is_well
            outcome = Answer(None, "no refusal") if well else f"no answer within {target.check.timeout:g} s"
        except CheckNotMade as error:
            self._hinder(target, str(error))
            return False
        except Exception as error:  # noqa: BLE001 a fault of the probe itself: it is told, and it takes no backend out
            if target.key not in self._hindered:
                _log.exception("the check %s went wrong", target.key)
            self._hinder(target, f"internal error: {error!r}")
            return False
        self._hindered.pop(target.key, None)
        if why is not None and isinstance(outcome, str):
            checked.waits(label, outcome, why)
            return False
        return checked.take(label, outcome)

    def _in_the_way(self, checked: _Checked) -> str | None:
        """What of our own is in the way of a try that begins now, where that is a reason to wait."""
        if checked.machine.health != "unknown" or self._patient_until is None:
            return None
        if asyncio.get_running_loop().time() >= self._patient_until:
            return None
        return self._not_yet(checked.target.address)

    def _hinder(self, target: Target, reason: str) -> None:
        if not self._hindered:
            _log.warning("checks cannot be made: %s", reason)
        self._hindered[target.key] = reason
