"""`proxygrm data ingest SOURCE PATH --out DIR`"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from data_tools.sources import SOURCES
from jobs.cli.data.steps import run_step, step_options

_HELP = f"""Turn a downloaded release into a pairs folder: OUT/pairs.parquet and OUT/images.

    Every row that is read is kept or accounted for: OUT/ingest.json counts, OUT/ingest_dropped.jsonl names each row
    that left (file, row, id, reason). The result is the same however many shards it was cut in; a run that was
    stopped goes on at the first shard that is not done.

    \b
    SOURCE                  PATH
    {"".join(f"{name:<24}{give}{chr(10)}    " for name, give in SOURCES.items())}
    \b
    A row of preference-jsonl:
      {{"id": "7", "question": "...", "chosen": "...", "rejected": "...", "images": ["a.png"]}}
    or, instead of chosen and rejected:  "response_1": "...", "response_2": "...", "label": 2
    id, images (or image), source, license and category may be left out.

    \b
    Several machines: run each of  --shard 1/8 ... --shard 8/8,  then once  --shards 8  to merge.
    """


@click.command(help=_HELP, short_help="A downloaded release -> a pairs folder.")
@click.argument("source", type=click.Choice(list(SOURCES)), metavar="SOURCE")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The pairs folder to write.")
@click.option(
    "--images-root", type=click.Path(path_type=Path), help="Where picture paths begin.  [the folder of the file]"
)
@click.option(
    "--missing-images",
    type=click.Choice(["refuse", "drop", "blank"]),
    help="A path without a picture: refuse all, drop the row as bad, or judge blind.  [benchmark: refuse; else: drop]",
)
@click.option("--limit", type=click.IntRange(1), help="Only the first rows.")
@click.option("--license", default="", metavar="TAG", help="Licence of all pairs.  [as the source says]")
@step_options
def ingest(
    source: str,
    path: Path,
    out: Path,
    images_root: Path | None,
    missing_images: Literal["refuse", "drop", "blank"] | None,
    limit: int | None,
    license: str,
    shards: int | None,
    shard: str | None,
    workers: int | None,
    max_bad: float,
    **more: Any,
) -> None:
    from data_tools.ingest.run import ingest_step
    from jobs.cli.common.console import out as console

    step = ingest_step(
        source, path, out, images_root=images_root, missing_images=missing_images, limit=limit, max_bad=max_bad,
        license=license,
    )  # fmt: skip
    before = step.finished() is not None
    report = run_step(step, shards, shard, workers, **more)
    if report is not None:
        console.print(table(report))
        again = " (was done before; delete ingest.json there to do it again)" if before else ""
        console.print(f"{out / 'pairs.parquet'}{again}", soft_wrap=True)


def table(report: dict[str, Any]) -> Any:
    """Rows read and kept, and why the others left."""
    from rich.table import Table

    shown = Table(title=f"ingest {report['source']}", title_justify="left", show_header=False)
    shown.add_column()
    shown.add_column(justify="right")
    shown.add_row("read", f"{report['read']:,}")
    shown.add_row("kept", f"{report['kept']:,}")
    for kind in ("bad", "dropped", "notes"):
        for reason, count in report[kind].items():
            shown.add_row(f"{'note' if kind == 'notes' else kind}: {reason.replace('_', ' ')}", f"{count:,}")
    shown.add_row("better response is 1, is 2", f"{report['labels']['1']:,}, {report['labels']['2']:,}")
    shown.add_row("pictures", f"{report['pictures']:,}")
    return shown
