"""`proxygrm process score`: solutions scored step by step, by checkpoints or endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from jobs.cli.common.options import refuse_idle, with_options
from jobs.cli.common.row_command import MAX_BAD, write_rows
from jobs.cli.common.say import secho
from jobs.cli.eval.judges import (
    CHECKPOINT_OPTIONS,
    KIND_OPTION,
    Calls,
    call_options,
    judges_of,
    refuse_drop,
)
from jobs.cli.process.options import AUDITOR, COMPAT, EXTRACTOR, INPUT, OUTPUT, say_rows
from proxygrm.process.gate import UNREADABLE_AUDIT

_FILE = click.Path(path_type=Path)
_TOKENS = click.IntRange(1)
_SHOWN_BEFORE = ("bad_rows", "lines_without_steps")
_OPTIONS = [
    INPUT,
    OUTPUT,
    click.option("--judge", required=True, help="Scores each step: a checkpoint, or http://HOST:PORT."),
    EXTRACTOR,
    AUDITOR,
    click.option("--images-root", type=_FILE, help="Folder of relative image paths.  [the input's]"),
    COMPAT,
    click.option(
        "--unreadable-audit",
        type=click.Choice(UNREADABLE_AUDIT),
        default="keep",
        show_default=True,
        help="Visual steps without a reliability: keep their verdict, zero it, or drop it (null).",
    ),
    click.option("--history", type=click.IntRange(0), default=32, show_default=True, help="Earlier steps; 0: all."),
    click.option("--description-tokens", type=_TOKENS, default=2048, show_default=True),
    click.option("--audit-tokens", type=_TOKENS, default=2048, show_default=True),
    click.option("--verdict-tokens", type=_TOKENS, default=16, show_default=True),
    click.option("--soft", is_flag=True, help="Also the probability of a right step (soft_step_scores)."),
    MAX_BAD,
]


@click.command(short_help="A policy's solutions -> the same rows with a score of each step.")
@with_options(_OPTIONS)
@with_options([*CHECKPOINT_OPTIONS, KIND_OPTION])
@call_options
def score(
    source: Path,
    target: Path,
    judge: str,
    extractor: str,
    auditor: str,
    images_root: Path | None,
    compat: str | None,
    unreadable_audit: str,
    models: tuple[str, ...],
    calls: Calls,
    kind: str | None,
    max_bad: float,
    **settings: Any,
) -> None:
    """Score every step of every solution: describe the image, audit what the solution claims to see, judge each step,
    and scale the visual steps by how reliable the image was read.

    \b
    In:  {"question", "image": PATH or [PATH, ...], "vlmresponse1": {"reasoningprocess": [{"steptext",
         "visualdependency"}, ...], "finalanswer"}, "vlmresponse2": ..., ...}; other keys pass through
    Out: the row with __golden_image_description__, and in each response `eval`: visual_checklist,
         visual_step_indices, visual_checklist_evaluation, local_p_score, raw_step_scores, final_step_scores

    \b
    proxygrm process score --input policy.jsonl --output scored.jsonl --judge CHECKPOINT
    proxygrm process score --input policy.jsonl --output scored.jsonl --judge CHECKPOINT \\
        --extractor http://gpu7:8000 --model extractor=qwen2.5-vl-72b

    The raw answers are in OUTPUT.calls, from which the same command resumes; the counts are in OUTPUT.report.json.
    """
    from jobs.cli.common.quiet import quiet
    from jobs.cli.eval import execute
    from proxygrm.core.checkpoints.kinds import kind_of
    from proxygrm.core.files.output_file import LOGS, REPORT, check_output
    from proxygrm.core.files.whole_file import write_json
    from proxygrm.evaluate.judges.select import calls_of
    from proxygrm.evaluate.process.questions import read_questions
    from proxygrm.evaluate.process.score import Rules, Tally, score_questions, score_report, scored_row
    from proxygrm.evaluate.settings import EvaluateSettings
    from proxygrm.process.stages import ScoreSettings

    names = {"judge": judge, "extractor": extractor or judge, "auditor": auditor or judge}
    of_work = {field.name: settings.pop(field.name) for field in fields(ScoreSettings)}
    evaluate = EvaluateSettings(**settings)
    sources = judges_of(names, models, calls)
    of_checkpoint = isinstance(sources["judge"], Path)
    refuse_idle("kind", "on this judge: it is of checkpoints", unless=of_checkpoint)
    judged_by = kind_of(sources["judge"], kind or "") if of_checkpoint else "endpoint"
    refuse_drop(evaluate.missing_images)
    by_source = {source: calls_of(source, evaluate) for source in dict.fromkeys(sources.values())}
    roles = {role: by_source[source] for role, source in sources.items()}
    root = images_root or source.parent
    check_output(target, [source], beside=(*LOGS, REPORT))  # before any call is made
    with execute.resumable(), quiet("process score"), execute.ProgressBar() as progress:
        file = read_questions(source, root)
        file.check_scorable(source, max_bad)
        missing = file.check_images(evaluate.missing_images)
        folder = target.with_name(f"{target.name}.calls")
        work = score_questions(file, ScoreSettings(**of_work), **roles, folder=folder, progress=progress)
    tally, rules = Tally(), Rules(compat == "upstream", unreadable_audit)
    account = write_rows(source, target, lambda row: scored_row(row, root, work, rules, tally), max_bad, "questions")
    report = score_report(tally, file, work, missing) | {"judge_kind": judged_by, "bad_rows": dict(account.bad)}
    write_json(target.with_name(f"{target.name}{REPORT}"), report)
    say_rows(account, target, (tally.responses, "responses"), (tally.steps, "steps"), (missing, "missing images"))
    say_counts(report)


def say_counts(report: Mapping[str, Any]) -> None:
    """What was lost, by cause, on standard error."""
    from proxygrm.report.numbers import counts_text

    for name, counts in report.items():
        if isinstance(counts, dict) and counts and name not in _SHOWN_BEFORE:
            totals = {key: len(value) if isinstance(value, list) else value for key, value in counts.items()}
            secho(f"{name.replace('_', ' ')}: {counts_text(totals)}", err=True, fg="yellow")
