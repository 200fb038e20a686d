# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs in the appliance, as root, when the lab asked for it at boot: does what the tests say, one request a line.

A request is {"argv": [...], "input": text}; the answer {"code": exit status, "out": text, "err": text}. The line is a
virtio serial port, so that it works without any network. Nothing of this is in the image: it comes as a credential.
"""

import json
import subprocess
import time
from pathlib import Path

PORT = Path("/dev/virtio-ports/sluice.lab.control")


def answer(line: bytes) -> bytes:
    request = json.loads(line)
    try:
        done = subprocess.run(
            request["argv"], input=request.get("input", ""), capture_output=True, check=False, text=True
        )
        result = {"code": done.returncode, "out": done.stdout, "err": done.stderr}
    except OSError as error:
        result = {"code": 127, "out": "", "err": str(error)}
    return json.dumps(result).encode() + b"\n"


def main() -> None:
    with PORT.open("r+b", buffering=0) as port:
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


main()
