# SPDX-License-Identifier: GPL-2.0-or-later
"""`python3 -m agent serve` as systemd starts it: inherited socket, readiness, watchdog, clean end."""

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.api.listening import NoSocket, listening_socket
from agent.client import Client

ROOT = Path(__file__).parents[2]
LAUNCHER = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid());"
    "os.execv(sys.executable, [sys.executable, '-m', 'agent', 'serve'])"
)


@contextmanager
def served(directory: Path) -> Iterator[tuple["subprocess.Popen[bytes]", socket.socket]]:
    """The agent in a network namespace of its own, and the socket on which it tells systemd how it is."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
    ):
        listening.bind(str(directory / "agent.sock"))
        listening.listen()
        manager.bind(str(directory / "notify"))
        manager.settimeout(60)
        environment = {
            "PATH": os.environ["PATH"],
            "SLUICE_DATA": str(directory),
            "SLUICE_RUN": str(directory),
            "SLUICE_NETWORKD": "",
            "NOTIFY_SOCKET": str(directory / "notify"),
            "WATCHDOG_USEC": "400000",
            "LISTEN_FDS": "1",
            "JOURNAL_STREAM": "1:1",
        }
        descriptor = listening.fileno()
        process = subprocess.Popen(
            ["unshare", "--net", sys.executable, "-c", LAUNCHER, str(descriptor)],
            cwd=ROOT,
            env=environment,
            pass_fds=[descriptor],
            stderr=subprocess.PIPE,
        )
        try:
            yield process, manager
        finally:
            process.kill()
            process.communicate()


def hear(manager: socket.socket, line: str) -> None:
    while line not in manager.recv(4096).decode().split("\n"):
        pass


@pytest.mark.kernel
def test_it_serves_on_systemds_socket_and_ends_cleanly(tmp_path: Path):
    with served(tmp_path) as (process, manager):
        hear(manager, "READY=1")
        assert Client(tmp_path / "agent.sock").claimed() is False
        hear(manager, "WATCHDOG=1")
        hear(manager, "WATCHDOG=1")
        process.send_signal(signal.SIGTERM)
        hear(manager, "STOPPING=1")
        assert process.wait(20) == 0
        lines = process.stderr.read().decode().splitlines()
    assert lines
    assert all(line.startswith("<6>") for line in lines), lines


@pytest.mark.kernel
def test_a_second_agent_on_the_same_data_is_refused(tmp_path: Path):
    with served(tmp_path) as (_, manager):
        hear(manager, "READY=1")
        done = subprocess.run(
            ["unshare", "--net", sys.executable, "-m", "agent", "serve"],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "SLUICE_DATA": str(tmp_path),
                "SLUICE_RUN": str(tmp_path),
                "SLUICE_NETWORKD": "",
                "SLUICE_SOCKET": str(tmp_path / "second.sock"),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_a_socket_of_our_own_is_open_to_its_group_only(tmp_path: Path):
    path = tmp_path / "agent.sock"
    with listening_socket(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with pytest.raises(NoSocket, match="another agent listens"):
            listening_socket(path)
    with listening_socket(path):  # what was left by one that is gone is taken over
        pass


def test_a_file_in_the_sockets_place_is_left_alone(tmp_path: Path):
    path = tmp_path / "agent.sock"
    path.write_text("precious")
    with pytest.raises(NoSocket, match="no socket"):
        listening_socket(path)
    assert path.read_text() == "precious"
    with pytest.raises(NoSocket, match="can't listen"):
        listening_socket(tmp_path / "no" / "such" / "directory")


def test_sockets_for_another_process_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LISTEN_PID", str(os.getppid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    with listening_socket(tmp_path / "agent.sock") as found:
        assert found.getsockname() == str(tmp_path / "agent.sock")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "2")
    with pytest.raises(NoSocket, match="2 sockets"):
        listening_socket(tmp_path / "agent.sock")
