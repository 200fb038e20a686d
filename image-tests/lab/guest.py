# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the network tests in the kernel that ships: `python -m lab.guest [PYTEST-ARGUMENTS]`.

A small machine starts the image's kernel directly, on the image's root with a volatile layer above, and pytest is its
only process. The checkout and pytest itself come on a second disk. No privilege is needed, no network is connected.
Without names of files all of them are run, by two such machines at a time where there are two processors.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from lab import acceleration, tools
from lab.build import kernel_path, root_partition_path, tools_tree
from lab.host import PROJECT

SECONDS = 2700

GUESTS = min(2, os.cpu_count() or 1)
"""An emulated machine keeps one processor busy, and takes a GB of memory."""

_INSIDE = Path(__file__).parent / "inside"

# What the kernel needs to find its root; Debian builds none of it in. Dependencies are looked up.
# libcrc32c, which erofs needs, asks the crypto layer for crc32c by name, so modules.dep does not tell.
_MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "erofs", "overlay")
_PROGRAMS = ("dash", "kmod", "mount", "mkdir", "switch_root")

# Pure Python, so that the host's copy serves the image's Python as well.
_PACKAGES = (
    "_pytest", "pytest", "py.py", "pytest_asyncio", "pluggy", "iniconfig", "packaging", "pygments",
    "typing_extensions.py", "hypothesis", "_hypothesis_globals.py", "_hypothesis_ftz_detector.py",
    "_hypothesis_pytestplugin.py", "sortedcontainers",
)  # fmt: skip

_INIT = """\
#!/bin/dash -e
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in {modules}; do insmod /modules/$module; done
mount -t erofs -o ro /dev/vda /lower
mount -t erofs -o ro /dev/vdb /checkout
mount -t tmpfs volatile /volatile
mkdir /volatile/upper /volatile/work
mount -t overlay -o lowerdir={lower},upperdir=/volatile/upper,workdir=/volatile/work root /sysroot
mkdir -p /sysroot/checkout
mount --move /checkout /sysroot/checkout
for folder in dev proc sys; do mount --move /$folder /sysroot/$folder; done
mount -t tmpfs run /sysroot/run
mount -t tmpfs tmp /sysroot/tmp
exec switch_root /sysroot /usr/bin/python3 /checkout/inside.py {arguments}
"""


def _image_file(path: str) -> bytes:
    """The contents of a file of the image."""
    command = tools.command("dump.erofs", "--cat", f"--path={path}", str(root_partition_path()))
    result = subprocess.run(command, check=False, capture_output=True)
    if result.returncode != 0 or not result.stdout:
        raise FileNotFoundError(f"the image has no {path}: {result.stderr.decode(errors='replace').strip()}")
    return result.stdout


def kernel_release() -> str:
    """The release of the image's kernel ("6.12.43+deb13-amd64"), as its own header says it."""
    data = kernel_path().read_bytes()
    offset = int.from_bytes(data[0x20E:0x210], "little") + 0x200
    return data[offset : data.index(b"\0", offset)].decode().split()[0]


def _modules() -> Iterator[str]:
    """The files of the modules that are needed, relative to the modules' folder, each after what it depends on."""
    folder = f"/usr/lib/modules/{kernel_release()}"
    needs: dict[str, list[str]] = {}
    for line in _image_file(f"{folder}/modules.dep").decode().splitlines():
        file, _, others = line.partition(":")
        needs[file] = others.split()
    names = {re.sub(r"\.ko(\.\w+)?$", "", Path(file).name).replace("-", "_"): file for file in needs}
    built_in = _image_file(f"{folder}/modules.builtin").decode()
    seen: set[str] = set()
    for name in _MODULES:
        if name not in names:
            if re.search(rf"/{name.replace('_', '[_-]')}\.ko", built_in):
                continue
            raise FileNotFoundError(f"the image has no kernel module {name}")
        # modules.dep lists what has to be loaded in reverse order.
        for file in [*reversed(needs[names[name]]), names[name]]:
            if file not in seen:
                seen.add(file)
                yield file


def make_initrd(folder: Path, arguments: Sequence[str], lower: str = "/lower") -> Path:
    """Make the archive that finds the root and starts the second disk's `inside.py` with `arguments`.

    `lower`: folders that make the root together, where a file is in several the first one's: the image is /lower, the
    second disk /checkout.
    """
    tree = folder / "initrd"
    for name in ("bin", "modules", "dev", "proc", "sys", "lower", "checkout", "volatile", "sysroot"):
        (tree / name).mkdir(parents=True)
    release = kernel_release()
    loaded = []
    for file in _modules():
        (tree / "modules" / Path(file).name).write_bytes(_image_file(f"/usr/lib/modules/{release}/{file}"))
        loaded.append(Path(file).name)
    for program in _PROGRAMS:
        command = tools.command(program)
        shutil.copy(command[-1], tree / "bin" / program)
        for library in _libraries(command):
            target = tree / library.relative_to(tools_tree())
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, target)
    loader = tree / "lib64/ld-linux-x86-64.so.2"
    loader.parent.mkdir(exist_ok=True)
    shutil.copy(tools.path("usr/lib64/ld-linux-x86-64.so.2"), loader)
    (tree / "bin/insmod").symlink_to("kmod")
    init = tree / "init"
    quoted = " ".join("'" + argument.replace("'", "'\\''") + "'" for argument in arguments)
    init.write_text(_INIT.format(modules=" ".join(loaded), lower=lower, arguments=quoted), encoding="utf-8")
    init.chmod(0o755)
    archive = folder / "initrd.cpio"
    names = "\0".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    with archive.open("wb") as output:
        subprocess.run(
            tools.command("cpio", "--null", "--create", "--format=newc", "--quiet"),
            input=names.encode(), stdout=output, cwd=tree, check=True,
        )  # fmt: skip
    return archive


def _libraries(command: list[str]) -> Iterator[Path]:
    """The shared libraries of a program of the tools tree (its command line from tools.command)."""
    listed = subprocess.run([*command[:3], "--list", command[3]], check=True, capture_output=True, text=True).stdout
    for found in re.finditer(r"=> (/\S+)", listed):
        yield Path(found.group(1))


def _make_checkout(folder: Path) -> Path:
    """Make the disk with the agent, its tests and pytest."""
    tree = folder / "checkout"
    site = tree / "site"
    site.mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT / "agent", tree / "agent", ignore=ignored)
    shutil.copy(PROJECT / "pyproject.toml", tree)
    shutil.copy(_INSIDE / "tests.py", tree / "inside.py")
    packages = Path(next(path for path in sys.path if (Path(path) / "_pytest").is_dir()))
    for name in _PACKAGES:
        if (packages / name).is_dir():
            shutil.copytree(packages / name, site / name, ignore=ignored)
        else:
            shutil.copy(packages / name, site)
        for metadata in packages.glob(f"{Path(name).stem}-*.dist-info"):
            shutil.copytree(metadata, site / metadata.name)
    compile_python(tree)
    disk = folder / "checkout.erofs"
    tools.run("mkfs.erofs", "--quiet", str(disk), str(tree))
    return disk


def compile_python(tree: Path) -> None:
    """Compile the Python in `tree` with the tools tree's Python, which is the image's: emulated it takes 15 s."""
    environment = {**os.environ, "PYTHONHOME": str(tools_tree() / "usr"), "PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run(
        tools.command("python3", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", str(tree)),
        check=True, env=environment,
    )  # fmt: skip


def kernel_tests() -> list[str]:
    """The test files with tests for the kernel. The others may import what the image does not have."""
    files = sorted((PROJECT / "agent/tests").rglob("test_*.py"))
    return [str(file.relative_to(PROJECT)) for file in files if "mark.kernel" in file.read_text(encoding="utf-8")]


def portions(files: Sequence[str], number: int) -> list[list[str]]:
    """`files` in so many lists with about as many tests each."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-qq", "-m", "kernel", *files]
    told = subprocess.run(command, check=True, cwd=PROJECT, stdout=subprocess.PIPE, text=True).stdout
    counts = {file: int(count) for file, count in re.findall(r"^(\S+\.py): (\d+)$", told, re.MULTILINE)}
    found: list[list[str]] = [[] for _ in range(number)]
    for file in sorted(counts, key=lambda file: (-counts[file], file)):
        min(found, key=lambda portion: sum(counts[each] for each in portion)).append(file)
    return [sorted(portion) for portion in found]


def run_all(arguments: Sequence[str], files: Sequence[str]) -> int:
    """Run the tests of `files`, a portion in each of some guests; the first failure's exit status.

    The first guest's output is seen as it comes, the others' afterwards.
    """
    first, *others = portions(files, GUESTS)
    with ThreadPoolExecutor() as pool, tempfile.TemporaryDirectory(prefix="sluice-output-") as folder:
        told = [Path(folder) / str(number) for number in range(len(others))]
        running = [pool.submit(_run_into, file, [*arguments, *each]) for file, each in zip(told, others, strict=True)]
        status = run([*arguments, *first])
        for file, each in zip(told, running, strict=True):
            ended = each.result()
            status = status or ended
            print(file.read_text(encoding="utf-8", errors="replace"), flush=True)
        return status


def _run_into(file: Path, arguments: Sequence[str]) -> int:
    with file.open("wb") as output:
        return run(arguments, output)


def run(arguments: Sequence[str], output: IO[bytes] | None = None) -> int:
    """Run pytest with `arguments` in the guest, its output on ours or in a file; return its exit status."""
    with tempfile.TemporaryDirectory(prefix="sluice-guest-") as folder:
        return _run(Path(folder), arguments, output)


def _run(folder: Path, arguments: Sequence[str], output: IO[bytes] | None) -> int:
    command = tools.command(
        "qemu-system-x86_64",
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio", "-monitor", "none",
        "-L", str(tools.path("usr/share/qemu")), "-L", str(tools.path("usr/share/seabios")),
        "-machine", "q35", "-accel", acceleration.choose(), "-cpu", "max", "-smp", "2", "-m", "1024M",
        "-device", "virtio-rng-pci", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04",
        "-drive", f"if=virtio,format=raw,readonly=on,file={root_partition_path()}",
        "-drive", f"if=virtio,format=raw,readonly=on,file={_make_checkout(folder)}",
        "-kernel", str(kernel_path()), "-initrd", str(make_initrd(folder, arguments)),
        "-append", "console=ttyS0 quiet panic=-1 rdinit=/init",
    )  # fmt: skip
    try:
        result = subprocess.run(
            command, check=False, env=tools.environment(), stdin=subprocess.DEVNULL, stdout=output, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        print(f"the guest was still running after {SECONDS} s", file=sys.stderr)
        return 124
    # isa-debug-exit makes an odd status of what it is given; anything else is QEMU's or a panic's.
    if result.returncode % 2 == 0:
        print("the guest ended without running the tests to their end", file=sys.stderr)
        return 125
    return result.returncode >> 1


def main() -> int:
    """Run the kernel's tests, or those that the command line names."""
    arguments = ["-m", "kernel", "--color=no", *sys.argv[1:]]
    if any(argument.startswith("agent/") for argument in sys.argv[1:]):
        return run(arguments)
    return run_all(arguments, kernel_tests())


if __name__ == "__main__":
    sys.exit(main())
