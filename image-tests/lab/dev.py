# SPDX-License-Identifier: GPL-2.0-or-later
"""`make dev`: the agent and the GUI from the checkout, in namespaces instead of a machine, ready within seconds.

The same networks, client and web servers as in `make run`. What differs from the image: the host's kernel and its
modules, no nginx before the GUI, links and host name are the lab's, and root is whoever started it. Changed code is
loaded again. State is in build/dev and lasts; remove the folder to begin anew.
"""

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from lab import host, unix
from lab.appliance import VIRTUAL_ADDRESS, demo_farm
from lab.enter import is_inside, listening_sockets
from lab.host import BUILD, PROJECT, say
from lab.laboratory import Laboratory
from lab.namespaces import APPLIANCE_NUMBER, BACKENDS, CLIENTS, MGMT, Host
from lab.relay import Relay, Traffic
from lab.run import enter_with_ports, run_until_stopped, tell
from lab.waiting import wait_until

FOLDER = BUILD / "dev"
VENDOR = BUILD / "vendor"
PASSWORD = "sluice-dev"

# Relative to the checkout, in which everything runs: a socket's path may have 107 characters.
AGENT_SOCKET = FOLDER.relative_to(PROJECT) / "agent.sock"


class Service:
    """A program on a host of the lab; a context manager. What it prints goes to a log in build/dev."""

    def __init__(
        self, name: str, where: Host, argv: Sequence[str], environment: Mapping[str, str], sockets: Sequence[int] = ()
    ) -> None:
        self.name = name
        self.log = FOLDER / f"{name}.log"
        self._argv = ["nsenter", f"--net={where.path}", *argv]
        self._environment = {**os.environ, **environment}
        self._sockets = sockets
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.restart()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def restart(self) -> None:
        """Start it, after its end if it runs."""
        self.stop()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv, env=self._environment, cwd=PROJECT, pass_fds=self._sockets,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def stop(self) -> None:
        """End it; nothing happens when it does not run."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._process is not None and self._process.poll() is not None


def fetch_vendor() -> Path:
    """The folder with Bootstrap and htmx, from the packages that the image has them from; fetched once."""
    folder = VENDOR / "usr/share/javascript"
    if not folder.exists():
        say("fetching Bootstrap and htmx from Debian's archive")
        packages = host.cache() / "vendor"
        packages.mkdir(exist_ok=True)
        host.Archive(host.find_mirrors()).get("download", "libjs-bootstrap5", "libjs-htmx", folder=packages)
        for package in packages.glob("*.deb"):
            host.output(["dpkg-deb", "-x", str(package), str(VENDOR)])
    return folder


def _prepare(lab: Laboratory) -> Mapping[str, str]:
    """Make the folders and the credentials; return the environment of agent and GUI."""
    credentials = FOLDER / "credentials"
    for folder in (credentials, FOLDER / "data", FOLDER / "run"):
        folder.mkdir(parents=True, exist_ok=True)
    document = {"version": 1, "farms": {"demo": demo_farm(lab.backends)}}
    (credentials / "sluice.configuration").write_text(json.dumps(document), encoding="utf-8")
    (credentials / "sluice.admin-password").write_text(PASSWORD, encoding="utf-8")
    # Marks and counters of an earlier lab mean nothing in this one's empty kernel tables.
    shutil.rmtree(FOLDER / "run")
    (FOLDER / "run").mkdir()
    identity = FOLDER / "identity"
    environment = {
        "PYTHONPATH": str(PROJECT),
        "SLUICE_DATA": str(FOLDER / "data"),
        "SLUICE_RUN": str(FOLDER / "run"),
        "SLUICE_NETWORKD": "",
        "SLUICE_SOCKET": str(AGENT_SOCKET),
        "SLUICE_IDENTITY_DATA": str(identity),
        "SLUICE_IDENTITY_RUN": str(FOLDER / "run/identity"),
        "SLUICE_SESSION_KEY_FILE": str(FOLDER / "run/identity/session.key"),
        "SLUICE_VENDOR": str(fetch_vendor()),
    }
    host.output([sys.executable, "-m", "agent", "identity"], **environment)
    return environment


def _code() -> Iterator[tuple[Path, int]]:
    """The agent's source files and when they were last changed."""
    for path in (PROJECT / "agent").rglob("*.py"):
        yield path, path.stat().st_mtime_ns


def _watch(agent: Service, gui: Service) -> None:
    """Start the agent again when its code changes, and either when it ends. gunicorn watches the GUI's."""
    known = dict(_code())
    while True:
        time.sleep(1)  # as often as somebody saves a file
        found = dict(_code())
        if found != known:
            known = found
            say("the agent's code has changed: starting it again")
            agent.restart()
        for service in (agent, gui):
            if service.ended:
                say(f"{service.name} has ended, see {service.log.relative_to(PROJECT)}; starting it again")
                service.restart()


def _answers() -> bool:
    """Whether the agent has started and answers."""
    connection = http.client.HTTPConnection("localhost", timeout=5)
    try:
        connection.sock = unix.connect(AGENT_SOCKET)
        connection.request("GET", "/api/v1/claim")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _run(stack: ExitStack) -> None:
    began = time.monotonic()
    os.chdir(PROJECT)
    lab = stack.enter_context(Laboratory())
    box = lab.network.host("sluice", dict.fromkeys((MGMT, CLIENTS, BACKENDS), APPLIANCE_NUMBER))
    with box.entered():
        # These files are those of the thread that opens them.
        for setting in ("ipv4/ip_forward", "ipv6/conf/all/forwarding", "netfilter/nf_conntrack_acct"):
            Path("/proc/sys/net", setting).write_text("1", encoding="ascii")
    environment = _prepare(lab)
    door, farm = listening_sockets()
    agent = Service(
        "agent", box, [sys.executable, "-m", "agent", "serve"],
        {**environment, "CREDENTIALS_DIRECTORY": str(FOLDER / "credentials")},
    )  # fmt: skip
    identity = FOLDER / "run/identity"
    gui = Service(
        "webui", box,
        [
            sys.executable, "-m", "gunicorn", "--reload", "--threads=8", f"--bind=fd://{door.fileno()}",
            f"--certfile={identity / 'tls.crt'}", f"--keyfile={identity / 'tls.key'}",
            'webui:create_app({"TEMPLATES_AUTO_RELOAD": True})',
        ],
        environment, [door.fileno()],
    )  # fmt: skip
    stack.enter_context(agent)
    wait_until(_answers, f"the agent (see {agent.log.relative_to(PROJECT)})", 60)
    stack.enter_context(gui)
    stack.enter_context(Relay(farm, (VIRTUAL_ADDRESS, 80), lab.client.host))
    stack.enter_context(Traffic(lambda: lab.client.get(VIRTUAL_ADDRESS, timeout=5)))
    tell(time.monotonic() - began, PASSWORD, f"Logs       {FOLDER.relative_to(PROJECT)}/*.log")
    _watch(agent, gui)


def main() -> int:
    """Enter a lab and run there until the user has enough."""
    if not is_inside():
        return enter_with_ports("lab.dev")
    FOLDER.mkdir(parents=True, exist_ok=True)
    return run_until_stopped(_run)


if __name__ == "__main__":
    sys.exit(main())
