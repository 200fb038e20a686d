# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent: the one process that changes the network (docs/architecture.md has the map)."""
