# SPDX-License-Identifier: GPL-2.0-or-later
"""A Ruleset as text for nftables."""

from agent.dataplane.ruleset import Ruleset


def script(ruleset: Ruleset) -> str:
    """A script for `nft -f` that makes the kernel hold exactly this ruleset, whatever `table inet sluice` held before."""
    raise NotImplementedError
