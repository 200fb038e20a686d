# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the tools of the operating system: argv lists, a time limit, errors in words."""

import asyncio
import os
from collections.abc import Sequence


class CommandFailed(Exception):
    """A tool could not be run, took too long, or said no. The text names it and says why."""


async def run(argv: Sequence[str], *, timeout: float = 20) -> str:  # noqa: ASYNC109 the limit is part of what it does
    """Run a tool and return its output. Raises CommandFailed; after `timeout` seconds the tool is killed."""
    name = argv[0]
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
        )
    except OSError as error:
        raise CommandFailed(f"{name} cannot be run: {(error.strerror or str(error)).lower()}") from None
    try:
        async with asyncio.timeout(timeout):
            out, err = await process.communicate()
    except TimeoutError:
        raise CommandFailed(f"{name} did not finish within {timeout:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        words = err.decode(errors="replace").strip().splitlines()
        raise CommandFailed(f"{name}: {words[-1] if words else f'ended with status {process.returncode}'}")
    return out.decode(errors="replace")
