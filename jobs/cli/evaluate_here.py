"""`proxygrm evaluate`: a checkpoint judges a pairs folder on this machine, with the chain's own summary.

`proxygrm eval run` judges benchmarks, with any judge, resumably and as job arrays.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from jobs.cli.eval.judges import TRUST_OPTION


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("pairs", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for judgements and summary.")
@click.option(
    "--proxy",
    type=click.Path(path_type=Path),
    default=None,
    help="Let this model judge by the rubrics too.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--limit", "max_pairs", type=click.IntRange(0), default=0, help="Only the first N pairs.")
@click.option("--max-tokens", type=click.IntRange(1), default=2048, show_default=True, help="Tokens of a critique.")
@click.option("--missing-images", type=click.Choice(["refuse", "drop", "blank"]), default="refuse", show_default=True)
@TRUST_OPTION
def evaluate(model: Path, pairs: Path, out: Path, proxy: Path | None, **settings: Any) -> None:
    """Judge PAIRS (a pairs folder, or JSONL with prompt/chosen/rejected/image) with MODEL on this machine."""
    from jobs.cli.common.console import out as console
    from jobs.cli.common.quiet import progress_bar, quiet
    from proxygrm.core.checkpoints.code import LoadableCheckpoint
    from proxygrm.evaluate.models import Evaluation, judge_models, merge_models
    from proxygrm.evaluate.settings import EvaluateSettings
    from proxygrm.report.tables.run import result_table

    for checkpoint in (model, proxy):
        if checkpoint:
            LoadableCheckpoint("--trust-remote-code", settings["trust_remote_code"])(checkpoint)
    with quiet("evaluate"), progress_bar() as bar:
        task = bar.add_task("judging")

        def on_progress(done: int, total: int, note: str) -> None:
            bar.update(task, completed=done, total=total, description=note)

        evaluation = Evaluation({model.name: model}, proxy, pairs, out / "answers", EvaluateSettings(**settings))
        judge_models(evaluation, progress=on_progress)
        merge_models(evaluation, out)
    console.print(result_table(out / "summary.json"))
