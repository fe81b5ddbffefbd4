"""The contents of a run folder, read defensively: any file may be missing, half written or from an older run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import numbered_lines, value_of
from proxygrm.report.contents import Report, Results, read_report
from proxygrm.report.numbers import number

RECORDS = ("DONE*.json", "FAILED*.json", "progress*.json")
"""Files that a stage's jobs leave in its folder."""


@dataclass(frozen=True)
class StageFacts:
    """One stage as described by its files; times in unix seconds, None when unknown."""

    name: str
    status: str  # done, failed, running, submitted, missing
    started: float | None = None
    finished: float | None = None
    submitted: float | None = None
    nodes: tuple[str, ...] = ()
    job_id: str = ""
    peak_memory_mb: int | None = None
    parts: int = 0
    attempts: int = 1
    note: str = ""

    @property
    def wall_s(self) -> float | None:
        return None if self.started is None or self.finished is None else self.finished - self.started


@dataclass
class RunFacts:
    folder: Path
    report: Report = field(default_factory=Report)
    about: dict[str, Any] = field(default_factory=dict)
    stages: list[StageFacts] = field(default_factory=list)
    curves: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    funnel: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, dict[str, Any]] = field(default_factory=dict)
    benchmarks: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """{benchmark: {model: figures}}"""
    judged: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    answers: dict[str, Path] = field(default_factory=dict)  # the files that `judged` was read from
    notes: list[str] = field(default_factory=list)
    """What could not be read, one sentence each; shown on the page."""


def gather(run_dir: Path, report: Report | None = None) -> RunFacts:
    """report: what the page shows; by default what the recipe said when the run was submitted (run.json)."""
    facts = RunFacts(run_dir)
    records = [
        read_object(path, facts.notes) for path in (run_dir / "run.json", *sorted(run_dir.glob("ablations/*/run.json")))
    ]
    facts.about = next((record for record in records if record), {})
    facts.report = report or _report_then(facts)
    submissions = read_object(run_dir / "submissions.json", facts.notes)
    for name in _stage_names(run_dir, records):
        facts.stages.append(_stage(run_dir / name, name, submissions.get(name), facts.notes))
        if name == facts.report.page_stage and facts.stages[-1].status in ("submitted", "missing"):
            facts.stages[-1] = replace(facts.stages[-1], status="running", note="writes this page")
    for name in facts.report.curves or [stage.name for stage in facts.stages]:
        if rows := read_lines(run_dir / name / "metrics.jsonl", facts.notes):
            facts.curves[name] = rows
    if facts.report.counts:
        facts.funnel = read_object(run_dir / facts.report.counts, facts.notes)
    facts.benchmarks = read_benchmarks(run_dir, facts.report, facts.notes)
    if facts.report.results:
        file = run_dir / facts.report.results.file
        facts.summary = facts.report.in_order(read_results(run_dir, facts.report.results, facts.notes))
        for model in facts.summary:
            if rows := read_lines(file.with_name(f"{model}.jsonl"), facts.notes):
                facts.judged[model] = rows
                facts.answers[model] = file.with_name(f"{model}.jsonl")
    return facts


def read_results(run_dir: Path, results: Results, notes: list[str]) -> dict[str, Any]:
    """{model: figures} of all files of the results."""
    found: dict[str, Any] = {}
    for file in (results.file, *results.more):
        found |= read_object(run_dir / file, notes)
    return found


def read_benchmarks(run_dir: Path, report: Report, notes: list[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """{benchmark: {model: figures}} of the benchmarks that have been scored."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for file in report.benchmarks:
        models = {tag: row for tag, row in read_object(run_dir / file, notes).items() if isinstance(row, dict)}
        if names := {str(row["bench"]) for row in models.values() if row.get("bench")}:
            found.setdefault(names.pop(), {}).update(models)
    return found


def _report_then(facts: RunFacts) -> Report:
    try:
        return read_report(facts.about.get("report"))
    except UserError as error:
        facts.notes.append(str(error))
        return Report()


def _stage_names(run_dir: Path, records: Iterable[Mapping[str, Any]]) -> list[str]:
    """The chain's stages in order, those of its ablations, then any other stage with a record of its work."""
    planned = [record["fingerprints"] for record in records if isinstance(record.get("fingerprints"), dict)]
    names = list(dict.fromkeys(name for stages in planned for name in stages))
    records_of_work = (path for kind in RECORDS for path in run_dir.glob(f"*/{kind}"))
    extra = sorted({path.parent.name for path in records_of_work} - set(names))
    return names + [name for name in extra if "." not in name]  # STAGE.FINGERPRINT was moved aside


def _stage(folder: Path, name: str, submission: Any, notes: list[str]) -> StageFacts:
    submitted = _number(submission, "submitted")
    done = _objects(folder, "DONE*.json", notes)
    failed = _objects(folder, "FAILED*.json", notes)
    running = _objects(folder, "progress*.json", notes)
    starts = [t for row in done if (t := _number(row, "started")) is not None]
    ends = [t for row in done if (t := _number(row, "finished")) is not None]
    memory = [m for row in done if (m := _number(row, "peak_memory_mb")) is not None]
    note = ""
    if failed:
        status, note = "failed", str(failed[0].get("reason", ""))
    elif done and len(done) >= len(running):
        status, source = "done", str(done[0].get("reused_from") or "")
        note = f"reused from {source}" if source else ""
    elif running:
        status, note = "running", _progress_note(running)
    else:
        status = "submitted" if submission else "missing"
    complete = status == "done"
    return StageFacts(
        name=name,
        status=status,
        started=min(starts, default=None),
        finished=max(ends, default=None) if complete else None,
        submitted=submitted,
        nodes=tuple(dict.fromkeys(str(n) for row in done for n in _list(row.get("nodes")))),
        job_id=str(done[0].get("job_id", "")) if done else str((submission or {}).get("job_id", "")),
        peak_memory_mb=int(max(memory)) if memory else None,
        parts=len(done),
        attempts=int(max([_number(row, "attempts") or 1 for row in done], default=1)),
        note=note,
    )


def _progress_note(rows: list[dict[str, Any]]) -> str:
    done, total = (sum(int(_number(row, key) or 0) for row in rows) for key in ("done", "total"))
    return f"{done} of {total} {rows[-1].get('note', '')}".strip()


def _objects(folder: Path, pattern: str, notes: list[str]) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob(pattern)) if (row := read_object(path, notes))]


def read_object(path: Path, notes: list[str]) -> dict[str, Any]:
    """A JSON object; {} for a missing file, and for one that cannot be read, which is noted."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (ValueError, OSError) as error:
        notes.append(f"{path.parent.name}/{path.name} cannot be read: {error}")
        return {}
    if isinstance(value, dict):
        return value
    notes.append(f"{path.parent.name}/{path.name} is not a JSON object")
    return {}


def read_lines(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    """Rows of a JSONL; lines that are not a JSON object (a truncated last one, say) are left out and noted."""
    if not path.is_file():
        return []
    rows, bad = [], 0
    for _, line in numbered_lines(path, checked=False):
        try:
            row = value_of(line.decode(errors="replace"))
        except ValueError:
            row = None
        if isinstance(row, dict):
            rows.append(row)
        else:
            bad += 1
    if bad:
        notes.append(f"{bad} unreadable line{'s' * (bad > 1)} of {path.parent.name}/{path.name} left out")
    return rows


def _number(row: Any, key: str) -> float | None:
    return number(row.get(key)) if isinstance(row, dict) else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
