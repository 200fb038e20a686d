# SPDX-License-Identifier: GPL-2.0-or-later
"""The edge to the kernel: the skeleton by libnftables, elements by raw netlink, connections by ctnetlink."""

import json
import logging
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from struct import Struct
from typing import Any

from agent.dataplane import conntrack, elements, netlink, network_sets, quality, readback, screening
from agent.dataplane.assignment import Assignment
from agent.dataplane.blame import blamed
from agent.dataplane.counting import Counters, Counting
from agent.dataplane.forwarded import backend_of
from agent.dataplane.limits import COUNTERS
from agent.dataplane.offload import NOTHING_OFFERED, REFUSED, Offered, probe
from agent.dataplane.readback import HOPS, TARGETS
from agent.dataplane.refusal import KernelRefused, first_line, refusal, refused, untunnelled
from agent.dataplane.ruleset import Element, Elements, Ruleset, changed
from agent.dataplane.script import CHAIN_SETS, CHAINS, OFFLOAD, Command, compact, delta, delta_from, fresh, text
from agent.dataplane.skeleton import ELEMENT_SETS, SKELETON, VERSION
from agent.dataplane.tables import INGRESS, INGRESS_CHAINS, TABLE
from agent.dataplane.tracer import CannotTrace, Tracer
from agent.dataplane.tunnels import TunnelFailed, Tunnels
from agent.model.trace import Origin, Service

_log = logging.getLogger(__name__)
_MARK = Struct("=I")
_KEYS_SINCE = (1, 1)
"""The version of nftables by which packets can fill maps with keys of more than 128 bits."""


class Kernel:
    """`table inet sluice`, `table netdev sluice` and tunnels of the network namespace that the first call was made in.

    Every method blocks and may be called from any thread, one at a time: run them in one worker thread. Missing
    libraries show as KernelRefused, missing rights as KernelRefused (check, apply) or OSError (all others).
    """

    def __init__(self) -> None:
        self.counting = Counting()
        """What passes, in all."""
        self._nft: Any = None
        self._applied: Ruleset | None = None
        # What the kernel holds, as far as is known: a ruleset of ours, elements that were found, or nothing of use.
        self._known: Ruleset | Elements | None = None
        self._transactions = netlink.Transactions()
        self._tunnels = Tunnels()
        self._looked = False
        self._absent = True
        self._offered: tuple[tuple[frozenset[tuple[str, int]], bool], Offered] | None = None

    def adopt(self) -> Assignment | None:
        """Read what the kernel holds from an earlier run, to go on with it. None: nothing of ours that can be used.

        Call it once at start and hand the result to compile_ruleset: marks, turns and counters then go on. From here on
        it is known what connections that end have passed.
        """
        try:
            self.counting.listen()
        except OSError as error:
            _log.warning("the kernel does not tell what ends: %s", error)
        numbers = self._read(thoroughly=False)
        return numbers and replace(numbers, tunnels=self._tunnels.read())

    def check(self, ruleset: Ruleset) -> None:
        """Ask the kernel whether it would take the change to `ruleset`; changes nothing. Raises KernelRefused."""
        self._send(ruleset, dry=True)

    def difference(self, ruleset: Ruleset) -> str:
        """The commands, one a line, that `apply` would run to make the kernel hold `ruleset`; "" when it does already.

        They lead from what the kernel holds as far as is known. Raises OSError.
        """
        if not self._looked:
            self.adopt()
        return text(self._commands(ruleset))

    def apply(self, ruleset: Ruleset) -> None:
        """Make the kernel hold `ruleset`, in one transaction, or raise KernelRefused and leave all as it was.

        Flows and unanswered connections of backends that left or failed are forgotten right after it, and all
        connections of those that are to be cut: their clients are balanced anew. Where somebody else has changed the
        table meanwhile, that is mended. Tunnels come before what leads to them, and go after it.
        """
        tunnels = ruleset.assignment.tunnels
        try:
            self._tunnels.prepare(tunnels)
        except TunnelFailed as failed:
            raise untunnelled(ruleset, failed.address, failed.reason) from None
        except OSError as error:
            raise KernelRefused(f"the kernel's links cannot be asked: {error}") from None
        self._send(ruleset, dry=False)
        stale, cut = self._stale(ruleset)
        self._applied = self._known = ruleset
        self._forget(stale, cut=cut)
        try:
            self._tunnels.retire(tunnels)
        except OSError as error:
            # Nothing leads there any more; the next change tries again.
            _log.warning("tunnels that nobody uses could not be removed: %s", error)

    def offer(self, links: Collection[tuple[str, int]], hardware: bool) -> Offered:
        """What established connections can be offloaded to, asked of the kernel when something is new; nothing changes.

        `links`: name and index of the appliance's Ethernet links; `hardware`: whether all of them say that they can.
        """
        wanted = frozenset(links), hardware
        if self._offered is None or self._offered[0] != wanted:
            self._offered = wanted, self._offer(*wanted)
        return self._offered[1]

    def counters(self) -> dict[tuple[str, str], Counters]:
        """The counters of every backend of the applied ruleset, by (farm, backend)."""
        return self.counting.counters(self._applied) if self._applied else {}

    def turned_away(self) -> dict[str, dict[str, int]]:
        """How much limits turned away, by farm and limit (the names are TurnedAway's), of the farms that have them."""
        found: dict[str, dict[str, int]] = {}
        for limit, set_name in COUNTERS.items():
            for farm, packets in self._by_farm(set_name).items():
                found.setdefault(farm, {})[limit] = packets
        return found

    def dropped(self) -> dict[str, dict[str, int]]:
        """The packets that each farm's settings have dropped since they are in the kernel, by the name of the setting.

        Only farms that have such settings.
        """
        found: dict[str, dict[str, int]] = {}
        wholes = self._applied.wholes if self._applied else {}
        if any("ceilings" in whole.elements for whole in wholes.values()):
            figures = elements.exceeded("ceilings")
            for farm, whole in wholes.items():
                keys = whole.elements.get("ceilings", ())
                if keys:
                    found[farm] = {quality.FIELDS[key.split()[-1]]: figures.get(key, 0) for key in keys}
        for set_name, field in screening.FIELDS.items():
            for farm, packets in self._by_farm(set_name).items():
                found.setdefault(farm, {})[field] = packets
        return found

    def _by_farm(self, set_name: str) -> dict[str, int]:
        """The packets that a set of farms' marks has counted, by farm; an element of anybody else's counts for none."""
        parts = self._applied.parts if self._applied else {}
        farms = {_MARK.pack(part.numbers.mark): side.farm for side, part in parts.items() if set_name in part.elements}
        keys = [key for part in parts.values() for key in part.elements.get(set_name, ())]
        found: dict[str, int] = dict.fromkeys(farms.values(), 0)
        for key, packets, _octets in elements.counters(set_name, keys) if farms else ():
            if key in farms:
                found[farms[key]] += packets
        return found

    def export(self) -> dict[str, Any]:
        """What a later run needs to go on counting, for `counting.restore` before its first `counters`."""
        return self.counting.export(self._applied) if self._applied else {}

    def close(self) -> None:
        """Count no longer. What the kernel holds stays."""
        self.counting.close()

    def open_connections(self, who: Collection[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """The connections that are open now, of these backends; before the first `apply`, of those that `adopt` found.

        Cheaper than all where they are few.
        """
        if self._applied or not isinstance(self._known, dict):
            names: Mapping[int, tuple[str, str]] = self._applied.marks() if self._applied else {}
        else:
            named = (each for name in TARGETS for each in self._known.get(name, {}).items())
            names = {int(key): (comment.partition("/")[0], comment.partition("/")[2]) for key, (_, comment) in named}
        marks = {mark: name for mark, name in names.items() if name in who}
        return {marks[mark]: number for mark, number in conntrack.active_by_mark(marks).items() if mark in marks}

    def tracer(self, client: Origin, service: Service, burst: int) -> Tracer:
        """Begin to follow packets. The tracer's `close` is one of the calls that are made one at a time, `read` is not.

        Raises CannotTrace.
        """
        try:
            return Tracer(self._context(), client, service, burst)
        except KernelRefused as refused:
            raise CannotTrace(refused.message) from None

    def _read(self, *, thoroughly: bool) -> Assignment | None:
        """Look at the table. What of the large sets nothing else points at is seen with `thoroughly` only."""
        self._known, self._looked, self._absent = None, True, True
        listing = self._ask(f"list map {TABLE} numbers")
        if listing is None:
            return None
        self._absent = False
        held: dict[str, dict[str, Element]] = {}
        try:
            for set_name in ELEMENT_SETS:
                keys = None if thoroughly else readback.keys(set_name, held)
                held[set_name] = elements.read(set_name, keys)
            for table, set_name in CHAIN_SETS.items():
                held[set_name] = readback.chains(self._ask(f"list chains {table.split()[0]}"), table)
            for set_name in network_sets.names():
                held[set_name] = elements.read(set_name)
                held[CHAINS][set_name] = ("", "")
            held[OFFLOAD] = self._flowtables()
        except ValueError as error:
            _log.warning("table %s holds what this software cannot read: %s", TABLE, error)
            return None
        numbers = readback.assignment(held)
        beside = self._ask(f"list map {INGRESS} in_numbers")
        if numbers is not None and [readback.comment(each) for each in (listing, beside) if each] == [VERSION] * 2:
            self._known = held
        return numbers

    def _offer(self, links: frozenset[tuple[str, int]], hardware: bool) -> Offered:
        if not links:
            return NOTHING_OFFERED
        reason = "not all of its network cards can do it"
        try:
            if hardware:
                refusal = self._takes(Offered(links, hardware=True))
                if refusal is None:
                    return Offered(links, hardware=True, reason="")
                reason = f"its network cards refuse it: {refusal}"
            refusal = self._takes(Offered(links))
        except KernelRefused as refused:
            refusal = refused.message
        return Offered(links, reason=reason) if refusal is None else Offered(reason=f"{REFUSED}{refusal}")

    def _commands(self, ruleset: Ruleset) -> list[Command]:
        if isinstance(self._known, Ruleset):
            if self._known.offload == ruleset.offload:
                return delta(self._known, ruleset)
            # A link that went away has left the flowtable by itself.
            found = {name: frozenset(filter(None, each.split(","))) for name, (each, _) in self._flowtables().items()}
            return delta(self._known, ruleset, found)
        return fresh(ruleset) if self._known is None else delta_from(self._known, ruleset)

    def _send(self, ruleset: Ruleset, *, dry: bool) -> None:
        """Lead the table to `ruleset`; what is refused is told with whose it is. Raises KernelRefused."""
        try:
            self._set_right(ruleset, dry=dry)
        except KernelRefused as refusal:
            raise blamed(refusal, ruleset) from None

    def _set_right(self, ruleset: Ruleset, *, dry: bool) -> None:
        """Lead the table to `ruleset`; if it is not what it was thought to be, from what it is."""
        if not self._looked:
            self.adopt()
        thought = self._known
        try:
            self._lead(ruleset, dry=dry)
        except KernelRefused as refusal:
            if thought is None:
                raise
            self._read(thoroughly=True)
            if self._is(thought):
                self._known = thought
                raise
            _log.warning("table %s was changed by somebody else (%s); setting it right", TABLE, refusal.message)
            self._lead(ruleset, dry=dry)

    def _lead(self, ruleset: Ruleset, *, dry: bool) -> None:
        commands = self._commands(ruleset)
        first = [command for command in commands if command.structural]
        if self._known is not None and not first:
            self._transact(commands, dry=dry)
        elif self._known is not None or dry or not self._absent:
            self._load("" if self._known is not None else SKELETON, commands, dry=dry)
        else:
            # Where nothing is nothing is lost when the table comes first; libnftables would need 500 MB for all of it.
            self._load(SKELETON, first, dry=False)
            try:
                self._transact([command for command in commands if not command.structural], dry=False)
            except KernelRefused:
                self._context().cmd(f"delete table {TABLE}; delete table {INGRESS}")
                raise

    def _is(self, thought: Ruleset | Elements) -> bool:
        """Whether the elements that were just read are what they were thought to be."""
        real = self._known
        if real is None or isinstance(real, Ruleset):
            return False
        return not delta_from(real, thought) if isinstance(thought, Ruleset) else real == thought

    def _stale(self, ruleset: Ruleset) -> tuple[set[int], set[int]]:
        """The marks of backends that leave with `ruleset` or fail now, and of those that now lose all connections."""
        known = self._applied or self._known or {}
        stale: set[int] = set()
        cut: set[int] = set()
        if isinstance(known, Ruleset):
            for _side, before, after in changed(known, ruleset):
                had = set(before.numbers.backends.values()) if before else set()
                gone = had.difference(after.numbers.backends.values() if after else ())
                stale |= gone
                if after:
                    stale |= after.failed - (before.failed if before else set())
                    cut |= after.cut - (before.cut if before else set())
                    cut |= gone if after.farm.on_failure == "cut" else set()
            return stale, cut
        named = (each for set_name in TARGETS | HOPS for each in known.get(set_name, {}).items())
        farms = {backend_of(int(key)): comment.partition("/")[0] for key, (_, comment) in named}
        gone = farms.keys() - ruleset.marks().keys()
        strict = {side.farm for side, part in ruleset.parts.items() if part.farm.on_failure == "cut"}
        return gone | ruleset.failed(), ruleset.cut() | {mark for mark in gone if farms[mark] in strict}

    def _forget(self, marks: set[int], *, cut: set[int]) -> None:
        try:
            conntrack.forget(marks, cut=cut)
        except OSError as error:
            # The change itself has been made; a stale flow ends by its timeout.
            _log.warning("flows of backends that left could not be removed: %s", error)

    def _load(self, start: str, commands: Sequence[Command], *, dry: bool) -> None:
        """Run `start` (lines of nft) and these commands by libnftables, in one transaction."""
        come = [each for each in commands if each.verb == "add" and each.set_name == INGRESS_CHAINS]
        if wide := next((each for each in come if any(name.startswith("pick6") for name in each.elements)), None):
            self._need_keys(wide)
        context = self._context()
        # From a file, because libnftables tells the line of an error for files only.
        descriptor = os.memfd_create("sluice.nft", os.MFD_CLOEXEC)
        try:
            with open(descriptor, "w", encoding="ascii", closefd=False) as file:
                file.write(f"{start}{compact(commands)}\n")
            context.set_dry_run(dry)
            code, _output, error = context.cmd_from_file(f"/proc/self/fd/{descriptor}")
        finally:
            context.set_dry_run(False)
            os.close(descriptor)
            if dry:
                # It remembers ranges of a set as if they had come, and would not add them again (seen with 1.0.6).
                self._nft = None
        if code != 0:
            raise refusal(error, commands, start.count("\n"))

    def _need_keys(self, command: Command) -> None:
        """Refuse what an early libnftables would not only refuse, but end the process over."""
        answer = self._ask("list counters netdev") or {}
        told = next((item["metainfo"]["version"] for item in answer.get("nftables", []) if "metainfo" in item), "")
        if not (version := re.match(r"(\d+)\.(\d+)", told)) or tuple(map(int, version.groups())) < _KEYS_SINCE:
            needed = ".".join(map(str, _KEYS_SINCE))
            raise refused(f"nftables {told} cannot forward IPv6 at ingress; {needed} can", command)

    def _transact(self, commands: Sequence[Command], *, dry: bool) -> None:
        """Change elements, in one transaction. Raises KernelRefused."""
        try:
            refusal = elements.Batch(commands).run(self._transactions, dry=dry)
        except elements.Unwritable as error:
            raise refused(str(error), error.command) from None
        except OSError as error:
            raise KernelRefused(f"the kernel cannot be asked: {error}") from None
        if refusal is not None:
            raise refused(refusal[1], refusal[0])

    def _flowtables(self) -> dict[str, Element]:
        return readback.flowtables(self._ask(f"list flowtables {TABLE.split()[0]}"))

    def _takes(self, offered: Offered) -> str | None:
        """Why the kernel cannot do what is offered; None: it can."""
        context = self._context()
        context.set_dry_run(True)
        try:
            code, _output, error = context.cmd(probe(offered))
        finally:
            context.set_dry_run(False)
        return first_line(error).removeprefix("Error: ") if code else None

    def _ask(self, question: str) -> dict[str, Any] | None:
        """The JSON that answers a command; None where it asks for what is not there. Raises OSError otherwise."""
        code, output, error = self._context().cmd(question)
        if code == 0:
            answer: dict[str, Any] = json.loads(output)
            return answer
        if "No such file or directory" in error:
            return None
        raise OSError(f"nftables cannot be read: {first_line(error)}")

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
