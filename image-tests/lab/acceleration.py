# SPDX-License-Identifier: GPL-2.0-or-later
"""KVM where it works, emulation where not."""

import functools
import json
import os
import subprocess
from pathlib import Path

from lab import tools
from lab.build import kernel_path
from lab.host import BUILD

KVM = "kvm"
TCG = "tcg,thread=multi"

_PROBE_SECONDS = 20


@functools.cache
def choose() -> str:
    """QEMU's `-accel` for this machine: KVM if a stock kernel was seen to start with it, else emulation.

    /dev/kvm being there says little: nested in some clouds, guests abort or hang in it. So the image's kernel is
    started once, and the answer kept until the machine is. LAB_ACCELERATOR=kvm or =tcg in the environment overrides.
    """
    wanted = os.environ.get("LAB_ACCELERATOR")
    if wanted:
        return TCG if wanted == "tcg" else wanted
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return TCG
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    known = BUILD / "lab" / "acceleration.json"
    if known.exists():
        answer = json.loads(known.read_text(encoding="utf-8"))
        if answer.get("boot") == boot:
            return str(answer["accelerator"])
    accelerator = KVM if _boots_with_kvm() else TCG
    known.parent.mkdir(parents=True, exist_ok=True)
    known.write_text(json.dumps({"boot": boot, "accelerator": accelerator}), encoding="utf-8")
    return accelerator


def _boots_with_kvm() -> bool:
    """Start the image's kernel without any root: it panics in the end, and that it gets there is the proof."""
    command = tools.command(
        "qemu-system-x86_64",
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
        "-L", str(tools.path("usr/share/qemu")), "-L", str(tools.path("usr/share/seabios")),
        "-machine", "q35", "-accel", KVM, "-cpu", "max", "-smp", "2", "-m", "512M",
        "-kernel", str(kernel_path()), "-append", "console=ttyS0 panic=-1",
    )  # fmt: skip
    try:
        result = subprocess.run(
            command, check=False, capture_output=True, timeout=_PROBE_SECONDS, env=tools.environment(),
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False
    return b"Kernel panic - not syncing: VFS: Unable to mount root fs" in result.stdout
