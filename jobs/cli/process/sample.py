"""`proxygrm process sample`: candidate solutions of questions, by a checkpoint or an endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from jobs.cli.common.options import FiniteRange, with_options
from jobs.cli.common.row_command import MAX_BAD, write_rows
from jobs.cli.eval.judges import CHECKPOINT_OPTIONS, Calls, call_options, judges_of, refuse_drop
from jobs.cli.process.options import INPUT, OUTPUT, say_rows
from jobs.cli.process.score import say_counts

_FILE = click.Path(path_type=Path)
_OPTIONS = [
    INPUT,
    OUTPUT,
    click.option("--policy", required=True, help="Writes the solutions: a checkpoint, or http://HOST:PORT."),
    click.option("-n", "--candidates", type=click.IntRange(1), default=8, show_default=True, help="Of each question."),
    click.option("--temperature", type=FiniteRange(0), default=1.0, show_default=True),
    click.option("--top-p", type=FiniteRange(0, 1, min_open=True), default=0.95, show_default=True),
    click.option("--seed", default=0, show_default=True, help="Each candidate has its own seed, drawn from this one."),
    click.option("--max-tokens", type=click.IntRange(1), default=4096, show_default=True, help="Of one candidate."),
    click.option("--images-root", type=_FILE, help="Folder of relative image paths.  [the input's]"),
    MAX_BAD,
]


@click.command(short_help="Questions -> the same rows with N candidate solutions.")
@with_options(_OPTIONS)
@with_options(CHECKPOINT_OPTIONS)
@call_options
def sample(
    source: Path,
    target: Path,
    policy: str,
    candidates: int,
    images_root: Path | None,
    models: tuple[str, ...],
    calls: Calls,
    max_bad: float,
    **settings: Any,
) -> None:
    """Sample candidate solutions of each question, in steps that name the visual facts they lean on.

    \b
    In:  {"question", "image": PATH or [PATH, ...]}; other keys pass through
    Out: the row with vlmresponse1 ... N: {"reasoningprocess": [{"steptext", "visualdependency"}, ...], "finalanswer"},
         or {"error", "rawoutput"}; and `sampling`: model, temperature, top_p, seeds

    \b
    proxygrm process sample --input questions.jsonl --output policy.jsonl --policy CHECKPOINT -n 8
    proxygrm process sample --input questions.jsonl --output policy.jsonl --policy http://gpu7:8000 --model internvl

    The raw answers are in OUTPUT.calls, from which the same command resumes at the candidate, also with a larger N.
    """
    from jobs.cli.common.quiet import quiet
    from jobs.cli.eval import execute
    from proxygrm.core.files.output_file import LOGS, REPORT, check_output
    from proxygrm.core.files.whole_file import write_json
    from proxygrm.evaluate.judges.select import calls_of
    from proxygrm.evaluate.process.questions import read_questions
    from proxygrm.evaluate.process.sample import Sampling, fresh_question, sample_questions, sample_report
    from proxygrm.evaluate.settings import EvaluateSettings

    evaluate = EvaluateSettings(**settings)
    sampling = Sampling(candidates, evaluate)
    refuse_drop(evaluate.missing_images)
    (model,) = judges_of({"policy": policy}, models, calls).values()
    root = images_root or source.parent
    check_output(target, [source], beside=(*LOGS, REPORT))  # before any call is made
    with execute.resumable(), quiet("process sample"), execute.ProgressBar() as progress:
        file = read_questions(source, root, fresh_question)
        file.check(source, max_bad)
        missing = file.check_images(evaluate.missing_images)
        folder = target.with_name(f"{target.name}.calls")
        samples = sample_questions(file, sampling, calls_of(model, evaluate), folder, progress)
    account = write_rows(source, target, lambda row: samples.row(row, root), max_bad, "questions")
    report = sample_report(samples, file, missing) | {"rows": account.kept, "bad_rows": dict(account.bad)}
    write_json(target.with_name(f"{target.name}{REPORT}"), report)
    say_rows(account, target, (samples.unusable, "candidates without steps"), (missing, "missing images"))
    say_counts(report)
