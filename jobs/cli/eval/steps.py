"""Step benchmarks on the command line: `proxygrm eval run` and `eval score --bench visualprocessbench`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from jobs.cli.common.options import refuse_idle, was_typed
from jobs.cli.common.say import echo, secho
from jobs.cli.eval.judges import OF_CHECKPOINTS, OF_ENDPOINTS, Calls, judge_source
from proxygrm.evaluate.steps.benchmark import STEP_BENCHMARKS, StepBenchmark


def score_steps(
    bench: StepBenchmark, answers: tuple[Path, ...], partial: bool, threshold: float | None, as_json: bool
) -> None:
    """Print the figures of one file of verdicts; its notes go to standard error beside JSON."""
    from proxygrm.core.errors import UserError
    from proxygrm.evaluate.steps.answers import read_step_answers
    from proxygrm.evaluate.steps.figures import figures_of

    if len(answers) != 1:
        raise UserError(
            f"steps are scored from one file of answers, not {len(answers)}; pass --answers FILE once",
            code="eval.needs-answers",
        )
    read = read_step_answers(answers[0], bench, partial, threshold)
    figures = figures_of(read.solutions)
    if as_json:
        echo(json.dumps(figures, indent=2))
        for note in read.notes:
            secho(f"proxygrm: {note}", err=True, fg="red" if note.startswith("PARTIAL") else "yellow")
        return
    from jobs.cli.common.console import out
    from proxygrm.report.tables.steps import show

    show(bench.title, figures, read.notes, out)


def run_steps(
    judge: str,
    extractor: str,
    threshold: float | None,
    kind: str | None,
    out: Path,
    bench: str,
    data: Path | None,
    images_root: Path | None,
    limit: int,
    model: str,
    calls: Calls,
    pairs: None,
    critic: str,
    contract: str,
    orders: None,
    votes: int,
    max_tokens: int,
    **settings: Any,
) -> None:
    """Judge the released solutions step by step. The options of pairs have been refused where they were typed."""
    from jobs.cli.common.console import out as console
    from jobs.cli.eval.execute import ProgressBar
    from jobs.cli.eval.judges import refuse_drop
    from proxygrm.core.checkpoints.kinds import SCALAR, kind_of
    from proxygrm.core.errors import UserError
    from proxygrm.core.files.whole_file import write_json
    from proxygrm.evaluate.judges.scalar_checkpoint import ScalarCheckpointJudge
    from proxygrm.evaluate.judges.select import calls_of
    from proxygrm.evaluate.settings import EvaluateSettings
    from proxygrm.evaluate.steps.release import read_release
    from proxygrm.evaluate.steps.run import ANSWERS, StepRun, judge_steps
    from proxygrm.process.stages import ScoreSettings
    from proxygrm.report.numbers import counts_text

    if data is None:
        raise UserError("nothing to judge: pass --data, the release's test.jsonl", code="eval.needs-pairs")
    evaluate = EvaluateSettings(max_pairs=limit, **settings)
    refuse_drop(evaluate.missing_images)
    sources = [judge_source(text, model, calls) for text in (judge, extractor) if text]
    checkpoints = [source for source in sources if isinstance(source, Path)]
    refuse_idle(OF_ENDPOINTS, "on this judge: it is of endpoints", unless=len(checkpoints) < len(sources))
    refuse_idle(OF_CHECKPOINTS, "on this judge: it is of checkpoints", unless=bool(checkpoints))
    refuse_idle("kind", "on this judge: it is of checkpoints", unless=sources[0] in checkpoints)
    scalar = sources[0] in checkpoints and kind_of(sources[0], kind or "") == SCALAR
    refuse_idle("extractor temperature seed max_tokens", "on scores", unless=not scalar)
    models: dict[Any, Any] = {}
    for source in sources:
        models[source] = ScalarCheckpointJudge(source, evaluate) if scalar else calls_of(source, evaluate)
    stages = ScoreSettings(soft=threshold is not None)
    if was_typed("max_tokens"):
        stages = ScoreSettings(soft=stages.soft, verdict_tokens=max_tokens)
    solutions = read_release(data, images_root)
    solutions = solutions[:limit] if limit else solutions
    describing = models[sources[1]] if extractor else None
    run = StepRun(solutions, models[sources[0]], describing, stages, evaluate.missing_images, out.resolve(), threshold)
    with ProgressBar() as progress:
        report = judge_steps(run, progress) | {"bench": bench, "data": str(data)}
    write_json(out / "run.json", report)
    unreadable = f", unreadable: {counts_text(report['unreadable'])}" if report["unreadable"] else ""
    blank = f", {report['missing_images']:,} missing images" if report["missing_images"] else ""
    console.print(
        f"{report['solutions']:,} solutions of {report['steps']:,} steps{unreadable}{blank}",
        soft_wrap=True,
        markup=False,
    )
    whole = len(solutions) == STEP_BENCHMARKS[bench].total.solutions
    command = f"proxygrm eval score --bench {bench} --answers {shlex.quote(str(out / ANSWERS))}"
    console.print(command + ("" if whole else " --partial"), soft_wrap=True, markup=False)
