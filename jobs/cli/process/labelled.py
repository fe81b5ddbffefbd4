"""`proxygrm process labelled`."""

from __future__ import annotations

from pathlib import Path

import click

from jobs.cli.common.say import echo
from jobs.cli.process.options import OUTPUT

_PATH = click.Path(path_type=Path)


@click.command(short_help="Labelled solutions and judgements -> rows to score, with the label of each step.")
@click.argument("solutions", type=_PATH)
@click.option("--judgements", type=_PATH, required=True, help="What `process judge` wrote.")
@click.option("--questions", type=click.IntRange(0), default=1000, show_default=True, help="The first so many; 0: all.")
@OUTPUT
def labelled(solutions: Path, judgements: Path, questions: int, target: Path) -> None:
    """Make of SOLUTIONS (a folder of `proxygrm data solutions`) rows that can be scored, to see whether a low
    reliability is followed by wrong visual steps.

    \b
    Out: {"question", "image", "vlmresponse1": {"reasoningprocess", "finalanswer": null, "labels"}, ...}
    proxygrm process labelled data/solutions --judgements data/judgements --output labelled.jsonl
    proxygrm process score --input labelled.jsonl --images-root data/solutions --output scored.jsonl --judge CHECKPOINT
    proxygrm process calibrate scored.jsonl --against steps

    Which steps lean on the image is what the teacher says; the labels are the release's. Take solutions that nothing
    was trained on.
    """
    from proxygrm.evaluate.process.labelled import write_labelled
    from proxygrm.report.numbers import counts_text

    echo(f"{counts_text(write_labelled(solutions, judgements, target, questions))} -> {target}", err=True)
