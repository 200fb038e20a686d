# SPDX-License-Identifier: GPL-2.0-or-later
"""Bars and lines as SVG, by hand: few shapes, readable in light and dark, no library."""

import math
from collections.abc import Mapping, Sequence
from html import escape

_OURS, _THEIRS, _LIMIT = "#2f6fde", "#8a93a0", "#c0392b"
_COLOURS = ("#2f6fde", "#c0392b", "#2e8b57", "#b8860b", "#7d4fb3", "#4a90a4")
_STYLE = "<style>text{font:12px sans-serif;fill:#59636e}.t{font-weight:bold}</style>"


def _frame(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
    return "\n".join(
        [f'{head}role="img" aria-label="{escape(title)}">', _STYLE,
         f'<text class="t" x="8" y="18">{escape(title)}</text>',
         *parts, "</svg>", ""]
    )  # fmt: skip


def bars(title: str, figures: Mapping[str, float], ours: str = "sluice") -> str:
    """A bar for each figure, the shortest on top; those of Sluice stand out."""
    longest = max(figures.values(), default=1)
    parts = []
    for number, (name, figure) in enumerate(sorted(figures.items(), key=lambda item: item[1])):
        top = 30 + number * 22
        colour = _OURS if name.startswith(ours) else _THEIRS
        parts += [
            f'<text x="150" y="{top + 13}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="158" y="{top}" width="{400 * figure / longest:.1f}" height="16" fill="{colour}"/>',
            f'<text x="{164 + 400 * figure / longest:.1f}" y="{top + 13}">{figure:,.0f}</text>',
        ]
    return _frame(660, 40 + 22 * len(figures), title, parts)


def lines(title: str, curves: Mapping[str, Mapping[int, float]], across: str) -> str:
    """A line for each curve, both axes logarithmic."""
    xs = sorted({x for curve in curves.values() for x in curve})
    ys = [y for curve in curves.values() for y in curve.values()]
    if not xs:
        return _frame(660, 40, title, [])
    left, right, top, bottom = 70.0, 480.0, 40.0, 300.0
    low, high = math.floor(math.log10(min(ys)) * 2) / 2, math.ceil(math.log10(max(ys)) * 2) / 2

    def place(x: float, y: float) -> tuple[float, float]:
        across_ = math.log10(x / xs[0]) / (math.log10(xs[-1] / xs[0]) or 1)
        return left + (right - left) * across_, bottom - (bottom - top) * (math.log10(y) - low) / ((high - low) or 1)

    parts = []
    for x in xs:
        at = place(x, 10**low)[0]
        parts += [f'<line x1="{at:.0f}" y1="{top}" x2="{at:.0f}" y2="{bottom}" stroke="#8a93a0" stroke-width="0.4"/>',
                  f'<text x="{at:.0f}" y="318" text-anchor="middle">{x:,}</text>']  # fmt: skip
    for half in range(round(low * 2), round(high * 2) + 1):
        at = place(xs[0], 10 ** (half / 2))[1]
        value = f"{10 ** (half / 2):,.0f}"
        parts += [f'<line x1="{left}" y1="{at:.0f}" x2="{right}" y2="{at:.0f}" stroke="#8a93a0" stroke-width="0.4"/>',
                  f'<text x="{left - 6}" y="{at + 4:.0f}" text-anchor="end">{value}</text>']  # fmt: skip
    parts.append(f'<text x="{(left + right) / 2:.0f}" y="336" text-anchor="middle">{escape(across)}</text>')
    labels: list[float] = []
    for number, (name, curve) in enumerate(sorted(curves.items(), key=lambda item: -max(item[1].values()))):
        colour = _COLOURS[number % len(_COLOURS)]
        points = [place(x, y) for x, y in sorted(curve.items())]
        path = " ".join(f"{x:.0f},{y:.0f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3" fill="{colour}"/>' for x, y in points]
        at = max(points[-1][1] + 4, labels[-1] + 15 if labels else top)
        labels.append(at)
        parts.append(f'<text x="{right + 10:.0f}" y="{at:.0f}" style="fill:{colour}">{escape(name)}</text>')
    return _frame(660, 346, title, parts)
