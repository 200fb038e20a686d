# SPDX-License-Identifier: GPL-2.0-or-later
"""Journal entries of priority err and worse that every box may write, each with the reason why that is no fault."""

from lab.journal import Expected

EXPECTED: tuple[Expected, ...] = ()
