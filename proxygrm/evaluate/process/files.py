"""`process sample` and `process score` of a whole file, of which no row may be bad: the work of a stage."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from proxygrm.core.files.json_lines import json_rows
from proxygrm.core.files.whole_file import write_json
from proxygrm.evaluate.judges.base import Calls, Progress
from proxygrm.evaluate.process.questions import read_questions
from proxygrm.evaluate.process.sample import Sampling, fresh_question, sample_questions, sample_report
from proxygrm.evaluate.process.score import Rules, Tally, score_questions, score_report, scored_row
from proxygrm.evaluate.rows.row_file import write_rows
from proxygrm.process.stages import ScoreSettings

REPORT = "report.json"


def sample_file(
    source: Path, target: Path, images_root: Path, sampling: Sampling, calls: Calls, progress: Progress
) -> dict[str, Any]:
    """Write `target` and beside it report.json, which is returned. Raw answers are in TARGET.calls, from where it
    resumes. UserError for bad rows and missing images, and as `sample_questions`."""
    file = read_questions(source, images_root, fresh_question)
    file.check(source)
    missing = file.check_images(sampling.settings.missing_images)
    samples = sample_questions(file, sampling, calls, _calls_of(target), progress)
    write_rows(target, (samples.row(row, images_root) for _, row in json_rows(source)))
    return _reported(target, sample_report(samples, file, missing))


def score_file(
    source: Path,
    target: Path,
    images_root: Path,
    settings: ScoreSettings,
    models: Mapping[str, Calls],
    rules: Rules,
    missing_images: str,
    progress: Progress,
) -> dict[str, Any]:
    """The same for scores. models: judge, extractor and auditor."""
    file = read_questions(source, images_root)
    file.check_scorable(source)
    missing = file.check_images(missing_images)
    work = score_questions(file, settings, **models, folder=_calls_of(target), progress=progress)
    tally = Tally()
    write_rows(target, (scored_row(row, images_root, work, rules, tally) for _, row in json_rows(source)))
    return _reported(target, score_report(tally, file, work, missing))


def first_rows(source: Path, target: Path, count: int) -> Path:
    """The first `count` rows as `target`; with 0 `source` as it is."""
    if not count:
        return source
    write_rows(target, (row for _, row in islice(json_rows(source), count)))
    return target


def _calls_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.calls")


def _reported(target: Path, report: dict[str, Any]) -> dict[str, Any]:
    write_json(target.with_name(REPORT), report)
    return report
