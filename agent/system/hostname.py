# SPDX-License-Identifier: GPL-2.0-or-later
"""The host name, set through systemd-hostnamed: the agent may ask it (polkit), and needs no privilege of its own."""

import socket

from agent.system.command import run


def get() -> str:
    """The host name as the kernel has it."""
    return socket.gethostname()


async def ensure(name: str) -> bool:
    """Make `name` the host name. Says whether it had to be changed; raises CommandFailed.

    The static name goes along, because the transient one does not count while there is another static one. `/etc` is
    volatile on the appliance: the document is what remembers.
    """
    if get() == name:
        return False
    await run(["hostnamectl", "--no-ask-password", "--static", "--transient", "hostname", name])
    return True
