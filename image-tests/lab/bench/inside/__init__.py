# SPDX-License-Identifier: GPL-2.0-or-later
"""What runs in the guest of the benchmark: Python and the image's own libraries only."""
