# SPDX-License-Identifier: GPL-2.0-or-later
"""The device's identity: TLS key, certificate and session key, made once, on the device itself.

`python3 -m agent identity` runs at every start, as root, before the web server. No key is in an image.
"""

import os
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agent.model.types import HOSTNAME_PATTERN
from agent.system import credentials

DATA = Path("/data/identity")
RUN = Path("/run/sluice-identity")
FILES = ("tls.key", "tls.crt", "session.key")
DEVICE = "device"
"""The folder in the data directory that holds the files; it comes to be whole, by rename."""
DAYS = 3650
"""How long the certificate is valid: ten years, longer than a device serves."""

_UNFINISHED = ".unfinished."
_CONFIG = """\
[req]
prompt = no
distinguished_name = name
x509_extensions = extensions
[name]
CN = {common_name}
[extensions]
subjectAltName = DNS:{hostname}
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
"""


class IdentityFailed(Exception):
    """The identity could not be made; the text says why."""


def main() -> int:
    """Make sure of the identity; prints what was done and why. The exit status: 0, or 1 when there is none.

    $SLUICE_IDENTITY_DATA and $SLUICE_IDENTITY_RUN replace the directories, for tests; only the default data directory
    must be on a mounted partition.
    """
    given = os.environ.get("SLUICE_IDENTITY_DATA")
    data, run = Path(given or DATA), Path(os.environ.get("SLUICE_IDENTITY_RUN") or RUN)
    hostname = credentials.read().hostname or socket.gethostname()
    if hostname == "localhost" or not re.fullmatch(HOSTNAME_PATTERN, hostname):
        hostname = "sluice"
    try:
        for line in ensure(data, run, hostname, mounted=bool(given) or data.parent.is_mount()):
            print(line, flush=True)
    except (IdentityFailed, OSError) as error:
        print(f"The device's identity cannot be made: {error}", flush=True)
        return 1
    return 0


def ensure(data: Path, run: Path, hostname: str, *, mounted: bool = True) -> Iterator[str]:
    """Make the identity in `data` when there is no sound one, and copy it to `run`. Yields what happened, in words.

    Without a data partition (`mounted` false), or when that cannot be written, it is made in `run` and lasts until the
    next start. Power may go at any moment: `data` has a whole folder DEVICE or none, and the next call mends the rest.
    Raises IdentityFailed or OSError when there can be no identity at all.
    """
    if mounted:
        try:
            yield from _keep(data / DEVICE, hostname)
        except OSError as error:
            yield f"The data partition cannot be used ({error}); the identity lasts until the next start only."
        else:
            _copy(data / DEVICE, run)
            return
    else:
        yield "There is no data partition; the identity lasts until the next start only."
    if _fault(run) is None:
        return
    with _made(run, hostname) as new:
        _copy(new, run)
    yield f"Made a temporary identity for {hostname}."


def _keep(device: Path, hostname: str) -> Iterator[str]:
    fault = _fault(device)
    if fault is None:
        return
    if device.exists():
        aside = device.with_name(f"{device.name}.broken")
        shutil.rmtree(aside, ignore_errors=True)
        device.rename(aside)
        yield f"The identity is not usable ({fault}); it was set aside as {aside} and a new one is made."
    device.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in device.parent.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(left, ignore_errors=True)
    with _made(device.parent, hostname) as new:
        for path in (*(new / name for name in FILES), new):
            _sync(path)
        new.rename(device)
        _sync(device.parent)
    yield f"Made this device's identity for {hostname}."


@contextmanager
def _made(where: Path, hostname: str) -> Iterator[Path]:
    """A new identity in a directory of its own in `where` (0700), which is gone at the end unless it was renamed."""
    where.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=where))
    try:
        config = new / "openssl.cnf"
        # A common name has 64 characters at most (X.520); names are matched by the alternative name anyway.
        config.write_text(_CONFIG.format(common_name=hostname if len(hostname) <= 64 else "sluice", hostname=hostname))
        _openssl(
            [
                *("req", "-x509", "-config", str(config), "-sha256", "-days", str(DAYS)),
                *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
                *("-keyout", str(new / "tls.key"), "-out", str(new / "tls.crt")),
            ]
        )
        config.unlink()
        (new / "session.key").write_text(secrets.token_hex(32) + "\n")
        for name in FILES:
            (new / name).chmod(0o600)
        fault = _fault(new)
        if fault is not None:
            raise IdentityFailed(f"what openssl made is not usable: {fault}")
        yield new
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _fault(where: Path) -> str | None:
    """What is wrong with the identity in `where`; None when it is sound. Raises OSError but for missing files."""
    try:
        for name in FILES:
            if not (where / name).read_bytes().strip():
                return f"{name} is empty"
    except (FileNotFoundError, NotADirectoryError) as error:
        return f"{Path(error.filename).name} is missing"
    try:
        if len(bytes.fromhex((where / "session.key").read_text())) != 32:
            return "session.key has the wrong length"
        of_key = _openssl(["pkey", "-in", str(where / "tls.key"), "-pubout"])
        of_certificate = _openssl(["x509", "-in", str(where / "tls.crt"), "-noout", "-pubkey"])
    except ValueError:
        return "session.key is not hexadecimal"
    except IdentityFailed as error:
        return str(error)
    return None if of_key == of_certificate else "key and certificate do not belong together"


def _copy(source: Path, target: Path) -> None:
    """Copy the three files, each by rename, into `target` (0700)."""
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    target.chmod(0o700)
    for name in FILES:
        new = target / f".{name}.new"
        with suppress(FileNotFoundError):
            new.unlink()
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write((source / name).read_bytes())
        new.replace(target / name)


def _openssl(arguments: list[str]) -> str:
    try:
        done = subprocess.run(
            ["openssl", *arguments], capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise IdentityFailed(f"openssl {arguments[0]}: {error}") from None
    if done.returncode != 0:
        words = [line for line in done.stderr.splitlines() if line and not set(line) <= set(".+*-")]
        raise IdentityFailed(f"openssl {arguments[0]}: {words[0] if words else f'status {done.returncode}'}")
    return done.stdout


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
