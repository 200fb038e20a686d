# SPDX-License-Identifier: GPL-2.0-or-later
"""Unix sockets at paths of any length."""

import os
import socket
from pathlib import Path


def connect(path: Path) -> socket.socket:
    """A stream connection to the socket at `path`; raises what socket.connect raises.

    A socket's address holds 107 characters (unix(7)), and a checkout may lie deep: the folder is opened, and the
    socket named through the descriptor.
    """
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(f"/proc/self/fd/{folder}/{path.name}")
    except OSError:
        connection.close()
        raise
    finally:
        os.close(folder)
    return connection
