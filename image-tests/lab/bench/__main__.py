# SPDX-License-Identifier: GPL-2.0-or-later
"""`make bench`: `python -m lab.bench [--report | BALANCER...]`.

With names only these are counted, and
nothing is written.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence

from lab.bench import control, machine, packages, report
from lab.bench.inside import dataplane
from lab.bench.inside.network import FLOWS
from lab.bench.rows import WORDS, Figures, results
from lab.build import image_version
from lab.guest import kernel_release
from lab.host import BUILD, PROJECT, HostError, say

KINDS = (*WORDS, "load")
KEPT = BUILD / "bench-figures.json"


def counted(names: Sequence[str]) -> dict[tuple[str, int], dict[str, float]]:
    """Count in the guest; every row is told as it comes."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    for row in machine.run("dataplane", *names):
        figures: dict[str, float] = {kind: row[kind] for kind in KINDS if kind in row}
        told = ", ".join(f"{kind} {value:,.0f}" for kind, value in figures.items())
        services = row.get("services", 0)
        say(f"{row['name']}, {services} services: {told}")
        if services:
            found[row["name"], services] = figures
    return found


def native() -> dict[str, tuple[float, str]]:
    """Measure the control plane on this machine's kernel, each part in a process and a network namespace of its own."""
    prefix = [] if os.geteuid() == 0 else ["sudo", "--preserve-env=PYTHONPATH"]
    found = {}
    for part in control.PARTS:
        command = [*prefix, "unshare", "--net", sys.executable, "-m", "lab.bench.control", part]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT) as process:
            assert process.stdout
            for line in process.stdout:
                row = json.loads(line)
                say(f"{row['name']}: {report.figure(row['measured'], row['unit'])}")
                found[row["name"]] = (row["measured"], row["unit"])
        if process.returncode:
            raise HostError(f"{' '.join(command)} failed")
    return found


def setting() -> str:
    """What is measured, in a sentence or two."""
    versions = packages.versions()
    peers = ", ".join(f"{name} {versions[name]}" for name in ("ipvsadm", "iptables", "nftlb", "haproxy"))
    return (
        f"This run: Sluice {image_version()}, Linux {kernel_release()} of the image, {peers} of Debian; the control "
        f"plane on Linux {os.uname().release.split('-')[0]}, {os.cpu_count()} processors, at a load of "
        f"{os.getloadavg()[0]:.1f} when it began."
    )


def keep(figures: Figures, words: str) -> None:
    """Keep what was measured, to write the page anew."""
    counted_rows = [{"name": name, "services": number, **row} for (name, number), row in figures.counted.items()]
    kept = {"setting": words, "counted": counted_rows, "native": figures.native}
    KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def kept() -> tuple[Figures, str]:
    """What the last run measured, and its setting."""
    found = json.loads(KEPT.read_text(encoding="utf-8"))
    rows = {(row.pop("name"), row.pop("services")): row for row in found["counted"]}
    return Figures(rows, {name: (value, unit) for name, (value, unit) in found["native"].items()}), found["setting"]


def write() -> None:
    """Print the table of the last run, and write the page."""
    figures, words = kept()
    found = results(figures)
    print("\n" + report.targets(found))
    numbers = {
        "rounds": dataplane.ROUNDS,
        "sends": dataplane.TRIES,
        "flows": FLOWS,
        "new": dataplane.NEW_FLOWS,
        "tries": control.TRIES,
    }
    report.write((PROJECT / "docs", BUILD), figures, found, words, numbers)
    say("docs/benchmarks.md and build/bench.json are written")


def main() -> int:
    """Measure, print, write."""
    names = sys.argv[1:]
    try:
        if not names:
            words = setting()
            keep(Figures(counted(()), native()), words)
        if names in ([], ["--report"]):
            write()
        else:
            print("\n" + report.targets(results(Figures(counted(names), {}))))
    except (HostError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
