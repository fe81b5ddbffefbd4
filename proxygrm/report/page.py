"""The report page: one file, no network, readable on a phone, in light and dark."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.evaluate.benchmarks import BENCHMARKS, Benchmark, benchmark_of, partition
from proxygrm.evaluate.scores.notes import EXPECTED_UNKNOWN
from proxygrm.evaluate.scores.score import read
from proxygrm.report.benchmark import View, build_view
from proxygrm.report.charts import stage_charts
from proxygrm.report.contents import Report
from proxygrm.report.gather import RunFacts, StageFacts, gather
from proxygrm.report.numbers import number
from proxygrm.report.papers import LEGEND, papers
from proxygrm.report.shell import clock, render_page, write_page
from proxygrm.report.tables.results import group_rows, result_rows
from proxygrm.report.transfer import transfer_tables


def write_report(run_dir: Path, out_html: Path, report: Report | None = None) -> Path:
    """Write the page of a run, finished or not, and return its path.

    report: what the page shows; by default what the recipe said when the run was submitted (run.json).
    Missing stages are shown as missing and unreadable files are listed on the page. UserError when the run folder does
    not exist or the page cannot be written.
    """
    run_dir, out_html = Path(run_dir), Path(out_html)
    if not run_dir.is_dir():
        raise UserError(
            f"no run folder at {run_dir}; `proxygrm status` lists the runs", code="run.not-found", path=run_dir
        )
    return write_page(render(gather(run_dir, report)), out_html)


def render(facts: RunFacts) -> str:
    bench = benchmark_of_rows(facts.judged)
    view, report = _view(facts, bench.name), facts.report
    values = {
        "kind": report.title,
        "name": str(facts.about.get("name") or facts.folder.name),
        "about": _about(facts.about),
        "settings": json.dumps(facts.about.get("settings"), indent=2) if facts.about.get("settings") else "",
        "stages": _stages(facts.stages, report.stages),
        "span": _span(facts.stages),
        "curves": [(stage, report.stages.get(stage, ""), stage_charts(rows)) for stage, rows in facts.curves.items()],
        "counts": report.counts,
        "funnel": funnel(facts.funnel),
        "papers": papers(facts.benchmarks, report.results.models if report.results else {}),
        "legend": LEGEND,
        "results": report.results,
        "rows": result_rows(facts.summary, report.results) if report.results else [],
        "groups": [(by, *group_rows(facts.summary, f"by_{by}", report.model_title)) for by in ("source", "category")],
        "view": view,
        "heading": "Held-out pairs in detail",
        "transfer": transfer_tables(facts.folder, report, facts.notes),
        "notes": facts.notes,
    }
    names = {tag: report.model_title(tag) for tag in facts.judged}
    return render_page("report.html", values, facts.judged, partition(bench, "official"), names)


def benchmark_of_rows(judged: Mapping[str, Sequence[Mapping[str, Any]]]) -> Benchmark:
    """The benchmark that all rows come from, else plain pairs."""
    sources = {str(row.get("source") or "") for rows in judged.values() for row in rows}
    return benchmark_of(sources) or BENCHMARKS["pairs"]


def _view(facts: RunFacts, bench_name: str) -> View | None:
    """The figures of `eval score` by model; models that cannot be scored are noted and left out."""
    answers = {}
    for tag, path in facts.answers.items():
        try:
            answers[facts.report.model_title(tag)] = read(bench_name, [path], partial=True)
        except UserError as error:
            facts.notes.append(str(error))
    try:
        view = build_view(answers) if answers else None
        # The note asks for --pairs, but a chain judges all the pairs that it was given.
        return view and replace(view, notes=[(run, note) for run, note in view.notes if note != EXPECTED_UNKNOWN])
    except UserError as error:
        facts.notes.append(str(error))
        return None


def _about(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    profile = about.get("profile")
    name = profile.get("name") or profile.get("description") if isinstance(profile, dict) else profile
    rows = [("profile", name), ("code", about.get("git"))]
    if (written := number(about.get("written"))) is not None:
        rows.append(("submitted", clock(written)))
    packages = about.get("packages")
    if isinstance(packages, dict):
        rows += [(str(k), v) for k, v in packages.items()]
    return [(label, str(value)) for label, value in rows if value]


def _span(stages: list[StageFacts]) -> str:
    starts = [s.started for s in stages if s.started is not None]
    ends = [s.finished for s in stages if s.finished is not None]
    return duration(max(ends) - min(starts)) if starts and ends else ""


def _stages(stages: list[StageFacts], titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """The texts of each stage's row, and its bar on the run's time axis in per cent."""
    starts = [s.started for s in stages if s.started is not None]
    ends = [s.finished for s in stages if s.finished is not None]
    begin, end = min(starts, default=0.0), max(ends, default=0.0)
    span = max(end - begin, 1e-9)
    rows = []
    for s in stages:
        bar = None
        if s.started is not None and s.finished is not None and ends:
            bar = (100 * (s.started - begin) / span, max(0.6, 100 * (s.finished - s.started) / span))
        notes = [f"{s.parts} parts"] if s.parts > 1 else []
        notes += [f"attempt {s.attempts}"] if s.attempts > 1 else []
        notes += [s.note] if s.note else []
        rows.append(
            {
                "name": s.name,
                "title": titles.get(s.name, ""),
                "status": s.status,
                "started": clock(s.started),
                "finished": clock(s.finished),
                "wall": duration(s.wall_s),
                "wait": duration(waited_s(s, stages)),
                "nodes": ", ".join(s.nodes),
                "job": s.job_id,
                "memory": f"{s.peak_memory_mb / 1024:.1f} GiB" if s.peak_memory_mb is not None else "",
                "note": "; ".join(notes),
                "bar": bar,
            }
        )
    return rows


def waited_s(stage: StageFacts, stages: list[StageFacts]) -> float | None:
    """Seconds in the queue: from submission, or from the end of the previous stage, to the start."""
    if stage.started is None or stage.submitted is None:
        return None
    before = [s.finished for s in stages if s.finished is not None and s.finished <= stage.started]
    return max(0.0, stage.started - max([stage.submitted, *before]))


def funnel(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The split's counts as bar groups [{title, bars: [(name, count, per cent of the largest)]}].

    Numbers at the top level form one group, each nested object its own; other values, and the seed, are not counts.
    """
    groups: list[dict[str, Any]] = []

    def add(title: str, values: Mapping[str, Any]) -> None:
        counts = [(str(k), c) for k, v in values.items() if k != "seed" and (c := number(v)) is not None]
        if counts:
            top = max((abs(c) for _, c in counts), default=0) or 1
            bars = [(k.replace("_", " "), f"{c:,.10g}", 100 * abs(c) / top) for k, c in counts]
            groups.append({"title": title.replace("_", " "), "bars": bars})
        for key, value in values.items():
            if isinstance(value, dict):
                add(f"{title} · {key}" if title else key, value)

    add("", report)
    return groups


def duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60:02d} s"
    return f"{total // 3600} h {total % 3600 // 60:02d} min"
