# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole laboratory: networks, hosts, DHCP, and appliances fresh from the factory or restored from a saved state."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from lab import acceleration
from lab.appliance import ADDRESS, Appliance, links_document
from lab.build import image_path
from lab.client import Client
from lab.dhcp import DhcpServer
from lab.host import BUILD, say
from lab.namespaces import BACKENDS, CLIENTS, Network
from lab.qemu import MACS, Disks, Machine
from lab.web import WebServer

CLIENT_NUMBER = 10
BACKEND_NUMBERS = {"web1": 11, "web2": 12}

_HERE = Path(__file__).parent


class Laboratory:
    """A context manager; at its end everything in it is stopped."""

    def __init__(self, folder: Path = BUILD / "lab") -> None:
        """`folder` takes disks, logs and sockets."""
        self.folder = folder
        self.network = Network()
        self.dhcp = DhcpServer(folder / "dhcp.log", {MACS["mgmt"]: ADDRESS})
        self._image = folder / "image.raw"
        self._stack = ExitStack()
        self._web: dict[str, WebServer] = {}
        self._client: Client | None = None
        self._appliances: list[Appliance] = []
        self._no_state: Exception | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "dhcp.log").unlink(missing_ok=True)
        self._keep_image()
        with ExitStack() as stack:
            stack.enter_context(self.network)
            self._client = Client(self.network.host("client", {CLIENTS: CLIENT_NUMBER}))
            for name, number in BACKEND_NUMBERS.items():
                self._web[name] = stack.enter_context(WebServer(self.network.host(name, {BACKENDS: number})))
            stack.enter_context(self.dhcp)
            stack.callback(self._power_off)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def _keep_image(self) -> None:
        """Give the image a second name: a build that goes on meanwhile does not pull it away from under the disks."""
        self._image.unlink(missing_ok=True)
        try:
            self._image.hardlink_to(image_path())
        except FileNotFoundError:
            raise RuntimeError(f"there is no {image_path().name} in build/; make image makes it") from None

    @property
    def client(self) -> Client:
        """The client, on the clients' segment."""
        if self._client is None:
            raise RuntimeError("the laboratory was not entered")
        return self._client

    def backend(self, name: str) -> WebServer:
        """The web server `name`, on the backends' segment."""
        return self._web[name]

    @property
    def backends(self) -> Mapping[str, str]:
        """The addresses of all web servers by name."""
        return {name: server.address for name, server in self._web.items()}

    @property
    def appliances(self) -> Sequence[Appliance]:
        """The boxes of the present story; at most one of them is on."""
        return tuple(self._appliances)

    def reset(self) -> None:
        """Bring hosts and servers back to how they were at the start."""
        self._power_off()
        self._appliances.clear()
        for server in self._web.values():
            server.host.plug()
            server.start()
            server.forget()
        self.client.host.plug()
        self.dhcp.start()

    def _power_off(self) -> None:
        for appliance in self._appliances:
            appliance.power_cut()

    def factory_appliance(self, name: str, credentials: Mapping[str, str], size: str = "4G") -> Appliance:
        """A box that was never switched on; its files are in a folder `name`."""
        folder = self._new_folder(name)
        return self._add(Appliance.fresh(self._image, folder, self.network.taps(), credentials, size))

    def appliance_on(self, name: str, disks: Disks) -> Appliance:
        """A box, switched off, whose disks are overlays over `disks`."""
        folder = self._new_folder(name)
        return self._add(Appliance(Machine(folder, disks.overlaid(folder), self.network.taps())))

    def restored_appliance(self, name: str) -> Appliance:
        """A running copy of the box that `saved_state` keeps: booted, with its links configured, not claimed yet."""
        state = self.saved_state()
        appliance = self.appliance_on(name, Disks(state / "disk.qcow2", state / "variables.qcow2"))
        appliance.credentials = factory_credentials()
        appliance.machine.saved = state / "state"
        appliance.machine.before = (state / "console.txt").read_text(encoding="utf-8")
        appliance.start()
        appliance.wait_ready(120)
        return appliance

    def saved_state(self) -> Path:
        """The folder with the saved state of a box that has just booted for the first time; made when there is none.

        It is made again when the image, the emulator's kind or the lab's description of the machine has changed.
        """
        folder = self.folder / "saved"
        mark = _state_mark(self._image)
        known = folder / "mark"
        if known.exists() and known.read_text(encoding="utf-8") == mark:
            return folder
        if self._no_state is not None:
            raise RuntimeError(f"the appliance did not boot at the first try: {self._no_state}")
        try:
            self._make_state(folder)
        except (OSError, RuntimeError) as error:
            self._no_state = error
            raise
        (folder / "mark").write_text(mark, encoding="utf-8")
        return folder

    def _make_state(self, folder: Path) -> None:
        say("booting the appliance once, to save its state")
        appliance = self.factory_appliance("saved", factory_credentials())
        appliance.start()
        appliance.wait_ready()
        appliance.claim_code()
        appliance.run("systemctl", "is-system-running", "--wait", check=False, seconds=300)
        appliance.close_control()
        (folder / "console.txt").write_text(appliance.machine.console.raw, encoding="utf-8")
        appliance.machine.save(folder / "state")

    def _new_folder(self, name: str) -> Path:
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def _add(self, appliance: Appliance) -> Appliance:
        self._power_off()
        self._appliances.append(appliance)
        return appliance


def factory_credentials(farms: Mapping[str, Any] | None = None, **more: str) -> Mapping[str, str]:
    """Credentials that give a fresh box its addresses in the lab, and `farms`.

    `more` are further ones, by name without "sluice." and with underscores for hyphens.
    """
    document = {"version": 1, "links": links_document(), "farms": dict(farms or {})}
    named = {f"sluice.{name.replace('_', '-')}": value for name, value in more.items()}
    return {"sluice.configuration": json.dumps(document), **named}


def _state_mark(image: Path) -> str:
    """What a saved state depends on."""
    digest = hashlib.sha256()
    stamp = image.stat()
    digest.update(f"{stamp.st_size} {stamp.st_mtime_ns} {acceleration.choose()}".encode())
    for source in ("qemu.py", "credentials.py", "appliance.py", "laboratory.py", "namespaces.py", "inside/control.py"):
        digest.update((_HERE / source).read_bytes())
    return digest.hexdigest()
