# SPDX-License-Identifier: GPL-2.0-or-later
"""The identity with the real openssl, and with the power going at every step."""

import os
import shutil
import ssl
import subprocess

import pytest

from agent.system import identity
from agent.system.identity import DEVICE, FILES, ensure


def contents(where):
    return {name: (stored(where) / name).read_bytes() for name in FILES}


def certificate(where, *what):
    argv = ["openssl", "x509", "-in", str(stored(where) / "tls.crt"), "-noout", *what]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def loads(where):
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(stored(where) / "tls.crt", stored(where) / "tls.key")


@pytest.fixture
def places(tmp_path):
    return tmp_path / "data" / "identity", tmp_path / "run" / "sluice-identity"


def stored(where):
    """The data directory's own files or, of the copy, the directory itself."""
    return where / DEVICE if (where / DEVICE).exists() else where


def test_a_first_start_makes_it_and_the_next_keeps_it(places):
    data, run = places
    assert list(ensure(data, run, "lb1.example.net")) == ["Made this device's identity for lb1.example.net."]
    first = contents(data)
    assert contents(run) == first
    loads(run)
    assert list(ensure(data, run, "other")) == []
    assert contents(data) == contents(run) == first
    assert [path.name for path in data.iterdir()] == [DEVICE]
    for path in (data, data / DEVICE, run):
        assert path.stat().st_mode & 0o777 == 0o700
        assert {(stored(path) / name).stat().st_mode & 0o777 for name in FILES} == {0o600}


def test_the_certificate_says_who_it_is_and_is_no_authority(places):
    data, run = places
    list(ensure(data, run, "lb1.example.net"))
    extensions = certificate(data, "-ext", "subjectAltName,basicConstraints,extendedKeyUsage")
    assert "DNS:lb1.example.net" in extensions
    assert "CA:FALSE" in extensions
    assert "TLS Web Server Authentication" in extensions
    assert certificate(data, "-subject").strip().replace(" ", "") == "subject=CN=lb1.example.net"
    assert "prime256v1" in certificate(data, "-text")
    certificate(data, "-checkend", str(3640 * 86400))
    assert len(bytes.fromhex((data / DEVICE / "session.key").read_text())) == 32


def test_a_name_too_long_for_a_common_name_is_in_the_alternative_name(places):
    data, run = places
    name = ".".join(["a" * 60] * 3)
    list(ensure(data, run, name))
    assert f"DNS:{name}" in certificate(data, "-ext", "subjectAltName")


def test_an_empty_directory_that_waits_there_is_filled(places):
    data, run = places
    data.mkdir(parents=True)
    list(ensure(data, run, "sluice"))
    loads(data)


@pytest.mark.parametrize("harm", ["missing", "empty", "cut", "foreign key", "bad session key"])
def test_a_damaged_identity_is_set_aside_and_made_anew(places, harm, tmp_path):
    data, run = places
    list(ensure(data, run, "sluice"))
    first = contents(data)
    if harm == "missing":
        (data / DEVICE / "session.key").unlink()
    elif harm == "empty":
        (data / DEVICE / "tls.key").write_bytes(b"")
    elif harm == "cut":
        (data / DEVICE / "tls.crt").write_bytes(first["tls.crt"][:100])
    elif harm == "foreign key":
        list(ensure(tmp_path / "x" / "identity", tmp_path / "y", "other"))
        (data / DEVICE / "tls.key").write_bytes((tmp_path / "x" / "identity" / DEVICE / "tls.key").read_bytes())
    else:
        (data / DEVICE / "session.key").write_text("no key\n")
    said = list(ensure(data, run, "sluice"))
    assert "not usable" in said[0]
    assert said[1].startswith("Made this device's identity")
    loads(data)
    assert contents(run) == contents(data)
    assert contents(data)["tls.key"] != first["tls.key"]
    assert (data / "device.broken").is_dir()


class PowerCut(BaseException):
    """Nothing of the program runs on, so no `except` may catch it."""


class NobodyTidies:
    """What a power cut leaves behind stays."""

    @staticmethod
    def rmtree(path, **_how):
        pass


def test_power_may_go_at_any_step(places, monkeypatch):
    """Cut at the first step, then at the second, and so on, until a run gets through; then start again."""
    data, run = places
    cuts = 0
    while True:
        steps = 0

        def step(real, limit=cuts):
            def counted(*args, **kwargs):
                nonlocal steps
                if steps == limit:
                    raise PowerCut
                steps += 1
                return real(*args, **kwargs)

            return counted

        with monkeypatch.context() as patch:
            patch.setattr(identity.subprocess, "run", step(subprocess.run))
            patch.setattr(identity.os, "fsync", step(os.fsync))
            patch.setattr(identity.Path, "rename", step(identity.Path.rename))
            patch.setattr(identity.Path, "replace", step(identity.Path.replace))
            patch.setattr(identity.Path, "write_text", step(identity.Path.write_text))
            patch.setattr(identity, "shutil", NobodyTidies)
            try:
                list(ensure(data, run, "sluice"))
            except PowerCut:
                cuts += 1
            else:
                break
        whole = (data / DEVICE).exists()
        if whole:
            before = contents(data)
            loads(data)
        list(ensure(data, run, "sluice"))
        loads(data)
        assert contents(run) == contents(data)
        assert not whole or contents(data) == before
        assert whole or {path.name for path in data.iterdir()} == {DEVICE}
        shutil.rmtree(data)
        shutil.rmtree(run)
    assert cuts >= 10


def test_without_a_data_partition_it_lasts_until_the_next_start(places):
    data, run = places
    said = list(ensure(data, run, "sluice", mounted=False))
    assert "no data partition" in said[0]
    loads(run)
    assert not data.exists()
    assert sorted(path.name for path in run.iterdir()) == sorted(FILES)
    first = contents(run)
    list(ensure(data, run, "sluice", mounted=False))
    assert contents(run) == first


def test_a_data_partition_that_cannot_be_written_does_not_stop_the_start(places):
    data, run = places
    data.parent.parent.mkdir(exist_ok=True)
    data.parent.write_text("a file where the partition should be")
    said = list(ensure(data, run, "sluice"))
    assert "cannot be used" in said[0]
    loads(run)


def test_the_command_says_what_it_did(places, monkeypatch, capsys):
    data, run = places
    credentials = run.parent.parent / "credentials"
    credentials.mkdir()
    (credentials / "sluice.hostname").write_text("lb7\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    monkeypatch.setenv("SLUICE_IDENTITY_DATA", str(data))
    monkeypatch.setenv("SLUICE_IDENTITY_RUN", str(run))
    assert identity.main() == 0
    assert capsys.readouterr().out == "Made this device's identity for lb7.\n"


def test_without_openssl_it_says_so_and_fails(places, monkeypatch, capsys):
    data, run = places
    monkeypatch.setenv("PATH", str(run.parent))
    monkeypatch.setenv("SLUICE_IDENTITY_DATA", str(data))
    monkeypatch.setenv("SLUICE_IDENTITY_RUN", str(run))
    assert identity.main() == 1
    assert "identity cannot be made: openssl req" in capsys.readouterr().out
