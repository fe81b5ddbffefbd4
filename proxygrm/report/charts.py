"""Small line charts as inline SVG; colours come from the page, so they follow light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10
from typing import Any

from proxygrm.report.numbers import number

WIDTH, HEIGHT = 320, 150  # user units; the page scales the drawing
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 22
MAX_POINTS = 600
SMOOTH_FROM = 40  # points; with fewer, a running mean hides more than it shows


@dataclass(frozen=True)
class Curve:
    """One chart: the first of `names` that a stage has logged. The axis of a share is 0 to 1."""

    title: str
    names: tuple[str, ...]
    share: bool = False


CURVES = (
    Curve("Loss", ("loss", "train/loss")),
    Curve("Token accuracy", ("token_acc", "train/token_acc"), share=True),
    Curve("Held-out loss", ("eval_loss", "eval/loss")),
    Curve("Validation score", ("validation/score",)),
    Curve("Reward, mean", ("reward/score_mean", "critic/score/mean", "reward/mean")),
    Curve("Right verdicts", ("reward/accuracy",), share=True),
    Curve("Reasoning agrees with answer", ("reward/consistent",), share=True),
    Curve("Proxy agrees with label", ("reward/proxy_agreement",), share=True),
    Curve("Well-formed", ("reward/format",), share=True),
    Curve("Unscored rollouts", ("reward/unscored",)),
    Curve("Proxy latency, 95th percentile, s", ("proxy/latency_p95_s",)),
    Curve("Proxy prefix cache hits", ("proxy/prefix_hit_share",), share=True),
    Curve("Policy loss", ("actor/pg_loss",)),
    Curve("Gradient norm", ("actor/grad_norm",)),
    Curve("Response length, tokens", ("response_length/mean",)),
    Curve("KL to the reference", ("actor/kl_loss", "actor/ppo_kl")),
)
FALLBACK_CURVES = 6
PART = "reward/part/"
"""Metrics that a user's own reward function returns beside the score, by their own names."""
MOST_PARTS = 12


def stage_charts(rows: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """[{title, last, svg}] of one stage's metrics; of unknown names, charts of the first few."""
    chosen: list[tuple[Curve, list[tuple[float, float]]]] = []
    for curve in CURVES:
        for name in curve.names:
            if points := series(rows, name):
                chosen.append((curve, points))
                break
    parts = sorted({name for row in rows for name in row if name.startswith(PART)})
    of_parts = [(Curve(name.removeprefix(PART), (name,)), series(rows, name)) for name in parts]
    chosen += [(curve, points) for curve, points in of_parts if points][:MOST_PARTS]
    if not chosen:
        names = list(dict.fromkeys(k for row in rows for k in row if k != "step"))
        curves = [(Curve(name, (name,)), series(rows, name)) for name in names]
        chosen = [(curve, points) for curve, points in curves if points][:FALLBACK_CURVES]
    return [
        {"title": curve.title, "last": short(points[-1][1]), "svg": line_chart(points, curve.title, curve.share)}
        for curve, points in chosen
    ]


def series(rows: Sequence[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    """(step, value) sorted by step. Of a step logged twice (a resumed run) the later line counts."""
    values: dict[float, float] = {}
    for index, row in enumerate(rows):
        if (value := number(row.get(name))) is not None:
            step = number(row.get("step"))
            values[index if step is None else step] = value
    return sorted(values.items())


def line_chart(points: Sequence[tuple[float, float]], title: str, share: bool = False) -> str:
    points = _thinned(points)
    first, last = points[0][0], points[-1][0]
    values = [value for _, value in points]
    low, high = (0.0, 1.0) if share and min(values) >= 0 and max(values) <= 1 else nice(min(values), max(values))

    def x(step: float) -> float:
        inner = WIDTH - LEFT - RIGHT
        return LEFT + (inner * (step - first) / (last - first) if last > first else inner / 2)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for value in (low, (low + high) / 2, high):
        at = y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 5}" y="{at + 3.5:.1f}" text-anchor="end">{short(value)}</text>')
    for step, anchor in ((first, "start"), (last, "end")) if last > first else ((first, "middle"),):
        parts.append(
            f'<text class="tick" x="{x(step):.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">{short(step)}</text>'
        )
    smooth = len(points) >= SMOOTH_FROM
    if len(points) > 1:
        parts.append(_polyline([(x(s), y(v)) for s, v in points], "raw" if smooth else "line"))
    if smooth:
        parts.append(_polyline([(x(s), y(v)) for s, v in _running_mean(points)], "line"))
    else:
        for step, value in points:
            label = f"step {short(step)}: {value:.4g}"
            parts.append(
                f'<circle class="dot" cx="{x(step):.1f}" cy="{y(value):.1f}" r="2.5"><title>{label}</title></circle>'
            )
    return "".join([*parts, "</svg>"])


def short(value: float) -> str:
    """A number with few digits and no trailing zeros."""
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    if abs(value) >= 1e6 or 0 < abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:.3f}".rstrip("0").rstrip(".") if abs(value) < 10 else f"{value:.1f}"


def _polyline(points: Sequence[tuple[float, float]], kind: str) -> str:
    return f'<polyline class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    if len(points) <= MAX_POINTS:
        return points
    stride = (len(points) - 1) / (MAX_POINTS - 1)
    return [points[round(i * stride)] for i in range(MAX_POINTS)]


def _running_mean(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Centred mean over a window of a tenth of the curve, shorter at the ends."""
    half = max(1, len(points) // 20)
    means = []
    for i, (step, _) in enumerate(points):
        window = points[max(0, i - half) : i + half + 1]
        means.append((step, sum(value for _, value in window) / len(window)))
    return means


def nice(low: float, high: float) -> tuple[float, float]:
    """The range extended to round numbers; a flat curve gets a margin on both sides."""
    if high == low:
        return (0.0, 1.0) if low == 0 else (low - abs(low) * 0.1, high + abs(low) * 0.1)
    unit = 10 ** floor(log10(high - low)) / 2
    bottom, top = floor(low / unit) * unit, -floor(-high / unit) * unit
    return round(bottom, 12), round(top, 12)
