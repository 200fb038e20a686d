# SPDX-License-Identifier: GPL-2.0-or-later
"""The appliance under test: a machine, and the ways into it: API, console, and the lab's control line."""

import http.client
import json
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab import journal
from lab.control import Control
from lab.credentials import ExtraUnit, lab_credentials, smbios_strings
from lab.namespaces import APPLIANCE_NUMBER, BACKENDS, CLIENTS, MGMT
from lab.qemu import Disks, Machine
from lab.waiting import Deadline

ADDRESS = MGMT.address(APPLIANCE_NUMBER)
PASSWORD = "correct horse battery staple"
VIRTUAL_ADDRESS = CLIENTS.address(100)
VIRTUAL_ADDRESS6 = CLIENTS.address6(100)

LINKS = {"mgmt": "enp0s16", "clients": "enp0s17", "backends": "enp0s18"}
"""The kernel's names of the three cards, by segment; they follow from the PCI slots in qemu.py."""

BOOT_SECONDS = 600
"""Long enough for emulation on a busy machine."""

CLAIM_CODE = re.compile(r"[Cc]laim code:?\s+([A-Z0-9]{4,8}(?:-[A-Z0-9]{4,8})+)")


def links_document() -> dict[str, Any]:
    """The part of a configuration that gives the appliance its addresses in the lab."""
    return {
        LINKS["mgmt"]: {"dhcp": True},
        **{
            LINKS[segment.name]: {
                "addresses": [f"{segment.address(APPLIANCE_NUMBER)}/24", f"{segment.address6(APPLIANCE_NUMBER)}/64"]
            }
            for segment in (CLIENTS, BACKENDS)
        },
    }


@dataclass(frozen=True)
class Answer:
    """What the API said."""

    status: int
    headers: Mapping[str, str]
    body: Any
    """The decoded JSON, or the text where it is none."""


class ApiError(AssertionError):
    """The API answered something else than success."""


@dataclass
class Appliance:
    """A machine that runs the image. It is reached at ADDRESS once `wait_ready` has returned."""

    machine: Machine
    credentials: Mapping[str, str] = field(default_factory=dict)
    extra_units: Sequence[ExtraUnit] = ()
    token: str = ""
    expected: list[journal.Expected] = field(default_factory=list)
    """Journal entries that a story means to provoke."""
    expected_units: frozenset[str] = frozenset()
    """Units that a story makes fail."""
    _control: Control | None = field(default=None, init=False)

    @classmethod
    def fresh(
        cls, image: Path, folder: Path, taps: Sequence[str], credentials: Mapping[str, str], size: str = "4G"
    ) -> "Appliance":
        """A box out of the factory, not started."""
        return cls(Machine(folder, Disks.fresh(image, folder, size), taps), credentials)

    def start(self) -> None:
        """Switch it on. Returns at once; see `wait_ready`."""
        self.machine.strings = smbios_strings({**self.credentials, **lab_credentials(self.extra_units)})
        self.machine.start()
        self._control = None

    @property
    def control(self) -> Control:
        """A way to run commands as root inside, for what no administrator could do from outside."""
        if self._control is None:
            self._control = Control(self.machine.control_socket)
        return self._control

    def run(self, *argv: str, **options: Any) -> str:
        """Run a command as root inside and return what it printed."""
        return self.control.run(*argv, **options)

    def wait_ready(self, seconds: float = BOOT_SECONDS) -> None:
        """Wait until the GUI's server and the agent behind it answer on the management address."""

        def attempt() -> bool:
            if not self.machine.running:
                raise ConnectionError(f"the machine has ended; console:\n{self.machine.console.text[-2000:]}")
            try:
                return self.api("GET", "/api/v1/claim", seconds=10).status == 200
            except (OSError, http.client.HTTPException):
                return False

        deadline = Deadline(seconds)
        try:
            deadline.poll(attempt, "the appliance's GUI")
        except TimeoutError as error:
            raise TimeoutError(f"{error}; console:\n{self.machine.console.text[-3000:]}") from None

    def power_cut(self) -> None:
        """Pull the plug."""
        self.close_control()
        self.machine.kill()

    def close_control(self) -> None:
        """Hang up the control line, if it was used."""
        if self._control is not None:
            self._control.close()
            self._control = None

    def claim_code(self, seconds: float = 60) -> str:
        """The claim code, as it stands on the serial console."""
        return self.machine.console.wait(CLAIM_CODE.pattern, seconds).group(1)

    def api(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        seconds: float = 30,
    ) -> Answer:
        """One request to the API over HTTPS, with the token of `log_in` if there is one."""
        # The key was made on the device a minute ago: there is nothing yet that could vouch for it.
        context = ssl._create_unverified_context()  # noqa: SLF001 - ssl has no public name for it
        connection = http.client.HTTPSConnection(ADDRESS, timeout=seconds, context=context)
        sent = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if data is not None:
            sent["Content-Type"] = "application/json"
        try:
            connection.request(method, path, data, {**sent, **(headers or {})})
            response = connection.getresponse()
            raw = response.read().decode("utf-8", "replace")
        finally:
            connection.close()
        try:
            decoded: Any = json.loads(raw)
        except ValueError:
            decoded = raw
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, decoded)

    def must(self, method: str, path: str, body: object = None, **options: Any) -> Any:
        """Like `api`, but ApiError unless it succeeds; returns the answer's body."""
        answer = self.api(method, path, body, **options)
        if not 200 <= answer.status < 300:
            raise ApiError(f"{method} {path}: {answer.status} {answer.body}")
        return answer.body

    def claim(self, password: str = PASSWORD) -> None:
        """Take the box with the code from its console; the API is open then."""
        given = {"code": self.claim_code(), "password": password}
        self.token = self.must("POST", "/api/v1/claim", given)["token"]

    def log_in(self, password: str = PASSWORD) -> None:
        """Get a session for the API."""
        self.token = ""
        self.token = self.must("POST", "/api/v1/sessions", {"user": "admin", "password": password})["token"]

    def put_farm(self, name: str, farm: Mapping[str, Any]) -> None:
        """Create or replace a farm through the API."""
        self.must("PUT", f"/api/v1/farms/{name}", farm)

    def farm_now(self, name: str) -> dict[str, Any]:
        """The farm as it is now (GET /state)."""
        now: dict[str, Any] = self.must("GET", "/api/v1/state")["farms"][name]
        return now

    def wait_health(self, farm: str, backend: str, health: str, seconds: float = 90) -> None:
        """Wait until the checks of `backend` have come to the verdict `health`, and the kernel balances by it."""

        def attempt() -> bool:
            now = self.farm_now(farm)["backends"][backend]
            return bool(now["health"] == health and (now["share"] > 0) == (now["weight"] > 0))

        Deadline(seconds).poll(attempt, f"backend {backend} of farm {farm} {health}")

    def wait_healthy(self, farm: str, *backends: str, seconds: float = 90) -> None:
        """Wait until the checks of all `backends` have succeeded."""
        for backend in backends:
            self.wait_health(farm, backend, "healthy", seconds)

    def snapshot(self) -> int:
        """The number of the snapshot in force."""
        return int(self.must("GET", "/api/v1/state")["snapshot"])

    def journal(self) -> list[journal.Entry]:
        """The journal so far, of all lives of this machine."""
        return journal.read(self.machine.journal_file)

    def failed_units(self) -> list[str]:
        """The units that are in state failed though nobody expects it."""
        listed = json.loads(self.run("systemctl", "list-units", "--failed", "--all", "--output=json"))
        return [unit["unit"] for unit in listed if unit["unit"] not in self.expected_units]


def demo_farm(backends: Mapping[str, str], **fields: Any) -> dict[str, Any]:
    """A farm on the clients' segment, port 80, with quick checks; `fields` replace or add to what it says."""
    return {
        "addresses": [VIRTUAL_ADDRESS],
        "ports": [80],
        "checks": [{"type": "tcp", "interval": 1.0, "timeout": 1.0, "rise": 2, "fall": 2}],
        "backends": {name: {"address": address} for name, address in backends.items()},
        **fields,
    }
