# SPDX-License-Identifier: GPL-2.0-or-later
"""Real connections, a program: `sockets.py serve PORT` or `sockets.py connect ADDRESS PORT`.

The client opens as many connections as a line of its input says, one after another: a request, an answer, the close.
"""

import socket
import sys


def serve(port: int) -> None:
    with socket.create_server(("", port), backlog=1024) as listener:
        print("ready", flush=True)
        while True:
            connection, _ = listener.accept()
            connection.send(connection.recv(100))
            connection.recv(100)
            connection.close()


def connect(address: str, port: int) -> None:
    for line in sys.stdin:
        for _ in range(int(line)):
            with socket.socket() as connection:
                connection.connect((address, port))
                connection.send(b"sluice")
                if connection.recv(100) != b"sluice":
                    raise ConnectionError("no answer")
        print("done", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        connect(sys.argv[2], int(sys.argv[3]))
