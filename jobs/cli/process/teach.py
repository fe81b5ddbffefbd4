"""`proxygrm process describe`, `judge`, `contradict` and `audit`: what a teacher writes about solutions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.cli.common.options import FiniteRange, Share, refuse_idle, with_options
from jobs.cli.common.say import echo
from jobs.cli.eval.judges import CHECKPOINT_OPTIONS, Calls, call_options, judges_of
from jobs.cli.process.score import say_counts
from proxygrm.core.errors import UserError

if TYPE_CHECKING:
    from proxygrm.evaluate.process.teach.asks import Asks, Inputs

_PATH = click.Path(path_type=Path)
_TEACHER = [
    click.option("--out", type=_PATH, required=True, help="The folder to write; the calls of one teacher."),
    click.option("--teacher", required=True, help="A checkpoint, or http://HOST:PORT."),
    click.option("--tries", type=click.IntRange(1), default=3, show_default=True, help="Until an answer is usable."),
    click.option("--temperature", type=FiniteRange(0), default=0.1, show_default=True),
    click.option("--top-p", type=FiniteRange(0, 1, min_open=True), default=0.9, show_default=True),
    click.option("--seed", default=0, show_default=True, help="Each call has its own seed, drawn from this one."),
    click.option("--max-tokens", type=click.IntRange(1), default=4096, show_default=True, help="Of one answer."),
    click.option("--max-failed", type=Share(), default=0.02, show_default=True, help="Share of calls without answer."),
    click.option("--shard", default="1/1", metavar="I/N", help="Only this part, e.g. 3/8.  [all]"),
]
_DESCRIPTIONS = click.option("--descriptions", type=_PATH, required=True, help="What `process describe` wrote.")
_JUDGEMENTS = click.option("--judgements", type=_PATH, required=True, help="What `process judge` wrote.")
_CONTRADICTIONS = click.option("--contradictions", type=_PATH, required=True, help="What `process contradict` wrote.")


def _teacher_options(command: Any) -> Any:
    return with_options([click.argument("solutions", type=_PATH), *_TEACHER])(
        with_options(CHECKPOINT_OPTIONS)(call_options(command))
    )


@click.command(short_help="Solutions -> descriptions of their images, by a teacher.")
@_teacher_options
def describe(solutions: Path, **options: Any) -> None:
    """Have a teacher describe the images of SOLUTIONS (a folder of `proxygrm data solutions`), once for each question.

    \b
    Out: OUT/shard-000.jsonl: {"question", "image": [PATH, ...], "image_description", "model"}
    proxygrm process describe data/solutions --teacher http://gpu7:8000 --model qwen3-vl --out data/descriptions

    An answer that cannot be used is asked for again, up to --tries times; then it is counted in
    OUT/shard-000.report.json and left out. The same command resumes at the call.
    """
    from proxygrm.evaluate.process.teach.asks import Inputs

    _teach("describe", Inputs(solutions), **options)


@click.command(short_help="Solutions and descriptions -> judgements of each step, by a teacher.")
@_teacher_options
@_DESCRIPTIONS
def judge(solutions: Path, descriptions: Path, **options: Any) -> None:
    """Have a teacher judge each step of SOLUTIONS, and name the visual fact that it leans on.

    \b
    Out: OUT/shard-000.jsonl: {"id", "steps": [{"step", "score": 1 | -1, "category", "visualdependency"}], "model"}

    There must be as many judgements as steps, scores are 1 or -1, and a wrong step has a category: visual_object,
    visual_value, visual_structure, logic, calculation, knowledge or incompleteness. Otherwise as `process describe`.
    """
    from proxygrm.evaluate.process.teach.asks import Inputs

    _teach("judge", Inputs(solutions, descriptions=descriptions), **options)


@click.command(short_help="Descriptions -> the same with errors planted, by a teacher.")
@_teacher_options
@_DESCRIPTIONS
def contradict(solutions: Path, descriptions: Path, **options: Any) -> None:
    """Have a teacher plant one to three errors in each description of the images of SOLUTIONS.

    Writes rows like those of `process describe`; an answer that changes nothing is asked for again, and counted.
    """
    from proxygrm.evaluate.process.teach.asks import Inputs

    _teach("contradict", Inputs(solutions, descriptions=descriptions), **options)


@click.command(short_help="Judgements and descriptions -> audits of what solutions say of images, by a teacher.")
@_teacher_options
@_DESCRIPTIONS
@_JUDGEMENTS
@_CONTRADICTIONS
def audit(solutions: Path, descriptions: Path, judgements: Path, contradictions: Path, **options: Any) -> None:
    """Have a teacher audit the visual facts that SOLUTIONS lean on, for one half against the description, for the other
    against the contradiction: so their reliabilities vary.

    \b
    Out: OUT/shard-000.jsonl: {"id", "checklist", "against", "image_description",
         "audit": {"errors_and_hallucinations", "omissions", "p_score"}, "model"}

    The p_score must be what its errors leave of 1. Solutions that lean on nothing visual are counted and left out.
    """
    from proxygrm.evaluate.process.teach.asks import Inputs

    given = Inputs(solutions, descriptions=descriptions, judgements=judgements, contradictions=contradictions)
    _teach("audit", given, **options)


def _teach(
    asks: Asks,
    given: Inputs,
    out: Path,
    teacher: str,
    tries: int,
    max_failed: float,
    shard: str,
    models: tuple[str, ...],
    calls: Calls,
    **settings: Any,
) -> None:
    from data_tools.steps.shards import Shard
    from jobs.cli.common.quiet import quiet
    from jobs.cli.eval import execute
    from proxygrm.core.checkpoints.identity import checkpoint_identity
    from proxygrm.evaluate.judges.select import calls_of
    from proxygrm.evaluate.process.teach.run import Teaching, teach
    from proxygrm.evaluate.settings import EvaluateSettings

    refuse_idle("missing_images", "here: solutions without their images are counted and left out")
    evaluate = EvaluateSettings(**settings)
    if tries > 1 and evaluate.temperature == 0:
        raise UserError(
            f"--tries {tries} at --temperature 0: another try is asked what the first was; give one, 0.1 say",
            code="settings.contradiction", tries=tries,
        )  # fmt: skip
    (source,) = judges_of({"teacher": teacher}, models, calls).values()
    model = f"{source.name}@{checkpoint_identity(source)}" if isinstance(source, Path) else source.model
    part = Shard.parse(shard)
    teaching = Teaching(
        asks=asks,
        given=given,
        out=out,
        model=model,
        tries=tries,
        max_tokens=evaluate.max_tokens,
        seed=evaluate.seed,
        max_failed=max_failed,
        index=part.index,
        shards=part.count,
    )
    with execute.resumable(), quiet(f"process {asks}"), execute.ProgressBar() as progress:
        report = teach(teaching, calls_of(source, evaluate), progress)
    echo(f"{report.written:,} rows of {report.asked:,} -> {out}", err=True)
    say_counts({"left_out": report.left_out, "unusable_answers": report.unusable, "notes": report.notes})
