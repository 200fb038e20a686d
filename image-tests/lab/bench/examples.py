# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs docs/examples/ in a guest, Sluice beside IPVS and iptables: `python -m lab.bench.examples [EXAMPLE...]`."""

import sys

from lab.bench import machine
from lab.host import HostError


def main() -> int:
    """Run them; prints who got how many connections, and how many examples passed. 1 when they are not alike."""
    passed = 0
    try:
        for row in machine.run("examples", *sys.argv[1:], counted=False):
            print(f"{row['example']:20} {row['by']:16} {', then '.join(map(str, row['servers']))}", flush=True)
            passed += 1
    except HostError as error:
        print(f"error: {error}\n{passed} passed, 1 failed", file=sys.stderr)
        return 1
    print(f"{passed} passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
