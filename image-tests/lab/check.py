# SPDX-License-Identifier: GPL-2.0-or-later
"""`make check`: everything that can be told without root, a guest or an image, in well under two minutes."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from lab import tools
from lab.build import tools_tree
from lab.host import PROJECT

SANDBOX_LIMIT = 20
"""The worst exposure that a unit of ours may have, in tenths (systemd-analyze security)."""

_BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Outcome:
    """How a check ended: its output matters when it failed."""

    name: str
    passed: bool
    seconds: float
    output: str


def _run(name: str, argv: list[str]) -> Outcome:
    began = time.monotonic()
    done = subprocess.run(
        argv, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False,
    )  # fmt: skip
    return Outcome(name, done.returncode == 0, time.monotonic() - began, done.stdout)


def _tool(name: str, *arguments: str) -> Callable[[], Outcome]:
    return lambda: _run(name, [str(_BIN / name), *arguments])


def _sandboxes() -> Outcome:
    """Every service of the product is shut in at least as well as SANDBOX_LIMIT says."""
    units = sorted((PROJECT / "mkosi.extra/usr/lib/systemd/system").glob("sluice-*.service"))
    arguments = ["security", "--no-pager", "--offline=true", f"--threshold={SANDBOX_LIMIT}", *map(str, units)]
    if tools_tree().exists():
        argv = tools.command("systemd-analyze", *arguments)
    elif shutil.which("systemd-analyze"):
        argv = ["systemd-analyze", *arguments]
    else:
        return Outcome("sandboxes", False, 0.0, "neither the host nor a tools tree has systemd-analyze\n")
    outcome = _run("sandboxes", argv)
    # A line of verdict per service; the table of every setting is a command away.
    verdicts = [line for line in outcome.output.splitlines() if not line.startswith(("✓", "✗", "  ")) and line]
    return replace(outcome, output="\n".join(verdicts))


# The slow ones first: two at a time keep two cores busy.
CHECKS: tuple[Callable[[], Outcome], ...] = (
    lambda: _run("unit tests", [str(_BIN / "pytest"), "-q", "-m", "not kernel", "agent/tests", "webui/tests"]),
    _tool("mypy"),
    _tool("vulture"),
    _tool("lint-imports"),
    _tool("ruff", "check"),
    _tool("ruff", "format", "--check"),
    _tool("codespell"),
    _sandboxes,
)


def main() -> int:
    """Run all checks; 0 when all passed."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        outcomes = []
        for future in [pool.submit(check) for check in CHECKS]:
            outcome = future.result()
            outcomes.append(outcome)
            if not outcome.passed:
                print(f"\n{outcome.output.rstrip()}\n")
            print(f"{'ok    ' if outcome.passed else 'FAILED'} {outcome.seconds:6.1f} s  {outcome.name}", flush=True)
            if outcome.passed and outcome.name == "unit tests":
                print(outcome.output.rstrip().splitlines()[-1])
    failed = [outcome.name for outcome in outcomes if not outcome.passed]
    print(f"check failed: {', '.join(failed)}" if failed else "all checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
