# SPDX-License-Identifier: GPL-2.0-or-later
"""The queues of links that have a bandwidth: a class for each class of traffic (HTB), each with fair queues in it.

5150:     the link's root; what has no class goes to `normal`
5150:1    the bandwidth as a whole
5150:10, 5150:20, 5150:30     interactive, normal, bulk; packets of farms bring the handle as their priority
"""

import asyncio
import errno
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pyroute2 import IPRoute, NetlinkError

from agent.model import QUEUES, TRAFFIC_QUEUES, Link
from agent.model.state import Trouble
from agent.system.links import SystemLink

_ROOT = 0xFFFFFFFF
_HANDLE = QUEUES << 16
_WHOLE = _HANDLE | 1
_FAIR = "fq_codel"
_BURST_PARTS = 100
"""A class may be ahead of its rate by a hundredth of a second, for timers that come late."""
_LEAST_BURST = 6_000
"""Bytes: four packets of an Ethernet, where a hundredth of a second is less. So not every packet waits for a timer."""


@dataclass(frozen=True, order=True)
class Queue:
    """A class of HTB: handles as the kernel has them, rates in bytes per second."""

    handle: int
    parent: int
    rate: int
    most: int
    rank: int


def queues(bandwidth: int) -> tuple[Queue, ...]:
    """The classes of a link of `bandwidth` bit/s, parents first. Pure."""
    whole = bandwidth // 8
    return (
        Queue(_WHOLE, _ROOT, whole, whole, 0),
        *(
            Queue(_HANDLE | each.minor, _WHOLE, whole * each.sure // 100, whole * each.most // 100, each.rank)
            for each in TRAFFIC_QUEUES.values()
        ),
    )


async def reconcile(links: Mapping[str, Link], present: Iterable[SystemLink]) -> list[Trouble]:
    """Bring the queues of the links that are present to what the document says; to be called at every change.

    Links without a bandwidth keep what they have, unless it is Sluice's. Returns what is wrong, never raises.
    """
    wanted = {link.index: (link.name, links[link.name].bandwidth if link.name in links else None) for link in present}
    return await asyncio.to_thread(_reconcile, wanted)


def _reconcile(wanted: Mapping[int, tuple[str, int | None]]) -> list[Trouble]:
    troubles: list[Trouble] = []
    try:
        with IPRoute() as netlink:
            ours = {each["index"] for each in netlink.get_qdiscs() if _is_ours(each)}
            for index, (name, bandwidth) in wanted.items():
                if bandwidth is None and index not in ours:
                    continue
                try:
                    _bring(netlink, index, bandwidth, there=index in ours)
                except NetlinkError as error:
                    if error.code != errno.ENODEV:
                        troubles.append(_trouble(f"of link {name}", error))
    except (OSError, NetlinkError) as error:
        troubles.append(_trouble("of links", error))
    return troubles


def _bring(netlink: IPRoute, index: int, bandwidth: int | None, *, there: bool) -> None:
    """Raises NetlinkError."""
    if bandwidth is None:
        netlink.tc("del", "htb", index, _HANDLE, parent=_ROOT)
        return
    if not there:
        netlink.tc("replace", "htb", index, _HANDLE, parent=_ROOT, default=TRAFFIC_QUEUES["normal"].minor)
    found = _classes(netlink, index)
    for queue in queues(bandwidth):
        if found.get(queue.handle) != queue:
            netlink.tc(
                "replace-class",
                "htb",
                index,
                queue.handle,
                parent=_HANDLE if queue.parent == _ROOT else queue.parent,
                rate=queue.rate,
                ceil=queue.most,
                burst=_burst(queue.rate),
                cburst=_burst(queue.most),
                quantum=_quantum(queue.rate),
                prio=queue.rank,
            )
    leaves = {each["parent"] for each in netlink.get_qdiscs(index) if each.get_attr("TCA_KIND") == _FAIR}
    for each in TRAFFIC_QUEUES.values():
        if _HANDLE | each.minor not in leaves:
            try:
                netlink.tc("add", _FAIR, index, (QUEUES + each.minor) << 16, parent=_HANDLE | each.minor)
            except NetlinkError as error:
                if error.code != errno.ENOENT:  # a kernel without it: packets of a class wait in one row
                    raise


def _classes(netlink: IPRoute, index: int) -> dict[int, Queue]:
    found = {}
    for each in netlink.get_classes(index):
        options = each.get_attr("TCA_OPTIONS")
        told = options.get_attr("TCA_HTB_PARMS") if options else None
        if told and each["handle"] >> 16 == QUEUES:
            found[each["handle"]] = Queue(each["handle"], each["parent"], told["rate"], told["ceil"], told["prio"])
    return found


def _is_ours(qdisc: Any) -> bool:
    return (qdisc["handle"], qdisc["parent"], qdisc.get_attr("TCA_KIND")) == (_HANDLE, _ROOT, "htb")


def _burst(rate: int) -> int:
    return max(rate // _BURST_PARTS, _LEAST_BURST)


def _quantum(rate: int) -> int:
    """Bytes that a class sends before the next of its rank: the kernel wants a packet at least, 200 kB at most."""
    return min(max(rate // 10, 2_000), 200_000)


def _trouble(what: str, error: Exception) -> Trouble:
    message = f"The queues {what} could not be set: {error}. The bandwidth and classes of traffic do not hold there."
    return Trouble(code="queues-failed", message=message)
