"""`proxygrm process calibrate`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from jobs.cli.common.say import echo
from jobs.cli.process.score import say_counts


@click.command(short_help="Scored solutions -> is a low reliability followed by wrong steps?")
@click.argument("scored", type=click.Path(path_type=Path))
@click.option(
    "--against", type=click.Choice(["steps", "answer"]), default="answer", show_default=True, help="What it should say."
)
@click.option("--bins", type=click.IntRange(1), default=5, show_default=True, help="Of equal width.")
@click.option("--svg", type=click.Path(path_type=Path), help="Draw the bins into this file.")
@click.option("--json", "as_json", is_flag=True, help="Figures as JSON on standard output.")
def calibrate(scored: Path, against: str, bins: int, svg: Path | None, as_json: bool) -> None:
    """Compare the reliability of each solution (`local_p_score`) with what is known of it.

    \b
    SCORED  rows of `process score`; for --against answer with the question's `answer`, for --against steps with
            `labels` in each response: 1 or -1 for each step, null where it is not known

    \b
    proxygrm process calibrate scored.jsonl
    proxygrm process calibrate scored.jsonl --against steps --svg reliability.svg

    With bootstrap intervals over questions: the share of right visual steps (or final answers) in bins of the
    reliability, up to 0.5 and above, AUROC, and the expected calibration error.
    """
    from typing import cast

    from jobs.cli.common.console import out as console
    from proxygrm.core.files.output_file import check_output
    from proxygrm.core.files.whole_file import write_text
    from proxygrm.evaluate.process.calibration import Against, CalibrationSettings, calibrated
    from proxygrm.report.tables.calibration import draw, show

    if svg:
        check_output(svg, [scored], "--svg")
    figures = calibrated(scored, CalibrationSettings(cast(Against, against), bins))
    if svg:
        write_text(svg, draw(figures))
    if as_json:
        echo(json.dumps(figures, indent=2))
    else:
        show(figures, console)
    say_counts({"left_out": figures["left_out"]})
