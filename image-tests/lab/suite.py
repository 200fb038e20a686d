# SPDX-License-Identifier: GPL-2.0-or-later
"""`make test`: checks, image, network tests and examples in the kernel that ships, image tests; how long each took."""

import subprocess
import sys
import time

from lab.host import PROJECT, say

STAGES: tuple[tuple[str, list[str]], ...] = (
    ("checks", ["-m", "lab.check"]),
    ("image", ["-m", "lab.build"]),
    ("network tests", ["-m", "lab.guest"]),
    ("examples", ["-m", "lab.bench.examples"]),
    ("image tests", ["-m", "lab.enter", sys.executable, "-m", "pytest", "image-tests"]),
)


def main() -> int:
    """Run the stages in turn, all of them unless one that others need fails; 0 when all passed."""
    results = []
    for name, arguments in STAGES:
        say(name)
        began = time.monotonic()
        status = subprocess.run([sys.executable, *arguments], cwd=PROJECT, check=False).returncode
        results.append((name, status, time.monotonic() - began))
        if status and name == "image":
            break
    print()
    for name, status, seconds in results:
        print(f"{'passed' if status == 0 else 'FAILED'}  {seconds // 60:3.0f} min {seconds % 60:2.0f} s  {name}")
    return 1 if any(status for _, status, _ in results) else 0


if __name__ == "__main__":
    sys.exit(main())
