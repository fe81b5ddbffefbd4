"""`proxygrm data solutions RELEASE --out DIR`"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from data_tools.solutions.settings import APART, OUTCOMES
from data_tools.sources.visualprm import AFTER_ERROR, KEEP
from jobs.cli.data.steps import show_step, step_options

_PATH = click.Path(path_type=Path)


@click.command("solutions", short_help="VisualPRM400K -> solutions with a label per step, and pairs.")
@click.argument("release", type=_PATH)
@click.option("--out", type=_PATH, required=True, help="The solutions folder to write.")
@click.option("--subset", multiple=True, metavar="NAME", help="Only this subset; repeatable.")
@click.option("--images-root", type=_PATH, help="Folder of all images.  [that of the release]")
@click.option(
    "--threshold", type=float, default=0.0, show_default=True, help="Scored steps are right above it (raw release)."
)
@click.option(
    "--after-error",
    type=click.Choice(AFTER_ERROR),
    default=KEEP,
    show_default=True,
    help="Steps after the first '-' of a conversation: as released, or unknown.",
)
@click.option(
    "--outcomes",
    type=click.Choice(OUTCOMES),
    default=APART,
    show_default=True,
    help="Rows with one label of the whole response: in a file of their own, or solutions of unknown steps.",
)
@click.option("--questions", type=click.IntRange(0), default=0, help="Draw so many questions.  [all]")
@click.option("--paired-only", is_flag=True, help="Keep only solutions that are in a pair.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Which questions are drawn.")
@step_options
def solutions(
    release: Path,
    out: Path,
    subset: tuple[str, ...],
    images_root: Path | None,
    threshold: float,
    after_error: str,
    outcomes: str,
    questions: int,
    paired_only: bool,
    seed: int,
    shards: int | None,
    shard: str | None,
    workers: int | None,
    max_bad: float,
) -> None:
    """Write OUT/solutions.jsonl, OUT/pairs.jsonl and OUT/images from VisualPRM400K, -v1.1 or -v1.1-Raw.

    RELEASE is the unpacked folder, or one of its annotation files. A solution has a label for each step: 1, -1, or null
    where the release did not measure it. A pair is a right and a wrong solution of one question about the same images.
    OUT/report.json counts every row, OUT/dropped.jsonl lists each one left out. The result does not depend on the
    number of shards; an interrupted run resumes at the first unfinished shard.

    \b
    proxygrm data solutions /data/VisualPRM400K-v1.1 --subset GeomVerse --subset UniGeo --out data/solutions
    """
    from data_tools.solutions.run import solutions_step
    from data_tools.solutions.settings import SolutionOptions

    step = solutions_step(
        release,
        out,
        SolutionOptions(threshold, after_error, outcomes, questions, paired_only, seed),
        subsets=subset,
        images_root=images_root,
        max_bad=max_bad,
    )
    show_step(step, report_table, step.result, "delete report.json there to write it again", shards, shard, workers)


def report_table(report: dict[str, Any]) -> Any:
    """What each subset gave; the labels, the pairs and what was left out."""
    from rich.table import Table

    from proxygrm.report.numbers import counts_text

    table = Table("subset", "rows", "solutions", title="solutions", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, rows in report["subsets"].items():
        length = report["other_lengths"].get(name)
        read = f"{rows['read']:,}" + (f" (meta.json: {length:,})" if length is not None else "")
        table.add_row(name, read, f"{rows['kept']:,}")
    table.add_section()
    table.add_row("all", f"{report['read']:,}", f"{report['kept']:,}", style="bold")
    lost = counts_text(report["bad"] | report["dropped"])
    counted = {name: counts_text(report[name]) for name in ("solutions", "steps")}
    table.caption = "; ".join(
        [
            *(f"{name}: {counts}" for name, counts in counted.items()),
            f"{report['pairs']:,} pairs, {report['questions']:,} questions, {report['images']:,} images",
            *([f"left out: {lost}"] if lost else []),
        ]
    )
    table.caption_justify = "left"
    return table
