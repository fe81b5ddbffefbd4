"""One benchmark, one or several files of answers, one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from proxygrm.evaluate.benchmarks import benchmark, partition
from proxygrm.evaluate.scores.score import read
from proxygrm.report.benchmark import build_view
from proxygrm.report.gather import read_lines
from proxygrm.report.shell import render_page, write_page


def write_eval_report(
    bench_name: str,
    files: Mapping[str, Path],
    out_html: Path,
    *,
    partition_name: str = "official",
    policy: str = "wrong",
    partial: bool = False,
    common: bool = False,
    expected: Sequence[str] | None = None,
) -> Path:
    """files: {name: answers}, the first one is the baseline. UserError for everything that `eval score` refuses."""
    bench = benchmark(bench_name)
    cut = partition(bench, partition_name)
    answers = {name: read(bench_name, [path], partial, expected) for name, path in files.items()}
    view = build_view(answers, partition_name, policy, common)
    unreadable: list[str] = []  # the notes of the scores have these already
    rows: dict[str, list[dict[str, Any]]] = {  # another suite's file has no rows of ours to show
        name: [] if answers[name].layouts else read_lines(path, unreadable) for name, path in files.items()
    }
    values = {"view": view, "heading": "Scores", "files": [(name, str(path)) for name, path in files.items()]}
    return write_page(render_page("eval_report.html", values, rows, cut), Path(out_html))
