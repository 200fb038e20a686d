# SPDX-License-Identifier: GPL-2.0-or-later
"""The end of tunnels on a host of the lab, where the kernel that the lab runs on need not have any."""

import contextlib
import socket
import threading
from typing import Self

from lab.namespaces import Host

_IPV4, _IPV6 = 4, 41
"""The protocols of IPv4 and IPv6 within IP (RFC 2003, RFC 2473)."""


class TunnelEnd:
    """Takes IPv4 out of IPv4 and IPv6 out of IPv6, and hands it to the host; a context manager that stops it.

    The host must hold the addresses that the packets within are for.
    """

    def __init__(self, host: Host) -> None:
        """Nothing is taken before it is entered."""
        self.host = host
        self.taken = {4: 0, 6: 0}
        """Packets, by IP family."""
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        with self.host.entered():
            for family, kind, protocol in ((4, socket.AF_INET, _IPV4), (6, socket.AF_INET6, _IPV6)):
                source = socket.socket(kind, socket.SOCK_RAW, protocol)
                # IPPROTO_RAW: what is sent has its own IP header. Sent to an address of the host it does not leave it.
                sink = socket.socket(kind, socket.SOCK_RAW, socket.IPPROTO_RAW)
                self._sockets += [source, sink]
                threading.Thread(target=self._unwrap, args=(family, source, sink), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._sockets:
            # A thread that waits in recv is woken by this, and not by close; raw sockets are told as not connected.
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _unwrap(self, family: int, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while packet := source.recv(65535):
                # IPv4's raw sockets tell the outer header, too; IPv6's do not.
                within = packet[(packet[0] & 15) * 4 :] if family == 4 else packet
                to = socket.inet_ntop(source.family, within[16:20] if family == 4 else within[24:40])
                self.taken[family] += 1
                sink.sendto(within, (to, 0))
