"""`proxygrm data critic PATH --out DIR`"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from data_tools.export.critic_rows import BOTH, BOTH_ORDERS, DROP, KINDS, POSITIONS, TIES
from data_tools.ingest.image_paths import ON_MISSING, OnMissing
from jobs.cli.data.steps import show_step, step_options

_PATH = click.Path(path_type=Path)


@click.command("critic", short_help="Write the training set of a critic from LLaVA-Critic.")
@click.argument("path", type=_PATH)
@click.option("--out", type=_PATH, required=True, help="The folder to write.")
@click.option(
    "--kinds", type=click.Choice(KINDS), default=BOTH, show_default=True, help="Scores of one response, comparisons."
)
@click.option(
    "--ties", type=click.Choice(TIES), default=DROP, show_default=True, help="Comparisons of equally good responses."
)
@click.option(
    "--positions",
    type=click.Choice(POSITIONS),
    default=BOTH_ORDERS,
    show_default=True,
    help="Comparisons in both orders, or in a drawn one.",
)
@click.option("--validation", type=float, default=0.01, show_default=True, help="Share of images set aside.")
@click.option("--against", type=_PATH, multiple=True, help="Pairs folder of a benchmark to keep out; repeatable.")
@click.option(
    "--missing-images", type=click.Choice(ON_MISSING), default="drop", show_default=True, help="Rows without image."
)
@step_options
def critic(
    path: Path,
    out: Path,
    kinds: str,
    ties: str,
    positions: str,
    validation: float,
    against: tuple[Path, ...],
    missing_images: OnMissing,
    shards: int | None,
    shard: str | None,
    workers: int | None,
    max_bad: float,
) -> None:
    """Write OUT/train.jsonl and OUT/validation.jsonl for ms-swift, with the images in OUT/images.

    PATH is LLaVA-Critic-113k as released. Its rows become judgements by the contracts of `eval run`: comparisons by
    `r1` (with --ties keep by `r1-ties`), scores by `pointwise`. OUT/critic.json counts them, OUT/critic_dropped.jsonl
    lists each row left out.

    \b
    proxygrm data critic /data/llava-critic-113k --kinds pointwise --against data/vlrb --out data/critic
    """
    from data_tools.export.critic_rows import CriticOptions
    from data_tools.export.critic_set import critic_step

    step = critic_step(
        path,
        out,
        CriticOptions(kinds, ties, positions),
        validation=validation,
        against=against,
        missing_images=missing_images,
        max_bad=max_bad,
    )
    show_step(step, report_table, step.result, "delete critic.json there to write it again", shards, shard, workers)


def report_table(report: dict[str, Any]) -> Any:
    """The rows of each set by kind and answer, and what was left out."""
    from rich.table import Table

    from proxygrm.report.numbers import counts_text

    kinds = sorted({kind for rows in report["rows"].values() for kind in rows})
    table = Table("set", *kinds, title="critic", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, rows in report["rows"].items():
        table.add_row(name, *(f"{rows.get(kind, 0):,}" for kind in kinds))
    lost = counts_text(report["bad"] | report["dropped"])
    table.caption = f"{report['kept']:,} of {report['read']:,} rows used" + (f"; left out: {lost}" if lost else "")
    return table
