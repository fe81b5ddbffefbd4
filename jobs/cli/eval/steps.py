"""Step benchmarks on the command line: `proxygrm eval score --bench visualprocessbench`."""

from __future__ import annotations

import json
from pathlib import Path

from jobs.cli.common.say import echo, secho
from proxygrm.evaluate.steps.benchmark import StepBenchmark


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
