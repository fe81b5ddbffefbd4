"""The curves of an ablation's trainings side by side: a line of panels for each cell, a column for each figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from proxygrm.report.cells import COLOURS, open_svg, text
from proxygrm.report.charts import nice, series, short
from proxygrm.report.tables.training import Metrics

NAMES, PANEL, ROW, GAP, TOP, BOTTOM = 300, 210, 70, 48, 48, 24
"""In user units: the names' width, a panel's width and height, the space around a panel, above and below all."""
Curve = list[tuple[float, float]]


def draw_trainings(title: str, kinds: Mapping[str, Sequence[Metrics]], figures: Mapping[str, str]) -> str:
    """An SVG with the same axes for all panels of a column. kinds: the trainings of each, such as seeds, by name, each
    with a curve; figures: title -> name in the metrics. "" without any value."""
    curves = {
        (kind, figure): [series([dict(row) for row in rows], name) for rows in trainings]
        for kind, trainings in kinds.items()
        for figure, name in figures.items()
    }
    points = {figure: [p for kind in kinds for curve in curves[kind, figure] for p in curve] for figure in figures}
    drawn = [figure for figure in figures if points[figure]]
    if not drawn:
        return ""
    height = TOP + (ROW + GAP // 3) * len(kinds) + BOTTOM
    parts = [open_svg(NAMES + (PANEL + GAP) * len(drawn) + GAP // 2, height, title)]
    for at in range(max(map(len, kinds.values()))):
        parts.append(f'<rect x="{8 + 90 * at}" y="12" width="10" height="10" fill="{COLOURS[at % len(COLOURS)]}"/>')
        parts.append(text(8 + 90 * at + 14, 21, f"training {at + 1}"))
    parts += [text(NAMES + GAP + (PANEL + GAP) * at, TOP - 10, figure) for at, figure in enumerate(drawn)]
    for row, kind in enumerate(kinds):
        top = TOP + (ROW + GAP // 3) * row
        parts.append(text(8, top + ROW / 2 + 4, kind))
        for column, figure in enumerate(drawn):
            left = NAMES + GAP + (PANEL + GAP) * column
            parts += _panel(left, top, curves[kind, figure], points[figure])
    return "".join([*parts, "</svg>\n"])


def _panel(left: float, top: float, curves: Sequence[Curve], column: Curve) -> list[str]:
    """column: the points of all panels that share the axes."""
    low, high = nice(min(value for _, value in column), max(value for _, value in column))
    first, last = min(step for step, _ in column), max(step for step, _ in column)
    parts = []
    for value in (low, high):
        y = top + ROW * (high - value) / (high - low)
        parts.append(f'<line class="grid" x1="{left}" x2="{left + PANEL}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(text(left - 4, y + 4, short(value), "end"))
    for at, curve in enumerate(curves):
        marks = [
            (
                left + PANEL * ((step - first) / (last - first) if last > first else 0.5),
                top + ROW * (high - value) / (high - low),
                f"step {short(step)}: {value:.4g}",
            )
            for step, value in curve
        ]
        colour, line = COLOURS[at % len(COLOURS)], " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in marks)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{line}"/>')
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{colour}"><title>{escape(label)}</title></circle>'
            for x, y, label in marks
        ]
    return parts
