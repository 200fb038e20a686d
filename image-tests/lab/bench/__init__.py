# SPDX-License-Identifier: GPL-2.0-or-later
"""`make bench`: what the data plane costs beside its peers, in one run (docs/benchmarks.md)."""
