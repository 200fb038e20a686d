# SPDX-License-Identifier: GPL-2.0-or-later
"""Sluice's GUI: server-rendered pages over the agent's API. Holds no state but the browsers' signed session cookies."""

from webui.application import create_app

__all__ = ["create_app"]
