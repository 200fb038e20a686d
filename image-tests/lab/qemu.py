# SPDX-License-Identifier: GPL-2.0-or-later
"""One virtual machine: the tools tree's QEMU with UEFI firmware, three network cards, consoles and control sockets."""

import contextlib
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab import acceleration, tools
from lab.console import Console
from lab.namespaces import APPLIANCE_NUMBER, SEGMENTS, Segment
from lab.qmp import Qmp

MEMORY = "1024M"
# The names are inside/control.py's as well.
JOURNAL_PORT = "sluice.lab.journal"
CONTROL_PORT = "sluice.lab.control"

# The first card is the first link: the one the appliance asks DHCP on.
MACS = {segment.name: f"52:54:00:{segment.prefix.split('.')[1]}:00:{APPLIANCE_NUMBER:02x}" for segment in SEGMENTS}


def _card(segment: Segment) -> str:
    return f"virtio-net-pci,id=nic-{segment.name},netdev={segment.name},mac={MACS[segment.name]}"


@dataclass
class Disks:
    """The two writable images of a machine: its disk and the firmware's variables. Both are qcow2."""

    disk: Path
    variables: Path

    @classmethod
    def fresh(cls, image: Path, folder: Path, size: str) -> "Disks":
        """An overlay of `size` over the raw `image`, and the firmware's variables as they come from the factory."""
        folder.mkdir(parents=True, exist_ok=True)
        disks = cls(folder / "disk.qcow2", folder / "variables.qcow2")
        tools.run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(image), str(disks.disk), size)
        variables = str(tools.path("usr/share/OVMF/OVMF_VARS_4M.fd"))
        tools.run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", variables, str(disks.variables))
        return disks

    def overlaid(self, folder: Path) -> "Disks":
        """Overlays over these images, which must not change any more."""
        folder.mkdir(parents=True, exist_ok=True)
        above = Disks(folder / "disk.qcow2", folder / "variables.qcow2")
        for mine, new in ((self.disk, above.disk), (self.variables, above.variables)):
            tools.run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(mine), str(new))
        return above


@dataclass
class Machine:
    """A QEMU process. `start` it, `kill` it (a power cut), `start` it again on the same disks."""

    folder: Path
    disks: Disks
    taps: Sequence[str]
    strings: Sequence[str] = ()
    """SMBIOS strings (type 11), which systemd takes credentials from."""
    unplugged: frozenset[str] = frozenset()
    """Segments whose cable is out from the start."""
    saved: Path | None = None
    """A saved machine state to go on from, instead of booting."""
    before: str = ""
    """What the machine had printed on its console when that state was saved."""
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _console: Console | None = field(default=None, init=False)
    _qmp: Qmp | None = field(default=None, init=False)

    @property
    def console(self) -> Console:
        """The serial console of the present run."""
        if self._console is None:
            raise RuntimeError("the machine was never started")
        return self._console

    @property
    def qmp(self) -> Qmp:
        """The control socket of the present run."""
        if self._qmp is None:
            raise RuntimeError("the machine is not running")
        return self._qmp

    @property
    def running(self) -> bool:
        """Whether QEMU is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def journal_file(self) -> Path:
        """Where the journal is written to, one JSON object a line, as it comes."""
        return self.folder / "journal.json"

    @property
    def control_socket(self) -> Path:
        """The socket of the lab's own root process in the machine."""
        return self.folder / "control.sock"

    def start(self) -> None:
        """Start QEMU; if there is a saved state, go on from it (once; the next start boots)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # A socket's path may have 107 characters; the process works in its folder and uses short names.
        for leftover in ("qmp.sock", "console.sock", "control.sock"):
            (self.folder / leftover).unlink(missing_ok=True)
        command = tools.command("qemu-system-x86_64", *self._arguments())
        with (self.folder / "qemu.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, env=tools.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self._qmp = Qmp.connect(self.folder / "qmp.sock", self._process)
        except (TimeoutError, ConnectionError):
            self.kill()
            log_text = (self.folder / "qemu.log").read_text(errors="replace")
            raise RuntimeError(f"QEMU did not start:\n{log_text}") from None
        self._console = Console(self.folder / "console.sock", self.before)
        for segment in self.unplugged:
            self.plug(segment, connected=False)
        if self.saved is not None:
            self.qmp.execute("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
            self.qmp.execute("migrate-incoming", uri=f"file:{self.saved}")
            self._wait_migration("completed")
        self.qmp.execute("cont")
        self.saved, self.before = None, ""

    def _arguments(self) -> list[str]:
        accelerator = acceleration.choose()
        code = tools.path("usr/share/OVMF/OVMF_CODE_4M.fd")
        arguments = [
            "-nodefaults", "-no-user-config", "-display", "none", "-S",
            "-L", str(tools.path("usr/share/qemu")), "-L", str(tools.path("usr/share/seabios")),
            "-machine", "q35,smm=off", "-accel", accelerator, "-cpu", "max", "-smp", "2", "-m", MEMORY,
            "-device", "VGA", "-device", "virtio-rng-pci",
            "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={code}",
            "-drive", f"if=pflash,unit=1,format=qcow2,file={self.disks.variables}",
            "-drive", f"if=none,id=disk,format=qcow2,discard=unmap,file={self.disks.disk}",
            "-device", "virtio-blk-pci,drive=disk,bootindex=1",
            "-qmp", "unix:qmp.sock,server=on,wait=off",
            "-chardev", "socket,id=console,path=console.sock,server=on,wait=off,logfile=console.log,logappend=on",
            "-serial", "chardev:console",
            "-device", "virtio-serial-pci",
            "-chardev", f"file,id=journal,path={self.journal_file.name},append=on",
            "-device", f"virtserialport,chardev=journal,name={JOURNAL_PORT}",
            "-chardev", "socket,id=control,path=control.sock,server=on,wait=off",
            "-device", f"virtserialport,chardev=control,name={CONTROL_PORT}",
        ]  # fmt: skip
        for number, (segment, tap) in enumerate(zip(SEGMENTS, self.taps, strict=True)):
            arguments += [
                "-netdev", f"tap,id={segment.name},ifname={tap},script=no,downscript=no",
                "-device", f"{_card(segment)},romfile=,addr={0x10 + number:#x}",
                # What passes each card, in the format of tcpdump.
                "-object", f"filter-dump,id=dump-{segment.name},netdev={segment.name},file={segment.name}.pcap",
            ]  # fmt: skip
        for number, string in enumerate(self.strings):
            path = self.folder / f"smbios-{number}"
            path.write_text(string, encoding="utf-8")
            arguments += ["-smbios", f"type=11,path={path.name}"]
        if self.saved is not None:
            arguments += ["-incoming", "defer"]
        return arguments

    def plug(self, segment: str, *, connected: bool) -> None:
        """Put the cable of the card on `segment` in, or pull it out."""
        self.qmp.execute("set_link", name=f"nic-{segment}", up=connected)

    def save(self, path: Path) -> None:
        """Stop the machine, write its state to `path` and end QEMU; the disks are then the state's disks."""
        self.qmp.execute("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
        self.qmp.execute("stop")
        self.qmp.execute("migrate", uri=f"file:{path}")
        self._wait_migration("completed")
        self.qmp.execute("quit")
        self._ended()

    def _wait_migration(self, wanted: str) -> None:
        while True:
            status = self.qmp.wait_event("MIGRATION", 60)["status"]
            if status == "failed":
                reason = self.qmp.execute("query-migrate").get("error-desc", "see qemu.log")
                raise RuntimeError(f"QEMU could not save or restore the machine: {reason}")
            if status == wanted:
                return

    def screenshot(self, path: Path) -> None:
        """Write what the screen shows to `path`, as PNG."""
        self.qmp.execute("screendump", filename=str(path), format="png")

    def wait_end(self, seconds: float | None = None) -> None:
        """Wait until the machine has switched itself off; TimeoutError if it does not within `seconds`."""
        if self._process is not None:
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                raise TimeoutError(f"the machine was still on after {seconds:g} s") from None
        self._ended()

    def kill(self) -> None:
        """A power cut: QEMU ends at once, with whatever the guest had not written lost."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        self._ended()

    def _ended(self) -> None:
        if self._process is not None:
            self._process.wait()
        with contextlib.suppress(OSError):
            if self._qmp is not None:
                self._qmp.close()
        if self._console is not None:
            self._console.close()
        self._process = self._qmp = None
