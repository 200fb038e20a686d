# SPDX-License-Identifier: GPL-2.0-or-later
"""The peers that Sluice is measured beside, as Debian's own packages of the image's release, unpacked into the cache.

They come through apt, so with Debian's signature. Nothing of them goes into the product's image: they are laid under
the image's root in the guest of the benchmark only, where a file that both have is the image's.
"""

import shutil
from pathlib import Path
from urllib.parse import unquote

from lab import host, tools
from lab.guest import kernel_release
from lab.host import HostError, fingerprint, say

_PROGRAMS = (
    "ipvsadm", "libnl-3-200", "libnl-genl-3-200", "libpopt0",
    "iptables", "libip4tc2", "libip6tc2", "libnetfilter-conntrack3", "libnfnetlink0",
    "nftlb", "libev4t64",
    "haproxy", "liblua5.4-0", "libjemalloc2", "libopentracing-c-wrapper0t64", "libopentracing1", "libstdc++6",
)  # fmt: skip
"""The peers, and the libraries that the image has not."""

_MODULES = (
    "kernel/net", "kernel/lib", "kernel/crypto", "kernel/arch", "kernel/drivers/net/veth.ko*",
    "kernel/drivers/net/dummy.ko*", "kernel/drivers/net/ifb.ko*", "kernel/fs/nls", "modules.builtin*", "modules.order",
)  # fmt: skip
"""What is kept of the kernel's package, relative to the modules' folder: the image has only what the product needs."""


def tree() -> Path:
    """The folder with `programs` (laid under the image's root) and `modules` (the kernel's, for the same kernel).

    Fetched once for each kernel and list. Raises HostError when the kernel's package of the image's very version is no
    longer to be had: then build the image anew.
    """
    release = kernel_release()
    found = host.cache() / f"bench-{fingerprint(release, *_PROGRAMS, *_MODULES)}"
    if found.exists():
        return found
    say("fetching the peers for the benchmark (once per kernel)")
    unfinished = found.with_name("unfinished-bench")
    shutil.rmtree(unfinished, ignore_errors=True)
    for folder in ("packages", "programs", "kernel"):
        (unfinished / folder).mkdir(parents=True)
    archive = host.Archive(host.find_mirrors())
    archive.get("update")
    for package in (*_PROGRAMS, f"linux-image-{release}"):
        _fetch(archive, package, unfinished / "packages")
    names = sorted(file.name for file in (unfinished / "packages").iterdir())
    for file in (unfinished / "packages").iterdir():
        target = unfinished / ("kernel" if file.name.startswith("linux-image") else "programs")
        host.output(["dpkg-deb", "-x", str(file), str(target)])
    _keep_modules(unfinished, release)
    for folder in ("packages", "kernel", "programs/usr/share"):
        shutil.rmtree(unfinished / folder)
    (unfinished / "versions").write_text("".join(f"{_version(name)}\n" for name in names), encoding="utf-8")
    for old in host.cache().glob("bench-*"):
        shutil.rmtree(old)
    unfinished.rename(found)
    return found


def _fetch(archive: host.Archive, package: str, folder: Path) -> None:
    """Get a package into `folder`; that of the kernel is usually there from the build of the image."""
    built_with = sorted((host.cache() / "packages").rglob(f"{package}_*.deb"))
    if built_with and package.startswith("linux-image-"):
        shutil.copy(built_with[-1], folder)
    else:
        archive.get("download", package, folder=folder)


def _version(file: str) -> str:
    """Name and version, as in "ipvsadm 1:1.31-5", of a package's file."""
    name, version, _ = unquote(file).split("_")
    return f"{name} {version}"


def _keep_modules(folder: Path, release: str) -> None:
    """Move the modules that are wanted to `modules`, with an index of their own."""
    source = folder / "kernel/usr/lib/modules" / release
    if not source.is_dir():
        raise HostError(f"the package of the kernel {release} has no modules")
    target = folder / "modules/lib/modules" / release
    for pattern in _MODULES:
        for found in source.glob(pattern):
            goal = target / found.relative_to(source)
            goal.parent.mkdir(parents=True, exist_ok=True)
            found.rename(goal)
    tools.run("depmod", "-b", str(folder / "modules"), release)


def versions() -> dict[str, str]:
    """The version of each package, by name."""
    lines = (tree() / "versions").read_text(encoding="utf-8").splitlines()
    return dict(line.split() for line in lines)
