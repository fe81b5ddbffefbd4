"""`proxygrm eval best-of-n`: rank the candidates of each prompt, by a reward model of any kind, and keep the best."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from jobs.cli.common.options import refuse_idle
from jobs.cli.common.say import echo
from jobs.cli.eval.judges import JUDGING, Calls, judge_options, judges_of
from proxygrm.core.errors import UserError
from proxygrm.process.aggregate import AGGREGATORS

_FILE = click.Path(path_type=Path)


@click.command("best-of-n")
@click.argument("candidates", type=_FILE)
@click.argument("judgements", type=_FILE, required=False)
@click.option(
    "--judge", default="", metavar="PATH|URL", help="Write JUDGEMENTS first, with this checkpoint or endpoint."
)
@click.option("--max-tokens", type=click.IntRange(1), default=8192, show_default=True, help="Tokens of a critique.")
@judge_options
@click.option("--reference", is_flag=True, help="Rank by wins against the reference instead of each other.")
@click.option(
    "--steps",
    type=click.Choice(list(AGGREGATORS)),
    default=None,
    help="Rank what `process score` wrote by this aggregate of its step scores; without JUDGEMENTS.",
)
@click.option("--out", type=_FILE, default=None, help="Write the ranking of every prompt (JSONL).")
@click.option("--sft", type=_FILE, default=None, help="Write the best candidate of every prompt as rows to train on.")
@click.option("--json", "as_json", is_flag=True, help="Figures as JSON on standard output.")
def best_of_n(
    candidates: Path,
    judgements: Path | None,
    judge: str,
    max_tokens: int,
    reference: bool,
    steps: str | None,
    out: Path | None,
    sft: Path | None,
    as_json: bool,
    models: tuple[str, ...],
    calls: Calls,
    **settings: Any,
) -> None:
    """Rank candidates by a reward model; accuracy@N for N = 1, 2, 4, 8, ...; keep the best ones to train on.

    \b
    CANDIDATES  {"id", "candidates": [{"response", "correct"}, ...]}              one prompt per line
    JUDGEMENTS  {"id", "first": 0, "second": 3, "verdict": 1 | 2 | "tie" | null}   one judgement per line

    \b
    proxygrm eval best-of-n candidates.jsonl judged.jsonl --judge RUN/STAGE/policy --sft chosen.jsonl
    proxygrm eval best-of-n candidates.jsonl judged.jsonl --json
    proxygrm eval best-of-n scored.jsonl --steps minimum --sft chosen.jsonl

    With --judge, a generative or scalar model, candidates also need "question" and "image" (a path relative to the
    file), and every two of a prompt are judged in both orders: N (N - 1) judgements, or 2 N against a "reference". The
    same command resumes. A process model scores with `proxygrm process score`, and --steps ranks by what it wrote.

    A tie or an unparsed verdict is half a win; candidates with the same highest score share the choice. --sft takes the
    first of them, and leaves out, and counts, prompts with one candidate and those whose candidates all tie.
    """
    from proxygrm.evaluate.best_of_n.ranking import ranked_by_judgements, ranking_figures

    refuse_idle(f"max_tokens {JUDGING}", "without --judge", unless=bool(judge))
    if (steps is None) == (judgements is None) or (steps and (judge or reference)):
        raise UserError(
            "eval best-of-n: give JUDGEMENTS (which --judge writes), or --steps for what `process score` wrote",
            code="option.conflict",
            options=["JUDGEMENTS", "--steps"],
        )
    _check_outputs([each for each in (candidates, judgements) if each], {"--out": out, "--sft": sft})
    ranked_by = ""
    if judgements is None:
        from proxygrm.evaluate.best_of_n.step_ranking import rank_by_steps

        ranked, unscored = rank_by_steps(candidates, str(steps))
        ranked_by = f"the steps' {steps}"
        if unscored:
            echo(f"{unscored:,} candidates have no score: they lose to those that have one", err=True)
    else:
        if judge:
            counts = _judge(candidates, judgements, judge, max_tokens, reference, models, calls, settings)
            echo(counts, err=as_json)
        ranked = ranked_by_judgements(candidates, judgements, reference)
    figures = ranking_figures(ranked, reference, out, ranked_by)
    if sft:
        from proxygrm.evaluate.best_of_n.selection import write_chosen
        from proxygrm.report.numbers import counts_text

        chosen = write_chosen(candidates, ranked, sft, reference)
        figures["sft"] = dict(chosen)
        echo(f"{sft}: {counts_text(chosen)}", err=as_json)
    if as_json:
        echo(json.dumps(figures, indent=2))
        return
    from jobs.cli.common.console import out as console
    from proxygrm.report.tables.best_of_n import show

    show(figures, console)


def _check_outputs(inputs: list[Path], outputs: dict[str, Path | None]) -> None:
    """Before any call is made. UserError for one that is a folder, an input, or another output."""
    from proxygrm.core.files.output_file import check_output

    given = {option: path for option, path in outputs.items() if path}
    for option, path in given.items():
        check_output(path, inputs, option)
    if len({path.resolve() for path in given.values()}) < len(given):
        raise UserError(
            f"eval best-of-n: {' and '.join(given)} are one file; name two", code="option.conflict", options=[*given]
        )


def _judge(
    candidates: Path,
    judgements: Path,
    judge: str,
    max_tokens: int,
    reference: bool,
    models: tuple[str, ...],
    calls: Calls,
    settings: dict[str, Any],
) -> str:
    """Write the judgements; returns their counts in words."""
    from jobs.cli.common.quiet import quiet
    from jobs.cli.eval.execute import ProgressBar
    from proxygrm.evaluate.best_of_n.judge import judge_candidates
    from proxygrm.evaluate.judges.select import judge_for
    from proxygrm.evaluate.settings import EvaluateSettings
    from proxygrm.report.numbers import counts_text

    (source,) = judges_of({"judge": judge}, models, calls).values()
    evaluate = EvaluateSettings(max_tokens=max_tokens, **settings)
    with quiet("eval best-of-n"), ProgressBar() as progress:
        counts = judge_candidates(
            judge_for(source, evaluate), candidates, judgements, reference, evaluate.missing_images, progress
        )
    return counts_text(counts)
