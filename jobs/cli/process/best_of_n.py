"""`proxygrm process best-of-n`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from jobs.cli.common.options import refuse_idle
from jobs.cli.common.say import echo
from jobs.cli.process.options import COMPAT


@click.command("best-of-n", short_help="Scored solutions -> how good the chosen ones are.")
@click.argument("scored", type=click.Path(path_type=Path))
@click.option(
    "--scores", type=click.Choice(["final", "raw"]), default="final", show_default=True, help="Gated, or as judged."
)
@COMPAT
@click.option("--json", "as_json", is_flag=True, help="Figures as JSON on standard output.")
def best_of_n_command(scored: Path, scores: str, compat: str | None, as_json: bool) -> None:
    """Choose among the candidate solutions of each question by their step scores.

    \b
    SCORED  {"answer", "question", "datasource", "vlmresponse1": {"finalanswer": "B", "eval":
            {"raw_step_scores": [1, -1], "final_step_scores": [0.8, -1]}}, "vlmresponse2": ...}
            a question per line, as `process score` writes it

    \b
    proxygrm process best-of-n scored.jsonl
    proxygrm process best-of-n scored.jsonl --scores raw --json

    For each data source and OVERALL, of N candidates: pass (one is right, unbiased), bon (the best by each aggregate is
    right), self_consistency (the most frequent answer is), random; mean and oracle as bounds; each an expectation over
    all sets of N candidates, with a bootstrap interval over questions. Candidates that tie share the choice. `plain`
    takes the first N instead. A candidate without a score or an answer is counted, and chosen last.

    --compat upstream counts as the released metric: raw scores, eight candidates, a tie is right if one of it is, and
    Pass@1 at the position that turned out best.
    """
    from jobs.cli.common.console import out as console

    refuse_idle("scores", "with --compat upstream, which reads raw scores", unless=compat is None)
    if compat:
        from proxygrm.evaluate.best_of_n.released import released_best_of_n

        released = released_best_of_n(scored)
        if as_json:
            echo(json.dumps(released, indent=2))
            return
        from proxygrm.report.tables.step_best_of_n import show_released

        show_released(released, console)
        return
    from proxygrm.evaluate.best_of_n.curves import best_of_n
    from proxygrm.evaluate.best_of_n.solutions import read_solutions

    solutions = read_solutions(scored, scores)
    figures = best_of_n(solutions.questions)
    for what, count in solutions.counts.items():
        if count:
            echo(f"{scored}: {count:,} {what}", err=True)
    if as_json:
        echo(json.dumps(figures, indent=2))
        return
    from proxygrm.report.tables.step_best_of_n import show

    show(figures, console)
