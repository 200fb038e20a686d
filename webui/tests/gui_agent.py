# SPDX-License-Identifier: GPL-2.0-or-later
"""A real agent, in a network namespace of its own with one link, on a Unix socket in a folder."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from agent.client import Client

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "correct horse battery staple"
START_SECONDS = 30
FARM = {"addresses": ["192.0.2.10"], "ports": [80]}
"""What a farm needs, on the network of the agent's link."""

_NAMESPACE = """
import os, sys
from pyroute2 import IPRoute
with IPRoute() as ip:
    ip.link("set", index=1, state="up")
    ip.link("add", ifname="eth0", peer={"ifname": "wire"}, kind="veth")
    for name in ("eth0", "wire"):
        ip.link("set", index=ip.link_lookup(ifname=name)[0], state="up")
    ip.addr("add", index=ip.link_lookup(ifname="eth0")[0], address="192.0.2.1", prefixlen=24)
os.execv(sys.executable, [sys.executable, "-m", "agent", "serve"])
"""


class Agent:
    """Starts with `start`; `kill` ends it without warning, `stop` at the end of a test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "agent.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self._client: Client | None = None

    def start(self) -> None:
        """Start it, and wait until it says that it serves."""
        ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify = self.folder / "notify.sock"
        notify.unlink(missing_ok=True)
        ready.bind(str(notify))
        ready.settimeout(START_SECONDS)
        environment = os.environ | {
            "NOTIFY_SOCKET": str(notify),
            "PYTHONPATH": str(ROOT),
            "SLUICE_DATA": str(self.folder / "data"),
            "SLUICE_RUN": str(self.folder / "run"),
            "SLUICE_SOCKET": str(self.socket),
            "SLUICE_NETWORKD": "",
            "SLUICE_SYSCTL": str(self.folder / "sysctl.conf"),
        }
        for name in ("data", "run"):
            (self.folder / name).mkdir(exist_ok=True)
        with (self.folder / "agent.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", _NAMESPACE],
                env=environment,
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        with ready:
            try:
                while b"READY=1" not in ready.recv(4096):
                    pass
            except TimeoutError:
                raise AssertionError((self.folder / "agent.log").read_text()) from None

    def kill(self) -> None:
        """End it as a crash does; its socket stays behind."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it as systemd does."""
        self._end(signal.SIGTERM)

    @property
    def claim_code(self) -> str:
        """What the console shows."""
        code = Client(self.socket).console().claim_code
        assert code is not None
        return code

    def claimed(self) -> "Agent":
        """The agent, with an administrator."""
        if not Client(self.socket).claimed():
            Client(self.socket).claim(self.claim_code, PASSWORD)
        return self

    def client(self) -> Client:
        """Another administrator, who uses the API."""
        if self._client is None:
            # Once: a password's hash takes its time, by design.
            session = Client(self.socket).login("admin", PASSWORD)
            self._client = Client(self.socket, token=session.token)
        return self._client

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None
