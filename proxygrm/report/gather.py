"""What a run folder holds, read without trusting it: any file may be missing, half written or from an older run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxygrm.core.files.json_lines import numbered_lines, value_of

CHAIN = ("distill", "split", "proxy_sft", "grm_sft", "grm_rl", "evaluate", "transfer", "report")
TAG_NAMES = {"start": "before training", "sft": "after SFT", "rl": "after RL"}


@dataclass(frozen=True)
class StageFacts:
    """One stage as its files tell it; times in unix seconds, None when not known."""

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
    about: dict[str, Any] = field(default_factory=dict)
    stages: list[StageFacts] = field(default_factory=list)
    curves: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    funnel: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, dict[str, Any]] = field(default_factory=dict)
    judged: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    answers: dict[str, Path] = field(default_factory=dict)  # the files that `judged` was read from
    notes: list[str] = field(default_factory=list)
    """What could not be read, in words; shown on the page."""


def gather(run_dir: Path) -> RunFacts:
    facts = RunFacts(run_dir)
    asked = [
        _object(path, facts.notes) for path in (run_dir / "run.json", *sorted(run_dir.glob("ablations/*/run.json")))
    ]
    facts.about = next((record for record in asked if record), {})
    submissions = _object(run_dir / "submissions.json", facts.notes)
    for name in _stage_names(run_dir, asked):
        facts.stages.append(_stage(run_dir / name, name, submissions.get(name), facts.notes))
        if rows := read_lines(run_dir / name / "metrics.jsonl", facts.notes):
            facts.curves[name] = rows
    for folder in ("split", "splits"):
        facts.funnel = facts.funnel or _object(run_dir / folder / "report.json", facts.notes)
    for name in ("evaluate", "ablation_evaluate"):
        facts.summary |= _object(run_dir / name / "summary.json", facts.notes)
        for tag in facts.summary:
            if rows := read_lines(run_dir / name / f"{tag}.jsonl", facts.notes):
                facts.judged[tag] = rows
                facts.answers[tag] = run_dir / name / f"{tag}.jsonl"
    return facts


def tag_name(tag: str) -> str:
    return TAG_NAMES.get(tag, tag)


def _stage_names(run_dir: Path, asked: Iterable[Mapping[str, Any]]) -> list[str]:
    """The chain's stages in order, those of its ablations, then whatever else has a record in the folder."""
    planned = [record["fingerprints"] for record in asked if isinstance(record.get("fingerprints"), dict)]
    names = list(dict.fromkeys(name for stages in planned for name in stages)) or list(CHAIN)
    extra = sorted({p.parent.name for p in run_dir.glob("*/DONE*.json")} - set(names))
    return names + [name for name in extra if "." not in name]  # STAGE.FINGERPRINT was moved aside


def _stage(folder: Path, name: str, submission: Any, notes: list[str]) -> StageFacts:
    submitted = _number(submission, "submitted")
    done = [row for path in sorted(folder.glob("DONE*.json")) if (row := _object(path, notes))]
    failed = [row for path in sorted(folder.glob("FAILED*.json")) if (row := _object(path, notes))]
    going = [row for path in sorted(folder.glob("progress*.json")) if (row := _object(path, notes))]
    starts = [t for row in done if (t := _number(row, "started")) is not None]
    ends = [t for row in done if (t := _number(row, "finished")) is not None]
    memory = [m for row in done if (m := _number(row, "peak_memory_mb")) is not None]
    note = ""
    if failed:
        status, note = "failed", str(failed[0].get("reason", ""))
    elif done and len(done) >= len(going):
        status = "done"
    elif going:
        status, note = "running", _progress_note(going)
    elif name == "report":
        status, note = "running", "writes this page"
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


def _object(path: Path, notes: list[str]) -> dict[str, Any]:
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
    """Rows of a JSONL; lines that are no JSON object (a torn last one, say) are left out and noted."""
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


def number(value: Any) -> float | None:
    """A finite number, or None (text, booleans, NaN and infinities are none)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def _number(row: Any, key: str) -> float | None:
    return number(row.get(key)) if isinstance(row, dict) else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
