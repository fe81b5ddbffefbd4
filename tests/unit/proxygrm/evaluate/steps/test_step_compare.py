"""Intervals of a step benchmark's figures, runs over the same solutions compared, and whether a curve falls."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from proxygrm.evaluate.steps.compare import compare_runs, read_runs, trend
from proxygrm.evaluate.steps.figures import Judged, figures_of
from proxygrm.evaluate.steps.intervals import SHARES, figures_with_intervals, resampled
from support.refusals import refused


def run(noise: float, count: int = 200, seed: int = 0) -> list[Judged]:
    """Solutions of four steps, of whose verdicts the share `noise` is by chance, drawn from `seed`."""
    of_labels, chance = random.Random(0), random.Random(seed)
    solutions = []
    for number in range(count):
        labels = tuple(of_labels.choice((1, 1, -1, 0)) for _ in range(4))
        draws = [(chance.random(), chance.choice((1, -1, None))) for _ in labels]
        verdicts = tuple(
            guess if draw < noise else label or 1 for label, (draw, guess) in zip(labels, draws, strict=True)
        )
        solutions.append(Judged("A" if number % 2 else "B", labels, verdicts))
    return solutions


def test_a_resample_is_the_figures_of_the_solutions_drawn() -> None:
    solutions = run(0.5, count=3)
    (drawn,) = resampled([solutions], resamples=400)
    possible = set()
    for picks in ((a, b, c) for a in range(3) for b in range(3) for c in range(3)):
        figures = figures_of([solutions[at] for at in picks])
        possible.add(tuple(round(figures[name], 9) for name in SHARES))
    found = {tuple(round(float(drawn[name][at]), 9) for name in SHARES) for at in range(400)}
    assert found == possible


def test_intervals_hold_the_figure_and_narrow_with_the_solutions() -> None:
    few, many = (figures_with_intervals(run(0.4, count)) for count in (50, 800))
    for figures in (few, many, *few["by_source"].values()):
        for name in SHARES:
            assert figures[f"{name}_low"] <= figures[name] <= figures[f"{name}_high"]
    width = {figures["steps"]: figures["macro_f1_high"] - figures["macro_f1_low"] for figures in (few, many)}
    assert width[many["steps"]] < width[few["steps"]] / 3
    assert figures_with_intervals(run(0.4)) == figures_with_intervals(run(0.4))


def test_a_run_differs_from_the_first_by_what_chance_does_not_explain() -> None:
    rows = compare_runs({"clear": run(0.0), "same": run(0.0), "noisy": run(0.5), "other": run(0.02)})
    same, noisy, other = rows
    assert (same["difference"], same["low"], same["high"], same["p"]) == (0.0, 0.0, 0.0, 1.0)
    assert noisy["difference"] == pytest.approx(figures_of(run(0.5))["macro_f1"] - 1)
    assert noisy["low"] < noisy["difference"] < noisy["high"] < 0
    assert noisy["p"] == pytest.approx(1 / 2001)
    assert noisy["p_holm"] == pytest.approx(3 / 2001)
    assert other["p"] > noisy["p"]


def test_a_curve_that_falls_is_told_from_one_that_does_not() -> None:
    xs = (0, 0.2, 0.4, 0.8)
    falling = trend(xs, [run(x) for x in xs])
    assert (falling["monotone"], falling["rises"], falling["spearman"]) == (True, [], -1.0)
    assert falling["change"]["high"] < 0
    assert falling["points"][0] == {"x": 0, "value": 1.0, "low": 1.0, "high": 1.0}
    bent = trend(xs, [run(0), run(0.5), run(0.2), run(0.8)])
    (rise,) = bent["rises"]
    assert (bent["monotone"], rise["from"], rise["to"]) == (False, 0.2, 0.4)
    assert 0 < rise["low"] < rise["difference"] < rise["high"]
    assert bent["monotone_share"] == 0.0
    assert bent["spearman"] == pytest.approx(-0.8)
    assert bent["spearman_low"] <= -0.8 <= bent["spearman_high"]
    unclear = trend(xs, [run(0.3 + x / 10, seed=at) for at, x in enumerate(xs)])
    assert 0 < unclear["monotone_share"] < 1


def test_a_curve_without_any_change_has_no_correlation() -> None:
    flat = trend((0, 1, 2), [run(0.3)] * 3)
    assert (flat["monotone"], flat["monotone_share"], flat["spearman"], flat["spearman_low"]) == (True, 1.0, None, None)
    assert np.isfinite(flat["change"]["low"])


def test_runs_over_other_solutions_are_refused(tmp_path: Path) -> None:
    rows = [{"id": str(at), "data_source": "A", "label": [1, -1], "pred": [1, None]} for at in range(3)]
    files = {name: tmp_path / name for name in ("a", "b")}
    files["a"].write_text("\n".join(map(json.dumps, rows)))
    files["b"].write_text("\n".join(map(json.dumps, rows[::-1])))
    runs = read_runs(files)
    assert runs["a"] == runs["b"]  # in the order of the first
    files["b"].write_text("\n".join(map(json.dumps, [*rows[:2], rows[2] | {"label": [1, 1]}])))
    with refused("eval.other-solutions", runs=["a", "b"]):
        read_runs(files)
