# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line `sluice`, and the console on the appliance's screen and serial port (docs/cli.md)."""

from agent.cli.main import main

__all__ = ["main"]
