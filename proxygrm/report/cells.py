"""The cells of an ablation as a drawing: figures with their intervals over a setting, or cell by cell.

One SVG file that follows light and dark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from proxygrm.report.charts import short

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 320, 52, 16, 34, 40
"""Of a drawing of curves, in user units."""
ROW, MORE, NAMES, AXIS = 20, 8, 270, 26
"""Height of a cell's line, and more of it for each further figure; width of its name; height of the axis below."""
COLOURS = ("#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed", "#64748b")
_STYLE = (
    "<style>text{font:12px system-ui,sans-serif;fill:#1f2937}.grid{stroke:#d1d5db}"
    "@media(prefers-color-scheme:dark){text{fill:#e5e7eb}.grid{stroke:#4b5563}}</style>"
)


@dataclass(frozen=True)
class Point:
    """A figure of a cell."""

    name: str
    """Of the cell."""
    value: float
    low: float
    high: float
    x: float | None = None
    """The value of the setting on the axis."""


def draw_curves(title: str, axis: str, curves: Mapping[str, Sequence[Point]]) -> str:
    """Figures over a setting: a curve with whiskers for each name."""
    points = [point for curve in curves.values() for point in curve]
    low, high = _range(points)
    xs = sorted({float(point.x or 0) for point in points})
    span = xs[-1] - xs[0] or 1.0

    def x(value: float) -> float:
        return LEFT + 8 + (WIDTH - LEFT - RIGHT - 16) * (value - xs[0]) / span

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    parts = [open_svg(WIDTH, HEIGHT, title)]
    for value in (low, (low + high) / 2, high):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(text(LEFT - 6, y(value) + 4, f"{100 * value:.0f} %", "end"))
    parts += [text(x(value), HEIGHT - BOTTOM + 16, short(value), "middle") for value in xs]
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, axis, "middle"))
    for at, (name, curve) in enumerate(curves.items()):
        colour, shift = COLOURS[at % len(COLOURS)], 4 * (at - (len(curves) - 1) / 2)  # whiskers beside each other
        marks = [(x(float(point.x or 0)) + shift, point) for point in sorted(curve, key=lambda point: point.x or 0)]
        line = " ".join(f"{px:.1f},{y(point.value):.1f}" for px, point in marks)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{line}"/>')
        for px, point in marks:
            parts.append(_whisker(px, y(point.low), px, y(point.high), colour))
            parts.append(_dot(px, y(point.value), colour, point))
        parts.append(f'<rect x="{LEFT + 120 * at}" y="12" width="10" height="10" fill="{colour}"/>')
        parts.append(text(LEFT + 120 * at + 14, 21, name))
    return "".join([*parts, "</svg>\n"])


def draw_cells(title: str, figures: Mapping[str, Sequence[Point]]) -> str:
    """Cell by cell: a mark with whiskers for each figure, all on one axis."""
    names = list(dict.fromkeys(point.name for points in figures.values() for point in points))
    low, high = _range([point for points in figures.values() for point in points])
    several, row = len(figures), ROW + MORE * (len(figures) - 1)
    height = TOP + row * len(names) + AXIS

    def x(value: float) -> float:
        return NAMES + (WIDTH - NAMES - RIGHT - 12) * (value - low) / (high - low)

    parts = [open_svg(WIDTH, height, title)]
    for value in (low, (low + high) / 2, high):
        parts.append(f'<line class="grid" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{TOP}" y2="{height - AXIS}"/>')
        parts.append(text(x(value), height - 8, f"{100 * value:.0f} %", "middle"))
    parts += [text(NAMES - 8, TOP + row * at + row / 2 + 4, name, "end") for at, name in enumerate(names)]
    for at, (figure, points) in enumerate(figures.items()):
        colour, shift = COLOURS[at % len(COLOURS)], row * (at + 1) / (several + 1)
        for point in points:
            y = TOP + row * names.index(point.name) + shift
            parts.append(_whisker(x(point.low), y, x(point.high), y, colour))
            parts.append(_dot(x(point.value), y, colour, point))
        parts.append(f'<rect x="{8 + 150 * at}" y="12" width="10" height="10" fill="{colour}"/>')
        parts.append(text(8 + 150 * at + 14, 21, figure))
    return "".join([*parts, "</svg>\n"])


def _range(points: Sequence[Point]) -> tuple[float, float]:
    """Of the axis: whole tenths around all whiskers."""
    low, high = min(point.low for point in points), max(point.high for point in points)
    bottom, top = int(low * 10 // 1) / 10, -int(-high * 10 // 1) / 10
    return (bottom, top) if top > bottom else (bottom - 0.1, bottom + 0.1)


def open_svg(width: int, height: int, title: str) -> str:
    """The start of a drawing that follows light and dark."""
    label = escape(title, quote=True)
    box = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img" aria-label="{label}">{_STYLE}'


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _whisker(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _dot(x: float, y: float, colour: str, point: Point) -> str:
    title = f"{point.name}: {100 * point.value:.1f} % ({100 * point.low:.1f} to {100 * point.high:.1f})"
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"><title>{escape(title)}</title></circle>'
