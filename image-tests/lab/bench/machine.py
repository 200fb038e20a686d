# SPDX-License-Identifier: GPL-2.0-or-later
"""The image's kernel and root under QEMU's icount, where the time stamp counter counts instructions.

One processor, one instruction a nanosecond of its time, no clock and no chance from outside: what is run twice on the
same image gives the same figures to the last digit. Slower or faster, the host changes nothing but how long it takes.
"""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lab import acceleration, guest, tools
from lab.bench import packages
from lab.build import kernel_path, root_partition_path
from lab.host import PROJECT, HostError, say

SECONDS = 2400

# Deterministic: no random numbers of the processor's, no clock but the counted one.
_COUNTED = (
    "-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", "-rtc", "base=2026-01-01T00:00:00,clock=vm",
    "-seed", "1", "-cpu", "max,-rdrand,-rdseed", "-smp", "1", "-m", "2048M",
)  # fmt: skip
_KERNEL = "console=ttyS0 quiet panic=-1 rdinit=/init nokaslr mitigations=off tsc=reliable random.trust_cpu=off"
_FOLDERS = ("agent", "image-tests/lab/bench", "docs/examples")


def run(part: str, *arguments: str, counted: bool = True) -> Iterator[dict[str, Any]]:
    """Run `lab.bench.inside.PART` in the guest; yields what it reports, as it does. Not `counted`: as fast as may be.

    Raises HostError when the guest ends in any other way than by saying that it is done.
    """
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        yield from _run(Path(folder), (part, *arguments), _COUNTED if counted else _fast())


def _fast() -> Sequence[str]:
    return "-accel", acceleration.choose(), "-cpu", "max", "-smp", "2", "-m", "1024M", "-device", "virtio-rng-pci"


def _run(folder: Path, arguments: Sequence[str], processor: Sequence[str]) -> Iterator[dict[str, Any]]:
    command = tools.command(
        "qemu-system-x86_64",
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-monitor", "none",
        "-serial", f"file:{folder / 'console'}", "-serial", "stdio",
        "-L", str(tools.path("usr/share/qemu")), "-L", str(tools.path("usr/share/seabios")),
        "-machine", "q35", *processor, "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04",
        "-drive", f"if=virtio,format=raw,readonly=on,file={root_partition_path()}",
        "-drive", f"if=virtio,format=raw,readonly=on,file={_make_disk(folder)}",
        "-kernel", str(kernel_path()),
        "-initrd", str(guest.make_initrd(folder, arguments, "/lower:/checkout/programs")),
        "-append", _KERNEL,
    )  # fmt: skip
    with subprocess.Popen(
        command, env=dict(tools.environment()), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as machine:
        assert machine.stdout
        done = False
        for line in machine.stdout:
            said = json.loads(line) if line.startswith("{") else {"say": line.rstrip()}
            if "say" in said:
                say(said["say"])
            elif "done" in said:
                done = True
            else:
                yield said
    if not done:
        console = (folder / "console").read_text(errors="replace")
        raise HostError(f"the guest ended early:\n{console[-4000:]}")


def _make_disk(folder: Path) -> Path:
    """The second disk: the checkout's code, the peers' programs and the kernel's modules."""
    tree = folder / "tree"
    ignored = shutil.ignore_patterns("__pycache__", "tests")
    for name in _FOLDERS:
        if (PROJECT / name).is_dir():
            target = name.removeprefix("image-tests/")
            shutil.copytree(PROJECT / name, tree / target, ignore=ignored)
    shutil.copy(PROJECT / "image-tests/lab/__init__.py", tree / "lab")
    shutil.copy(PROJECT / "image-tests/lab/kernel.py", tree / "lab")
    shutil.copy(PROJECT / "image-tests/lab/bench/inside/start.py", tree / "inside.py")
    guest.compile_python(tree)
    for name in ("programs", "modules"):
        shutil.copytree(packages.tree() / name, tree / name, symlinks=True)
    disk = folder / "second.erofs"
    tools.run("mkfs.erofs", "--quiet", str(disk), str(tree))
    return disk
