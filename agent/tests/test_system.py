# SPDX-License-Identifier: GPL-2.0-or-later
"""Credentials, notifications, tools, facts."""

import os
import socket
from pathlib import Path

import pytest

from agent.model import MAX_BYTES
from agent.system import credentials, facts, hostname, notify
from agent.system.command import CommandFailed, run


def given(tmp_path, **contents):
    for name, content in contents.items():
        (tmp_path / f"sluice.{name.replace('_', '-')}").write_bytes(content)
    return credentials.read(tmp_path)


def test_nothing_given(tmp_path, monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert credentials.read() == credentials.read(tmp_path) == credentials.Provisioning()


def test_everything_given(tmp_path, monkeypatch):
    given(
        tmp_path,
        admin_password=b"p\xc3\xa4ss word\n",
        api_token=b"t0ken\r\n",
        configuration=b"{}\n",
        hostname=b"lb1",
        secrets=b'{"smtp": {"value": "hush"}, "ours": {"kind": "authorities", "value": "PEM"}}\n',
    )
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert credentials.read() == credentials.Provisioning(
        "päss word", "t0ken", b"{}\n", "lb1", {"smtp": ("text", "hush"), "ours": ("authorities", "PEM")}
    )


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("admin_password", b"", "is empty"),
        ("admin_password", b"\n", "is empty"),
        ("admin_password", b"secret-\xff", "is not UTF-8 text"),
        ("admin_password", b"secret-\nmore", "control character"),
        ("api_token", b"secret-" + b"x" * 1024, "is longer than 1024 bytes"),
        ("api_token", b"secret-\x00", "control character"),
        ("hostname", b"secret-UPPER", "is no host name"),
        ("hostname", b"secret-" + b".a" * 200, "is no host name"),
        ("secrets", b"secret-", "is no list of secrets: / is not JSON"),
        ("secrets", b'{"a": "secret-"}', "is no list of secrets: /a must be an object"),
        ("secrets", b'{"a": {"kind": "secret-", "value": "text"}}', "/a/kind must be text, certificate or authorities"),
        ("secrets", b'{"a": {"value": ["secret-"]}}', "/a/value must be a text"),
        ("secrets", b'{"A": {"value": "secret-"}}', "is not a valid name"),
        ("secrets", b"secret-" + b" " * (1 << 20), "is longer than 1048576 bytes"),
        ("configuration", b"secret-" + b" " * MAX_BYTES, f"is longer than {MAX_BYTES} bytes"),
    ],
)
def test_what_cannot_be_used_is_told_and_left_out_and_the_rest_is_taken(tmp_path, name, content, words):
    found = given(tmp_path, **{"hostname": b"lb1", "api_token": b"token", name: content})
    assert not getattr(found, name)
    (trouble,) = found.troubles
    assert trouble.code == "credential-unusable"
    assert words in trouble.message
    assert f"sluice.{name.replace('_', '-')} " in trouble.message
    assert "secret-" not in trouble.message
    assert found.hostname == "lb1" or name == "hostname"


def test_a_credential_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "sluice.api-token").mkdir()
    (trouble,) = credentials.read(tmp_path).troubles
    assert "cannot be read: Is a directory" in trouble.message


def test_secrets_do_not_show_in_a_log(tmp_path):
    found = given(tmp_path, admin_password=b"secret-1", api_token=b"secret-2", configuration=b"secret-3")
    found = given(tmp_path, secrets=b'{"a": {"value": "secret-4"}}')
    assert "secret-" not in repr(found)


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield sock


def test_systemd_is_told(systemd):
    assert notify.ready("10 farms")
    assert systemd.recv(100) == b"READY=1\nSTATUS=10 farms"
    assert notify.alive()
    assert systemd.recv(100) == b"WATCHDOG=1"
    assert notify.stopping()
    assert systemd.recv(100) == b"STOPPING=1"


def test_nobody_to_tell_is_no_error(monkeypatch, tmp_path):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify.alive()
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    assert not notify.alive()


def test_an_abstract_socket(monkeypatch):
    name = f"sluice-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name)
        sock.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        assert notify.alive()
        assert sock.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    ("microseconds", "pid", "seconds"),
    [("30000000", "", 15.0), ("30000000", "self", 15.0), ("30000000", "other", None), ("", "", None), ("x", "", None)],
)
def test_the_watchdog_is_fed_twice_as_often_as_it_asks(monkeypatch, microseconds, pid, seconds):
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    pids = {"self": os.getpid(), "other": os.getpid() + 1}
    monkeypatch.setenv("WATCHDOG_PID", str(pids.get(pid, pid)))
    assert notify.watchdog_interval() == seconds


async def test_a_tools_output():
    assert await run(["printf", "%s", "a b; $(c)"]) == "a b; $(c)"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["no-such-tool"], "no-such-tool cannot be run: no such file or directory"),
        (["sh", "-c", "echo first >&2; echo last >&2; exit 3"], "sh: last"),
        (["sh", "-c", "exit 3"], "sh: ended with status 3"),
    ],
)
async def test_a_tool_that_fails_is_told_in_words(argv, words):
    with pytest.raises(CommandFailed) as failed:
        await run(argv)
    assert str(failed.value) == words


async def test_a_tool_that_hangs_is_killed(tmp_path):
    with pytest.raises(CommandFailed, match=r"did not finish within 0\.2 s"):
        await run(["sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 100"], timeout=0.2)
    pid = (tmp_path / "pid").read_text().strip()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


async def test_the_host_name_is_set_when_it_differs(tmp_path, monkeypatch):
    tool = tmp_path / "hostnamectl"
    tool.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert not await hostname.ensure(socket.gethostname())
    assert not (tmp_path / "calls").exists()
    assert await hostname.ensure("another-name.example")
    assert (tmp_path / "calls").read_text() == "--no-ask-password --static --transient hostname another-name.example\n"


def test_facts_are_those_of_this_machine():
    assert facts.uptime() > 0
    memory = facts.memory()
    assert memory.total == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < memory.available <= memory.total
    assert len(facts.load()) == 3
    assert facts.version()
    conntrack = facts.conntrack()
    assert 0 <= conntrack.count <= max(conntrack.limit, conntrack.count)


def test_the_data_partition_is_one_only_when_it_is_mounted(tmp_path):
    assert facts.data_partition(tmp_path) is None
    assert facts.data_partition(tmp_path / "missing") is None
    space = facts.data_partition(Path("/"))
    assert 0 <= space.available <= space.total
