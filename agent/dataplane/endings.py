# SPDX-License-Identifier: GPL-2.0-or-later
"""What connections had passed when they ended: conntrack's DESTROY events, read by a thread of its own."""

import errno
import logging
import os
import select
import socket
import threading
from collections.abc import Collection, Mapping
from contextlib import suppress
from time import monotonic

from agent.dataplane import conntrack, netlink
from agent.dataplane.ledger import Ledger, Passed

_log = logging.getLogger(__name__)

_NETLINK, _ADD_MEMBERSHIP = 270, 1
_DESTROYED = 3
"""NFNLGRP_CONNTRACK_DESTROY: nobody is told when connections begin or change, which costs those nothing."""
_SO_RCVBUFFORCE = 33

ROOM = 1 << 26
"""Bytes of kernel memory for what was not read yet. An event takes 1280: 50 000 connections that end at once."""
PAUSE = 0.05
"""Seconds from one reading to the next: many events for each time that the thread is woken."""


class Endings:
    """Listens in the network namespace of the thread that makes it, until `close`. Any thread may call."""

    def __init__(self) -> None:
        """Begin. Raises OSError."""
        self._ledger = Ledger()
        self.lost_at: float | None = None
        """When the kernel last had more to tell than there was room for, by the monotonic clock."""
        self._gap = True
        self._lock = threading.Lock()
        self._buffer = netlink.new_buffer()
        self._socket = netlink.open_socket()
        try:
            with suppress(PermissionError):
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, ROOM)
            self._socket.setsockopt(_NETLINK, _ADD_MEMBERSHIP, _DESTROYED)
            self._socket.setblocking(False)
            self._end, self._ended = os.pipe2(os.O_CLOEXEC)
        except OSError:
            self._socket.close()
            raise
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="endings", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Listen no longer."""
        if not self._closing.is_set():
            self._closing.set()
            os.close(self._ended)  # wakes the thread
            self._thread.join()
            os.close(self._end)
            self._socket.close()

    def totals(self, marks: Collection[int]) -> tuple[dict[int, int], dict[int, Passed]]:
        """Open connections by mark, and what passed in all by mark; all but `marks` are forgotten.

        Blocks for the dump. Raises OSError.
        """
        with self._lock:
            self._drain()
            self._ledger.keep(marks)
            ended, gap = self._ledger.ended(), self._gap
            self._gap = False
        try:
            found = conntrack.open_by_mark()
        except OSError:
            self._gap = gap or self._gap
            raise
        still = {mark: (sums[1], sums[2], sums[3], sums[4]) for mark, sums in found.items() if mark in marks}
        with self._lock:
            if gap:
                self._drain()
            totals = self._ledger.count(ended, still, gap=gap)
        return {mark: sums[0] for mark, sums in found.items() if sums[0]}, totals

    def export(self) -> dict[int, tuple[Passed, Passed]]:
        """As the ledger's."""
        with self._lock:
            self._drain()
            return self._ledger.export()

    def restore(self, known: Mapping[int, tuple[Passed, Passed]]) -> None:
        """As the ledger's."""
        with self._lock:
            self._ledger.restore(known)
            self._gap = True

    def _listen(self) -> None:
        while not self._closing.is_set():
            select.select([self._socket.fileno(), self._end], [], [])
            with self._lock:
                self._drain()
            self._closing.wait(PAUSE)

    def _drain(self) -> None:
        """Take what has been told by now."""
        end, passed, header = self._ledger.end, conntrack.passed, netlink.HEADER.unpack_from
        while True:
            try:
                size = self._socket.recv_into(self._buffer)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._gap = True
                self.lost_at = monotonic()
                _log.warning("connections ended faster than they could be counted; bytes are told too low")
                continue
            at = 0
            while at < size:
                length = header(self._buffer, at)[0]
                if length < netlink.BODY or at + length > size:
                    break
                mark, figures = passed(self._buffer, at, at + length)
                if mark:
                    end(mark, figures)
                at += (length + 3) & ~3
