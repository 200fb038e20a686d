# SPDX-License-Identifier: GPL-2.0-or-later
"""The appliance's edges: links, virtual addresses, networkd, host name, identity, credentials, facts.

Each module stands alone; import the one that is needed (some load slowly, `identity` must not).
"""
