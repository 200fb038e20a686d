# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds the image with mkosi 25.3 and tells where the results are.

Everything is resumable: mkosi and the tools tree are made once per machine and kept in the cache folder, packages are
downloaded once, and an image is built again only when one of its inputs changed. Standard library only.

What comes out, in build/ (V is the version in pyproject.toml):

    sluice_V.raw        the disk image, as it is written to a disk; the data partition is made at the first boot and
                        takes the rest of the disk, so a virtual disk must be made larger than the file first
    sluice_V.qcow2      the same for virtual machines, 8 GB
    sluice_V.efi        its unified kernel image
    sluice_V.vmlinuz    the kernel in it
    sluice_V.root-x86-64.UUID.raw, .root-x86-64-verity.UUID.raw     slot A's partitions
    sluice_V.manifest   the packages, JSON
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

from lab import host
from lab.host import BUILD, PROJECT, HostError, Mirrors, fingerprint, say

MKOSI_VERSION = "25.3"
_DISK = "8G"
_TOOLS = PROJECT / "image-tests/lab/tools-tree"
# The folders and files an image is made of, besides the archive.
_INPUTS = ("mkosi.*", "agent", "webui", "pyproject.toml")
_SEED = "6a0ba4a8-1a0f-4d0c-9c53-5d0b3c0f7d11"


def image_version() -> str:
    """The version of the product and of its image."""
    return str(tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"])


def _artefact(suffix: str) -> Path:
    return BUILD / f"sluice_{image_version()}{suffix}"


def image_path() -> Path:
    """The raw disk image (it need not have been built)."""
    return _artefact(".raw")


def disk_path() -> Path:
    """The qcow2 disk image (it need not have been built)."""
    return _artefact(".qcow2")


def uki_path() -> Path:
    """The unified kernel image (it need not have been built)."""
    return _artefact(".efi")


def kernel_path() -> Path:
    """The kernel of the image (it need not have been built)."""
    return _artefact(".vmlinuz")


def initrd_path() -> Path:
    """The initrd of the image without kernel modules, a zstd cpio (it need not have been built)."""
    return BUILD / f"initrd_{image_version()}.cpio.zst"


def root_partition_path() -> Path:
    """The erofs root of slot A, with the kernel's modules; raises FileNotFoundError when nothing was built."""
    found = sorted(BUILD.glob(f"sluice_{image_version()}.root-x86-64.*.raw"))
    if not found:
        raise FileNotFoundError("no image was built yet: make image")
    return found[-1]


def tools_tree() -> Path:
    """The root of a Debian tree with the tools: QEMU, OVMF, repart, ukify; it is there once an image was built."""
    return host.cache() / f"tools-{_tools_mark()}" / "tree"


def _tools_mark() -> str:
    return fingerprint(MKOSI_VERSION, (_TOOLS / "mkosi.conf").read_text())


def mkosi() -> list[str]:
    """The command line of mkosi 25.3: the host's if it is that version, else Debian 13's package, unpacked.

    The package comes through apt and so with Debian's signature. Raises HostError when it can't be fetched.
    """
    if found := shutil.which("mkosi"):
        printed = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
        if printed.split()[-1:] == [MKOSI_VERSION]:
            return [found]
    tree = BUILD / "mkosi"
    modules = tree / "usr/lib/python3/dist-packages"
    if not (modules / "mkosi/__main__.py").exists():
        packages = host.cache() / "mkosi"
        packages.mkdir(exist_ok=True)
        wanted = f"mkosi_{MKOSI_VERSION}-*_all.deb"
        if not any(packages.glob(wanted)):
            say(f"fetching mkosi {MKOSI_VERSION}")
            archive = host.Archive(host.find_mirrors())
            archive.get("update")
            archive.get("download", f"mkosi={MKOSI_VERSION}-*", folder=packages)
        tree.mkdir(parents=True, exist_ok=True)
        host.output(["dpkg-deb", "-x", str(max(packages.glob(wanted))), str(tree)])
    return ["env", f"PYTHONPATH={modules}", "/usr/bin/python3", "-m", "mkosi"]


def _sandbox(mirrors: Mirrors) -> Path:
    """The tree that mkosi lays over its package manager's configuration: our sources, the host's proxy settings."""
    tree = BUILD / "mkosi.sandbox"
    folder = tree / "etc/apt"
    (folder / "sources.list.d").mkdir(parents=True, exist_ok=True)
    (folder / "apt.conf.d").mkdir(parents=True, exist_ok=True)
    (folder / "sources.list.d/mkosi.sources").write_text(host.sources(mirrors))
    settings = host.output(["apt-config", "dump"]).splitlines()
    kept = [line for line in settings if re.match(r"Acquire::(https?::Proxy|Retries|Check-|https?::Timeout)", line)]
    (folder / "apt.conf.d/50host").write_text("\n".join([*kept, 'Acquire::Languages "none";', ""]))
    return tree


def _run_mkosi(directory: Path, log: Path, *arguments: str) -> None:
    """Run mkosi, show its steps as they come and keep all of its output in `log`.

    Raises HostError with the end of the log when mkosi fails.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    argv = [*mkosi(), "--directory", str(directory), *arguments]
    began = time.monotonic()
    with (
        log.open("w") as kept,
        subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout
        for line in process.stdout:
            kept.write(line)
            if line.startswith("‣ ") or re.match(r"Get:\d+0 ", line):
                print(f"  {time.monotonic() - began:4.0f} s  {line.strip()[:100]}", flush=True)
    if process.returncode:
        end = "".join(log.read_text(errors="replace").splitlines(keepends=True)[-30:])
        raise HostError(f"mkosi failed, see {log}:\n{end}")


def _common(mirrors: Mirrors) -> list[str]:
    """The settings of every mkosi run that belong to this machine."""
    packages = host.cache() / "packages"
    packages.mkdir(exist_ok=True)
    return ["--sandbox-tree", str(_sandbox(mirrors)), "--package-cache-dir", str(packages)]


def make_tools_tree(mirrors: Mirrors) -> Path:
    """Build the tools tree if this machine has none of this description, and return its path."""
    tree = tools_tree()
    if tree.exists():
        return tree
    say("building the tools tree (once per machine, a few minutes)")
    parts = tree.parent
    shutil.rmtree(parts, ignore_errors=True)
    for old in host.cache().glob("tools-*"):
        shutil.rmtree(old, ignore_errors=True)
    unfinished = parts.with_name("unfinished-tools")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    _run_mkosi(_TOOLS, BUILD / "logs/tools.log", "--output-directory", str(unfinished), *_common(mirrors), "build")
    unfinished.rename(parts)
    return tree


def _inputs() -> Iterator[Path]:
    """Every file that goes into the image; tests and caches do not."""
    for pattern in _INPUTS:
        for top in sorted(PROJECT.glob(pattern)):
            for path in [top] if top.is_file() else sorted(top.rglob("*")):
                parts = path.relative_to(PROJECT).parts
                if path.is_file() and "__pycache__" not in parts and "tests" not in parts:
                    yield path


def _lay_out_source() -> None:
    """Copy what the Python package is made of to build/source; mkosi wants a folder of it."""
    folder = BUILD / "source"
    shutil.rmtree(folder, ignore_errors=True)
    for path in _inputs():
        relative = path.relative_to(PROJECT)
        if not relative.parts[0].startswith("mkosi."):
            (folder / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, folder / relative)
    # pyproject.toml names it; the long description is not part of the image.
    (folder / "README.md").touch()


def _mark(mirrors: Mirrors) -> str:
    """What tells whether an image is up to date."""
    described = [f"{path.relative_to(PROJECT)} {fingerprint(path.read_bytes())}" for path in _inputs()]
    return fingerprint(mirrors, _tools_mark(), *described)


def _epoch() -> int:
    """The time stamp of everything in the image: the last commit that touched one of its inputs."""
    told = subprocess.run(
        ["git", "-C", str(PROJECT), "log", "-1", "--format=%ct", "--", *_INPUTS],
        capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    return int(os.environ.get("SOURCE_DATE_EPOCH") or told or 1767225600)


def make_image(*, force: bool = False) -> Path:
    """Build the image and its companions if an input changed since the last time; return the raw image's path."""
    mirrors = host.find_mirrors()
    tools = make_tools_tree(mirrors)
    stamp = BUILD / "image.json"
    mark = _mark(mirrors)
    done = json.loads(stamp.read_text()) if stamp.exists() else {}
    if not force and done.get("mark") == mark and image_path().exists() and disk_path().exists():
        say(f"{image_path().relative_to(PROJECT)} is up to date")
        return image_path()
    say(f"building sluice {image_version()}")
    began = time.monotonic()
    stamp.unlink(missing_ok=True)
    # Partitions carry the UUID of the build in their name, so that mkosi leaves those of earlier builds behind.
    for old in (*BUILD.glob("sluice_*"), *BUILD.glob("initrd*")):
        old.unlink()
    _lay_out_source()
    incremental = host.cache() / "image"
    incremental.mkdir(exist_ok=True)
    _run_mkosi(
        PROJECT, BUILD / "logs/image.log",
        "--force", "--image-version", image_version(), "--tools-tree", str(tools), "--cache-dir", str(incremental),
        "--source-date-epoch", str(_epoch()), "--seed", _SEED, *_common(mirrors), "build",
    )  # fmt: skip
    _convert()
    stamp.write_text(json.dumps({"mark": mark, "version": image_version(), "seconds": time.monotonic() - began}))
    say(f"image ready after {time.monotonic() - began:.0f} s: {image_path().relative_to(PROJECT)}")
    return image_path()


def _convert() -> None:
    """Write the image for virtual machines, on a disk with room for data."""
    from lab import tools  # noqa: PLC0415  lab.tools asks this module where the tree is

    unfinished = disk_path().with_suffix(".unfinished")
    tools.run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd",
              str(image_path()), str(unfinished))  # fmt: skip
    tools.run("qemu-img", "resize", "-q", str(unfinished), _DISK)
    unfinished.rename(disk_path())


def main() -> int:
    """`python3 -m lab.build [--force] [tools|image]`."""
    parser = argparse.ArgumentParser(prog="lab.build", description="Build the appliance's image with mkosi.")
    parser.add_argument("what", nargs="?", choices=("tools", "image"), default="image")
    parser.add_argument("--force", action="store_true", help="build even if nothing changed")
    arguments = parser.parse_args()
    try:
        if arguments.what == "tools":
            make_tools_tree(host.find_mirrors())
        else:
            make_image(force=arguments.force)
    except HostError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
