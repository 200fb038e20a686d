# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs in the appliance, as root, because the lab's credentials asked for it: sends the journal, does what tests say.

A request is a line {"argv": [...], "input": text}; the answer {"code": exit status, "out": text, "err": text}. The
lines go over a virtio serial port, so that it works without any network. Nothing of this is in the image.
"""

import contextlib
import json
import subprocess
import threading
import time
from pathlib import Path

PORTS = Path("/dev/virtio-ports")
FLUSHED = Path("/run/systemd/journal/flushed")
JOURNAL = ["journalctl", "--follow", "--no-tail", "--boot", "--output=json"]


def wait_for(path: Path, seconds: float = float("inf")) -> None:
    end = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.2)  # it may appear in sysfs, which has no events for that


def send_journal() -> None:
    port = PORTS / "sluice.lab.journal"
    wait_for(port)
    # journalctl does not follow the journal when it moves from memory to disk. Without a disk it stays.
    wait_for(FLUSHED, 120)
    with port.open("wb", buffering=0) as output:
        while True:
            subprocess.run(JOURNAL, stdout=output, stderr=subprocess.DEVNULL, check=False)


def answer(line: bytes) -> bytes:
    request = json.loads(line)
    try:
        done = subprocess.run(request["argv"], input=request["input"], capture_output=True, check=False, text=True)
        result = {"code": done.returncode, "out": done.stdout, "err": done.stderr}
    except (OSError, ValueError) as error:
        result = {"code": 127, "out": "", "err": str(error)}
    return json.dumps(result).encode() + b"\n"


def obey() -> None:
    path = PORTS / "sluice.lab.control"
    wait_for(path)
    with path.open("r+b", buffering=0) as port:
        pending = b""
        while True:
            data = port.read(65536)
            if not data:
                # The port reads as ended while nobody is connected at the other side, and has no event for it.
                time.sleep(0.1)
                continue
            pending += data
            while b"\n" in pending:
                line, _, pending = pending.partition(b"\n")
                reply = answer(line)
                while reply:
                    reply = reply[port.write(reply) :]


threading.Thread(target=send_journal, daemon=True).start()
with contextlib.suppress(KeyboardInterrupt):
    obey()
