# SPDX-License-Identifier: GPL-2.0-or-later
"""The edge to the kernel: libnftables in, JSON and ctnetlink out."""

import json
import logging
import os
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agent.dataplane import conntrack, readback
from agent.dataplane.assignment import Assignment
from agent.dataplane.readback import TARGETS, Held
from agent.dataplane.ruleset import Element, Elements, Ruleset
from agent.dataplane.script import CHAINS, Command, delta, delta_from, fresh, text
from agent.dataplane.skeleton import ELEMENT_SETS, PLAIN_SETS, TABLE, VERSION
from agent.dataplane.tracer import CannotTrace, Tracer
from agent.model.trace import Origin, Service

_log = logging.getLogger(__name__)
_FIELDS = {
    "services": "addresses",
    "ranges": "ports",
    "whole": "addresses",
    "backends": "backends",
    "hosts": "backends",
    "traffic": "backends",
}
_PLACE = re.compile(r"^[^:\n]*:(\d+):\d+(?:-\d+)?: Error: (.*)$", re.MULTILINE)


class KernelRefused(Exception):
    """The kernel (or libnftables) does not take a ruleset; nothing has changed.

    `message` is the kernel's reason in one line, `farm` the farm it concerns and `field` the field of it ("addresses"
    or "backends"), each None where it cannot be told.
    """

    def __init__(self, message: str, farm: str | None = None, field: str | None = None) -> None:
        self.message = message
        self.farm = farm
        self.field = field
        super().__init__(message if farm is None else f"farm {farm}: {message}")


@dataclass(frozen=True)
class Counters:
    """What the kernel counted for a backend since it is in the kernel. Bytes with IP headers; in = from clients."""

    new: int = 0
    packets_in: int = 0
    bytes_in: int = 0
    packets_out: int = 0
    bytes_out: int = 0


class Kernel:
    """`table inet sluice` of the network namespace that the first call was made in.

    Every method blocks and may be called from any thread, one at a time: run them in one worker thread. Missing
    libraries show as KernelRefused, missing rights as KernelRefused (check, apply) or OSError (all others).
    """

    def __init__(self) -> None:
        self._nft: Any = None
        self._applied: Ruleset | None = None
        # What the kernel holds, as far as is known: a ruleset of ours, elements that were found, or nothing of use.
        self._known: Ruleset | Elements | None = None
        self._looked = False

    def adopt(self) -> Assignment | None:
        """Read what the kernel holds from an earlier run, to go on with it. None: nothing of ours that can be used.

        Call it once at start and hand the result to compile_ruleset: marks, turns and counters then go on.
        """
        self._known, self._looked = None, True
        listing = self._list("numbers")
        if listing is None:
            return None
        elements: dict[str, dict[str, Element]] = {}
        for set_name in ELEMENT_SETS:
            elements[set_name] = {held.key: held.element for held in self._elements(set_name)}
        elements[CHAINS] = readback.chains(self._ask(f"list chains {TABLE.split()[0]}"))
        numbers = readback.assignment(elements)
        if numbers is not None and readback.comment(listing) == VERSION:
            self._known = elements
        return numbers

    def check(self, ruleset: Ruleset) -> None:
        """Ask the kernel whether it would take the change to `ruleset`; changes nothing. Raises KernelRefused."""
        context = self._context()
        context.set_dry_run(True)
        try:
            self._send(ruleset)
        finally:
            context.set_dry_run(False)

    def difference(self, ruleset: Ruleset) -> str:
        """The commands, one a line, that `apply` would run to make the kernel hold `ruleset`; "" when it does already.

        They lead from what the kernel holds as far as is known. Raises OSError.
        """
        return text(self._commands(ruleset))

    def apply(self, ruleset: Ruleset) -> None:
        """Make the kernel hold `ruleset`, in one transaction, or raise KernelRefused and leave all as it was.

        UDP flows and unanswered TCP connections of backends that left or failed are forgotten right after it, and all
        connections of those that are to be cut: their clients are balanced anew. Where somebody else has changed the
        table meanwhile, that is mended.
        """
        self._send(ruleset)
        before, failed_before, cut_before = self._marks_before()
        self._applied = self._known = ruleset
        gone = before - ruleset.marks().keys()
        self._forget(gone | (ruleset.failed() - failed_before), cut=ruleset.cut() - cut_before)

    def counters(self) -> dict[tuple[str, str], Counters]:
        """The counters of every backend of the applied ruleset, by (farm, backend)."""
        marks = self._applied.marks() if self._applied else {}
        result = {who: Counters() for who in marks.values()}
        for set_name in TARGETS:
            for held in self._elements(set_name):
                who = marks.get(int(held.key))
                if who:
                    result[who] = replace(result[who], new=held.packets)
        for held in self._elements("traffic"):
            mark, _, direction = held.key.partition(" . ")
            who = marks.get(int(mark))
            if who and direction == "original":
                result[who] = replace(result[who], packets_in=held.packets, bytes_in=held.bytes)
            elif who:
                result[who] = replace(result[who], packets_out=held.packets, bytes_out=held.bytes)
        return result

    def active(self) -> dict[tuple[str, str], int]:
        """Connections that are open now (UDP: flows), by (farm, backend); backends without any may be missing."""
        marks = self._applied.marks() if self._applied else {}
        return {marks[mark]: number for mark, number in conntrack.active_by_mark().items() if mark in marks}

    def tracer(self, client: Origin, service: Service, burst: int) -> Tracer:
        """Begin to follow packets. The tracer's `close` is one of the calls that are made one at a time, `read` is not.

        Raises CannotTrace.
        """
        try:
            return Tracer(self._context(), client, service, burst)
        except KernelRefused as refused:
            raise CannotTrace(refused.message) from None

    def _commands(self, ruleset: Ruleset) -> list[Command]:
        if not self._looked:
            self.adopt()
        if isinstance(self._known, Ruleset):
            return delta(self._known, ruleset)
        return fresh(ruleset) if self._known is None else delta_from(self._known, ruleset)

    def _send(self, ruleset: Ruleset) -> None:
        """Run the commands that lead to `ruleset`; if the table is not what it was thought to be, from what it is."""
        commands = self._commands(ruleset)
        try:
            self._run(commands)
        except KernelRefused as refusal:
            thought = self._known
            if thought is None:
                raise
            self.adopt()
            if self._is(thought):
                self._known = thought
                raise
            _log.warning("table %s was changed by somebody else (%s); setting it right", TABLE, refusal.message)
            self._run(self._commands(ruleset))

    def _is(self, thought: Ruleset | Elements) -> bool:
        """Whether the elements that were just read are what they were thought to be."""
        real = self._known
        if real is None or isinstance(real, Ruleset):
            return False
        return not delta_from(real, thought) if isinstance(thought, Ruleset) else real == thought

    def _marks_before(self) -> tuple[set[int], set[int], set[int]]:
        """The marks of all backends, of those that had failed, and of those that had no connection left."""
        known = self._applied or self._known or {}
        if isinstance(known, Ruleset):
            return set(known.marks()), known.failed(), known.cut()
        return {int(key) for set_name in TARGETS for key in known.get(set_name, {})}, set(), set()

    def _forget(self, marks: set[int], *, cut: set[int]) -> None:
        try:
            conntrack.forget(marks, cut=cut)
        except OSError as error:
            # The change itself has been made; a stale flow ends by its timeout.
            _log.warning("flows of backends that left could not be removed: %s", error)

    def _run(self, commands: Sequence[Command]) -> None:
        if not commands:
            return
        # From a file, because libnftables tells the line of an error for files only.
        descriptor = os.memfd_create("sluice.nft", os.MFD_CLOEXEC)
        try:
            with open(descriptor, "w", encoding="ascii", closefd=False) as file:
                file.write(text(commands) + "\n")
            code, _output, error = self._context().cmd_from_file(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
        if code != 0:
            raise _refusal(error, commands)

    def _list(self, set_name: str) -> dict[str, Any] | None:
        """The JSON of one set; None where there is no such set. Raises OSError for any other reason."""
        kind = "set" if set_name in PLAIN_SETS else "map"
        return self._ask(f"list {kind} {TABLE} {set_name}")

    def _ask(self, question: str) -> dict[str, Any] | None:
        """The JSON that answers a command; None where it asks for what is not there. Raises OSError otherwise."""
        code, output, error = self._context().cmd(question)
        if code == 0:
            answer: dict[str, Any] = json.loads(output)
            return answer
        if "No such file or directory" in error:
            return None
        raise OSError(f"nftables cannot be read: {_first_line(error)}")

    def _elements(self, set_name: str) -> Iterable[Held]:
        links = {name: index for index, name in socket.if_nameindex()}
        return readback.held(self._list(set_name) or {}, links)

    def _context(self) -> Any:
        if self._nft is None:
            try:
                from nftables import Nftables  # noqa: PLC0415 - a build host compiles without it

                context = Nftables()
            except (ImportError, OSError) as error:
                raise KernelRefused(f"libnftables is missing: {error}") from None
            context.set_json_output(True)
            self._nft = context
        return self._nft


def _refusal(error: str, commands: Sequence[Command]) -> KernelRefused:
    """What libnftables said, with the farm whose line it points at."""
    match = _PLACE.search(error)
    if not match:
        return KernelRefused(_first_line(error))
    line = int(match.group(1))
    command = commands[line - 1] if 1 <= line <= len(commands) else None
    field = _FIELDS.get(command.set_name.rstrip("46")) if command and command.farm else None
    return KernelRefused(match.group(2).strip(), command.farm if command else None, field)


def _first_line(error: str) -> str:
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return lines[0] if lines else "no reason was given"
