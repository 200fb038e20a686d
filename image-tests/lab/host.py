# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine that builds and tests: its Debian packages, its mirrors, the virtual environment.

Runs on the bare system Python of Debian 12 or 13, before anything else is there: standard library only.
"""

import hashlib
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

PROJECT = Path(__file__).resolve().parents[2]
BUILD = PROJECT / "build"
RELEASE = "trixie"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

# What the host must have from its own archive; QEMU, firmware and partitioning tools come with the tools tree.
PACKAGES = (
    "chromium",
    "debian-archive-keyring",
    "dnsmasq-base",
    "fonts-dejavu-core",
    "git",
    "iproute2",
    "libatomic1",  # Playwright brings a node of its own, which needs it
    "make",
    "nftables",
    "openssl",
    "python3-nftables",
    "python3-venv",
    "systemd",
    "uidmap",
)


class HostError(Exception):
    """The machine lacks something that could not be put right; the text says what and how."""


@dataclass(frozen=True)
class Mirrors:
    """Where Debian's archive is fetched from: address of the archive, and of the security archive if known."""

    archive: str
    security: str | None


def cache() -> Path:
    """The folder for downloads and trees that outlive a checkout."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    path = Path(base) / "sluice"
    path.mkdir(parents=True, exist_ok=True)
    return path


def say(text: str) -> None:
    """Tell the user which step is being done."""
    print(f"\N{BLACK RIGHT-POINTING SMALL TRIANGLE} {text}", flush=True)


def fingerprint(*parts: object) -> str:
    """A short digest that changes when one of the parts does."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]


def output(argv: list[str], **environment: str) -> str:
    """The standard output of a command that must succeed.

    Raises HostError with what the command printed.
    """
    done = subprocess.run(
        argv, env={**os.environ, **environment}, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise HostError(f"{' '.join(argv)} failed:\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout


def install_packages() -> None:
    """Install the Debian packages that are missing; asks sudo when not root, and only then."""
    listed = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n", *PACKAGES],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    present = {line.split()[0] for line in listed.splitlines() if line.endswith(" installed")}
    missing = [package for package in PACKAGES if package not in present]
    if not missing:
        return
    say(f"installing Debian packages: {' '.join(missing)}")
    prefix = [] if os.geteuid() == 0 else ["sudo"]
    prefix += ["env", "DEBIAN_FRONTEND=noninteractive"]
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
        if subprocess.run([*prefix, "apt-get", "-q", *arguments], check=False).returncode:
            raise HostError(f"apt-get {arguments[0]} failed; install these packages by hand: {' '.join(missing)}")


def virtual_environment() -> None:
    """Make build/venv with the versions that pyproject.toml pins; nothing happens when they are there."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    venv = BUILD / "venv"
    stamp = venv / ".sluice"
    mark = fingerprint(sys.version, *wanted)
    if stamp.exists() and stamp.read_text() == mark:
        return
    say("setting up build/venv")
    if not (venv / "bin/python").exists():
        output(["/usr/bin/python3", "-m", "venv", "--system-site-packages", str(venv)])
    output([str(venv / "bin/python"), "-m", "pip", "install", "--quiet", *wanted])
    stamp.write_text(mark)


def _configured() -> list[tuple[str, str]]:
    """The machine's Debian sources as (address, suite), from apt itself: it reads both file formats."""
    lines = output(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
    )
    found = []
    for line in lines.splitlines():
        address, suite, component = [*line.split(" "), "", ""][:3]
        if component == "main" and (address.rstrip("/"), suite) not in found:
            found.append((address.rstrip("/"), suite))
    return found


def _codename() -> str:
    found = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    return found[1] if found else RELEASE


class Archive:
    """apt with a configuration and a state of its own, looking at the image's release; changes no host file."""

    def __init__(self, mirrors: Mirrors) -> None:
        self.mirrors = mirrors
        self.home = cache() / "apt" / fingerprint(mirrors)
        for folder in ("lists/partial", "archives/partial"):
            (self.home / folder).mkdir(parents=True, exist_ok=True)
        (self.home / "image.sources").write_text(sources(mirrors))
        (self.home / "apt.conf").write_text(
            f'Dir::Etc::sourcelist "{self.home}/image.sources";\nDir::Etc::sourceparts "-";\n'
            f'Dir::State "{self.home}";\nDir::State::status "/dev/null";\nDir::Cache "{self.home}";\n'
            'APT::Sandbox::User "";\n'
            # A missing or badly signed suite must be an error here, not a warning.
            'APT::Update::Error-Mode "any";\n'
        )

    def get(self, *arguments: str, folder: Path | None = None) -> None:
        """Run apt-get; raises HostError, with apt's own words, also when a signature is not Debian's."""
        argv = ["apt-get", "--quiet", *arguments]
        environment = {**os.environ, "APT_CONFIG": str(self.home / "apt.conf")}
        done = subprocess.run(
            argv, env=environment, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise HostError(f"{' '.join(argv)} failed for {self.mirrors.archive}:\n{done.stdout}{done.stderr}")


def sources(mirrors: Mirrors) -> str:
    """The image's apt sources in deb822 form."""
    places = [(mirrors.archive, f"{RELEASE} {RELEASE}-updates")]
    if mirrors.security:
        places.append((mirrors.security, f"{RELEASE}-security"))
    return "\n".join(
        f"Types: deb\nURIs: {address}\nSuites: {suites}\nComponents: main non-free-firmware\nSigned-By: {KEYRING}\n"
        for address, suites in places
    )


def find_mirrors() -> Mirrors:
    """The first of the machine's own mirrors that has the image's release, signed by Debian.

    MIRROR= and SECURITY_MIRROR= in the environment come before what apt is configured with. Raises HostError when
    nothing answers with a good signature.
    """
    codename = _codename()
    configured = _configured()
    archives = [address for address, suite in configured if suite == codename]
    security = [address for address, suite in configured if suite in (f"{codename}-security", f"{codename}/updates")]
    if chosen := os.environ.get("MIRROR", "").rstrip("/"):
        archives = [chosen]
        security = [f"{chosen}-security", *security]
    if chosen := os.environ.get("SECURITY_MIRROR", "").rstrip("/"):
        security = [chosen]
    remembered = cache() / "mirrors"
    known = remembered.read_text().split("\n") if remembered.exists() else []
    mark = fingerprint(archives, security, KEYRING.stat().st_mtime_ns)
    if len(known) == 3 and known[0] == mark:
        return Mirrors(known[1], known[2] or None)
    faults = []
    for archive in archives:
        # A mirror without the security archive is still better than no build; the user is told.
        for guess in (*security, None):
            try:
                Archive(Mirrors(archive, guess)).get("update")
            except HostError as error:
                faults.append(str(error))
                continue
            say(
                f"Debian {RELEASE} from {urlsplit(archive).netloc or archive}"
                + ("" if guess else ", WITHOUT security updates")
            )
            remembered.write_text(f"{mark}\n{archive}\n{guess or ''}")
            return Mirrors(archive, guess)
    raise HostError(f"no mirror with Debian {RELEASE} found (set MIRROR= and SECURITY_MIRROR=)\n" + "\n".join(faults))


def main() -> int:
    """Set the machine up: packages and virtual environment."""
    try:
        install_packages()
        virtual_environment()
    except HostError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
