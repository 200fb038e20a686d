# SPDX-License-Identifier: GPL-2.0-or-later
"""The DHCP server of the management segment."""

import subprocess
from pathlib import Path
from typing import Self

from lab.namespaces import MGMT, RUNNER_NUMBER


class DhcpServer:
    """dnsmasq on `mgmt`; machines with a reservation always get the same address."""

    def __init__(self, log: Path, reservations: dict[str, str]) -> None:
        """`reservations` maps MAC addresses to IP addresses; what it does is written to `log`."""
        self._log = log
        self._reservations = reservations
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Serve; nothing happens when it does already."""
        if self._process is not None:
            return
        command = [
            # In the foreground, with no user to change to and nothing read from or written to the machine's own files.
            "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--leasefile-ro",
            "--port=0", f"--interface={MGMT.name}", "--bind-interfaces", "--except-interface=lo",
            "--dhcp-authoritative", "--no-ping",
            f"--dhcp-range={MGMT.address(100)},{MGMT.address(150)},1h",
            f"--dhcp-option=option:router,{MGMT.address(RUNNER_NUMBER)}",
            *(f"--dhcp-host={mac},{address}" for mac, address in self._reservations.items()),
        ]  # fmt: skip
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def stop(self) -> None:
        """Stop serving: nobody gets or renews an address."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None
