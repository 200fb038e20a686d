# SPDX-License-Identifier: GPL-2.0-or-later
"""The API: HTTP and JSON over a Unix socket, the one way in for GUI, CLI and programs (docs/api.md)."""
