"""`proxygrm eval ensemble`: one score file from those of several scalar reward models."""

from __future__ import annotations

from pathlib import Path

import click

from jobs.cli.common.say import echo
from proxygrm.evaluate.ensemble.combine import MEAN, WEIGHTS

_FILE = click.Path(path_type=Path)


@click.command(short_help="Scores of several scalar reward models -> their weighted mean.")
@click.argument("scores", type=_FILE, nargs=-1, required=True, metavar="SCORES...")
@click.option("--weights", type=click.Choice(WEIGHTS), default=MEAN, show_default=True)
@click.option("--validation", type=_FILE, multiple=True, help="Scores of other pairs; once per judge, in order.")
@click.option("--text-only", type=_FILE, help="Scores of a judge of text, for the pairs without an image.")
@click.option("--out", type=_FILE, required=True, help="The score file to write.")
def ensemble(
    scores: tuple[Path, ...], weights: str, validation: tuple[Path, ...], text_only: Path | None, out: Path
) -> None:
    """Combine SCORES of scalar reward models over the same pairs; no GPU is needed.

    \b
    proxygrm eval ensemble a.jsonl b.jsonl --out both.jsonl
    proxygrm eval ensemble a.jsonl b.jsonl --weights margin --validation va.jsonl --validation vb.jsonl --out both.jsonl

    \b
    mean          of the scores
    accuracy      weighted by each judge's accuracy on its validation pairs (a tie is wrong)
    margin        weighted by its mean of (better - worse) there, at least 0
    standardised  mean of (score - mean) / deviation, over the validation file, else the file itself

    SCORES are score files, as `eval run --judge` takes them, or answers.jsonl of `eval run` for scalar judges. OUT has
    the layout of the first: `eval score --answers` reads that of rewards and of answers.jsonl.
    """
    from proxygrm.evaluate.ensemble.combine import combine

    made = combine(scores, out, weights, validation, text_only)
    shares = ", ".join(f"{path} {share:.4g}" for path, share in made.weights.items())
    text = f"; {made.text_only:,} by {text_only}" if text_only else ""
    echo(f"{out}: {made.pairs:,} pairs; weights: {shares}{text}")
