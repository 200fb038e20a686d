# SPDX-License-Identifier: GPL-2.0-or-later
"""From the results of a run to docs/benchmarks.md, its plots and build/bench.json."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.bench.plots import bars, lines
from lab.bench.rows import PEERS, PLAIN, WORDS, Figures, Result

_PAGE = Path(__file__).with_name("page.md")


_TARGETS = """\
## What is to be reached

{met} of {all} limits are met. Less is better in every row. "Won by" names every peer that did better than Sluice; plain
routing and plain connection tracking are no peers, they do not balance.

| figure | measured | limit | met | won by |
|---|---|---|---|---|
"""


_INGRESS = (
    ("the flow is looked for: first in what was seen of late, or at once in all", "sluice {0}", "{0} less search"),
    ("the flow is remembered, with a timeout", "sluice {0}", "{0} less memory"),
    ("new flows are counted", "sluice {0}", "{0} less counter"),
)

PARTS = {
    "sluice dnat": (
        ("routing", "routing", None),
        ("connection tracking", "conntrack", "routing"),
        ("translation by one rule of nftables, round robin", "plain dnat", "conntrack"),
        ("accounting of connections", "sluice dnat, offload off", "less accounting"),
        (
            "chain `source`: clients beside the backends, the appliance itself",
            "sluice dnat, offload off",
            "less source",
        ),
        ("chain `forward`: the policy", "sluice dnat, offload off", "less forward"),
        ("offload", "sluice dnat", "sluice dnat, offload off"),
        ("the rest: farm, picker, bucket, the backend's address, its counter", None, None),
    ),
    "sluice stateless": (
        ("rewriting and forwarding by one rule of nftables, round robin", "plain stateless", None),
        *((words, having.format("stateless"), lacking.format("stateless")) for words, having, lacking in _INGRESS),
        ("the rest: farm, picker, bucket, the backend's address, hop and counters, the egress hook", None, None),
    ),
    "sluice direct": (
        ("forwarding by one rule of nftables, round robin", "plain direct", None),
        *((words, having.format("direct"), lacking.format("direct")) for words, having, lacking in _INGRESS),
        ("the rest: farm, picker, bucket, the backend's hop and counters", None, None),
    ),
}
"""What Sluice's figures are made of: in words, who has the part, and who is alike without it; of the rest, nobody."""


def figure(value: float | None, unit: str) -> str:
    """A figure with as many digits as mean something, and its unit."""
    if value is None:
        return "not measured"
    if unit == "instructions":
        return f"{value:,.0f}".replace(",", " ")
    digits = 0 if value == int(value) or value >= 100 else 2
    return f"{value:,.{digits}f} {unit}".replace(",", " ").replace(" times", " ×")


def targets(results: Sequence[Result]) -> str:
    """The table of what is to be reached, in Markdown."""
    rows = []
    for result in results:
        limit = "" if result.limit is None else figure(result.limit, result.unit.split("of")[0]).strip()
        if result.rule and result.unit == "instructions":
            limit += f" ({result.rule})"
        met = {True: "yes", False: "**no**", None: ""}[result.met]
        won = [f"{name} {figure((result.peers or {})[name], result.unit)}" for name in result.winners()]
        rows.append(f"| {result.name} | {figure(result.measured, result.unit)} | {limit} | {met} | {', '.join(won)} |")
    limited = [result for result in results if result.limit is not None]
    head = _TARGETS.format(met=sum(bool(result.met) for result in limited), all=len(limited))
    return head + "\n".join(rows) + "\n"


def _balancers(figures: Figures) -> str:
    """All that was counted with one service."""
    names = sorted(
        {name for name, services in figures.counted if services == 1 and name in (*PLAIN, *PEERS, *_ours(figures))},
        key=_order,
    )
    rows = ["| balancer | established packet | new flow | short TCP connection | load |", "|---|---|---|---|---|"]
    for name in names:
        load = figures.get(name, "load") or 0
        cells = [*(figures.get(name, kind) for kind in WORDS), load / 1e6]
        rows.append(
            f"| {name} | " + " | ".join("-" if each is None else figure(each, "instructions") for each in cells) + " |"
        )
    return "\n".join(rows) + "\n"


def _parts(figures: Figures, whole: str) -> str:
    """What one of Sluice's ways is made of: differences between those that have a part and those that have it not."""

    def cost(kind: str, having: str, lacking: str | None) -> float | None:
        # Without its memory a flow has no established packets.
        if kind == "packet" and lacking and " less " in lacking:
            return None
        one, other = figures.get(having, kind), figures.get(lacking, kind) if lacking else 0.0
        return None if one is None or other is None else one - other

    rows = [f"### {whole.removeprefix('sluice ')}", "", "| part | new flow | established packet |", "|---|---|---|"]
    known: dict[str, float] = defaultdict(float)
    for words, having, lacking in PARTS[whole]:
        cells = []
        for kind in ("flow", "packet"):
            value = cost(kind, having, lacking) if having else (figures.get(whole, kind) or 0.0) - known[kind]
            known[kind] += value or 0.0
            cells.append("-" if value is None else figure(value, "instructions"))
        rows.append(f"| {words} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _order(name: str) -> tuple[int, str]:
    return (0 if name in PLAIN else 1 if name.startswith("sluice") else 2, name)


def curves(figures: Figures, kind: str) -> dict[str, dict[int, float]]:
    """A figure by number of services, of those who were measured with more than one."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for name, services in figures.counted:
        value = figures.get(name, kind, services)
        if value is not None:
            found[name][services] = value
    return {name: dict(sorted(curve.items())) for name, curve in found.items() if len(curve) > 1}


def _many(figures: Figures) -> str:
    found = curves(figures, "flow")
    numbers = sorted({number for curve in found.values() for number in curve})
    rows = [
        "| new flow at so many services | " + " | ".join(map(str, numbers)) + " |",
        "|---" * (len(numbers) + 1) + "|",
    ]
    for name, curve in sorted(found.items()):
        cells = [figure(curve[number], "instructions") if number in curve else "" for number in numbers]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    rows += ["", "| load of so many services, million instructions | " + " | ".join(map(str, numbers)) + " |"]
    rows.append("|---" * (len(numbers) + 1) + "|")
    for name in sorted(found):
        loads = [figures.get(name, "load", number) for number in numbers]
        rows.append(
            f"| {name} | "
            + " | ".join("" if each is None else f"{each / 1e6:,.0f}".replace(",", " ") for each in loads)
            + " |"
        )
    return "\n".join(rows) + "\n"


def write(
    places: tuple[Path, Path], figures: Figures, results: Sequence[Result], setting: str, numbers: Mapping[str, int]
) -> None:
    """Write the page and its plots into the first of `places`, docs/, and bench.json into the second, build/.

    `setting`: what was measured, in a sentence. `numbers`: how often, by the names that the page has for them.
    """
    docs, build = places
    images = docs / "images"
    plots = []
    for kind, words in WORDS.items():
        names = (*PLAIN, *PEERS, *_ours(figures))
        shown = {name: value for name in names if (value := figures.get(name, kind)) is not None}
        (images / f"bench-{kind}.svg").write_text(bars(f"Instructions per {words}", shown), encoding="utf-8")
        plots.append(f"\n![Instructions per {words}](images/bench-{kind}.svg)\n")
    many = lines("Instructions per new flow", curves(figures, "flow"), "services of ten backends")
    (images / "bench-services.svg").write_text(many, encoding="utf-8")
    page = _PAGE.read_text(encoding="utf-8").format(
        setting=setting, targets=targets(results), balancers=_balancers(figures) + "".join(plots),
        parts="\n".join(_parts(figures, whole) for whole in PARTS), many=_many(figures), **numbers,
    )  # fmt: skip
    (docs / "benchmarks.md").write_text(page, encoding="utf-8")
    rows = [result.object() for result in results]
    (build / "bench.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _ours(figures: Figures) -> list[str]:
    return sorted({name for name, _ in figures.counted if name.startswith("sluice") and "(" not in name})
