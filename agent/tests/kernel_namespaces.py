# SPDX-License-Identifier: GPL-2.0-or-later
"""Network namespaces with a thread in each, and what is set up in them. Needs root.

Nothing has a name outside: when the threads and descriptors end, the namespaces do.
"""

import ctypes
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from pyroute2 import IPRoute

_CLONE_NEWNET = 0x40000000
IFA_F_NODAD = 0x02
T = TypeVar("T")


class Namespace:
    """A network namespace with a thread that lives in it."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1)
        self.descriptor = self.run(self._enter)

    def run(self, function: Callable[..., T], *arguments: Any, **settings: Any) -> T:
        """Call the function in the namespace."""
        return self._executor.submit(function, *arguments, **settings).result()

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A socket of this namespace, for use anywhere."""
        return self.run(socket.socket, family, kind)

    def spawn(self, target: Callable[[], None]) -> threading.Thread:
        """Start a thread in the namespace."""

        def enter() -> None:
            if ctypes.CDLL(None, use_errno=True).setns(self.descriptor, _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            target()

        thread = threading.Thread(target=enter)
        thread.start()
        return thread

    def close(self) -> None:
        self._executor.shutdown()
        os.close(self.descriptor)

    @staticmethod
    def _enter() -> int:
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare: the kernel tests need root")
        # No waiting for duplicate addresses: there are none.
        set_sysctl("net/ipv6/conf/default/accept_dad", "0")
        with IPRoute() as netlink:
            netlink.link("set", index=1, state="up")
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def add_cable(name: str, other: int) -> None:
    """A link of this name, whose other end is `eth0` of the namespace with that descriptor."""
    with IPRoute() as netlink:
        netlink.link("add", ifname=name, kind="veth", peer={"ifname": "eth0", "net_ns_fd": other})


def add_addresses(link: str, addresses: list[str], gateways: list[str] | None = None) -> None:
    """Give a link of the namespace that this is called in addresses, and routes."""
    with IPRoute() as netlink:
        index = netlink.link_lookup(ifname=link)[0]
        netlink.link("set", index=index, state="up")
        for address in addresses:
            six = ":" in address
            flags = {"flags": IFA_F_NODAD} if six else {}
            netlink.addr("add", index=index, address=address, prefixlen=64 if six else 24, **flags)
        for gateway in gateways or []:
            netlink.route(
                "add", dst="default", gateway=gateway, family=socket.AF_INET6 if ":" in gateway else socket.AF_INET
            )


def add_route(network: str, gateway: str) -> None:
    """Add a route of the namespace that this is called in."""
    with IPRoute() as netlink:
        netlink.route("add", dst=network, gateway=gateway, family=socket.AF_INET6 if ":" in gateway else socket.AF_INET)


def set_sysctl(name: str, value: str) -> None:
    """Set a variable of the kernel, by its path below /proc/sys."""
    Path("/proc/sys", name).write_text(value)
