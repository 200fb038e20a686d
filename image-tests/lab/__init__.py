# SPDX-License-Identifier: GPL-2.0-or-later
"""The laboratory: the built appliance in QEMU, with networks, web servers, clients and a browser around it."""
