# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent as a service: controller and API in one event loop, under systemd's eyes."""

import asyncio
import logging
import os
import signal
import socket
import sys
from pathlib import Path

from agent.api.app import Listener, create_app
from agent.api.listening import NoSocket, listening_socket
from agent.controller import Controller
from agent.snapshots import StoreBusy
from agent.system import notify

DEFAULT_SOCKET = Path("/run/sluice-api/agent.sock")

log = logging.getLogger(__name__)

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


class _JournalFormatter(logging.Formatter):
    """Puts the priority in front of each line, as sd-daemon(3) says."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's lines, each with its priority."""
        priority = next((number for level, number in _PRIORITIES if record.levelno >= level), 7)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines() or [""])


def serve() -> int:
    """Run the agent until SIGTERM or SIGINT; the result is the exit status."""
    _log_to_stderr()
    path = Path(os.environ.get("SLUICE_SOCKET") or DEFAULT_SOCKET)
    try:
        listening = listening_socket(path)
    except NoSocket as error:
        log.error("%s", error)  # noqa: TRY400  the words say all; the trace would not help
        return 1
    with listening:
        try:
            asyncio.run(_serve(listening))
        except StoreBusy as error:
            log.error("%s", error)  # noqa: TRY400  as above
            return 1
    return 0


async def _serve(listening: socket.socket) -> None:
    """Serve until the process is told to stop.

    The API listens first, so that callers are told that the appliance starts, and is closed first, so that nobody
    gets half an answer. What the kernel holds stays: traffic does not need the agent.
    """
    stop, started = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    controller = Controller.from_environment()
    listener = Listener(create_app(controller, ready=started.is_set), listening)
    watchdog = asyncio.create_task(_watchdog(), name="watchdog")
    try:
        await listener.open()
        await controller.start()
        started.set()
        notify.ready("Serving")
        log.info("The agent serves")
        await stop.wait()
        notify.stopping()
    finally:
        await listener.close()
        await controller.stop()
        watchdog.cancel()
        await asyncio.gather(watchdog, return_exceptions=True)
        controller.store.close()
        controller.access.close()
    log.info("The agent has stopped")


async def _watchdog() -> None:
    """Tell systemd that the event loop turns; when it does not, systemd starts the agent anew."""
    interval = notify.watchdog_interval()
    while interval is not None:
        notify.alive()
        await asyncio.sleep(interval)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    if "JOURNAL_STREAM" in os.environ:
        handler.setFormatter(_JournalFormatter("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
