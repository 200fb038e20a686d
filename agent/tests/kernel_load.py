# SPDX-License-Identifier: GPL-2.0-or-later
"""Clients that open connections one after another, a program: ADDRESS PORT CLIENTS; ends when its input does.

Says "going" after the first connection, and at its end how many were served and what failed, as JSON.
"""

import asyncio
import json
import socket
import struct
import sys

PATIENCE = 20.0
PACE = 0.005
"""Seconds from one connection of a client to its next, so that those who make changes get their turn, too."""
RESET_AT_CLOSE = struct.pack("ii", 1, 0)
"""Of SO_LINGER: the port is free again at once. Kept for a minute each, a quick machine would run out of them."""


async def main(address: str, port: int, clients: int) -> None:
    stop, failures, served = asyncio.Event(), [], 0

    async def client() -> None:
        nonlocal served
        while not stop.is_set():
            await asyncio.sleep(PACE)
            try:
                async with asyncio.timeout(PATIENCE):
                    reader, writer = await asyncio.open_connection(address, port)
                    line = await reader.readline()
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
                    writer.close()
                    await writer.wait_closed()
                if not line:
                    raise ConnectionError("closed without a word")
            except OSError as error:  # TimeoutError is one, too
                failures.append(repr(error))
            else:
                served += 1
                if served == 1:
                    print("going", flush=True)

    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stop.set)
    await asyncio.gather(*(client() for _ in range(clients)))
    print(json.dumps({"served": served, "failures": failures}), flush=True)


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
