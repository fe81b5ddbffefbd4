"""`proxygrm data ingest SOURCE PATH --out DIR`"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from data_tools.sources import SOURCES
from jobs.cli.data.steps import show_step, step_options
from proxygrm.core.errors import UserError

_HELP = f"""Turn a downloaded release into a pairs folder: OUT/pairs.parquet and OUT/images.

    Every row is kept or accounted for: OUT/ingest.json has the counts, OUT/ingest_dropped.jsonl lists each row left out
    (file, row, id, reason). The result does not depend on the number of shards; an interrupted run resumes at the first
    unfinished shard.

    \b
    SOURCE                  PATH
    {"".join(f"{name:<24}{description}{chr(10)}    " for name, description in SOURCES.items())}
    \b
    A line of preference-jsonl:
      {{"id": "7", "question": "...", "chosen": "...", "rejected": "...", "images": ["a.png"]}}
    or, instead of chosen and rejected:  "response_1": "...", "response_2": "...", "label": 2
    id, images (or image), source, license and category are optional.

    \b
    Several machines: run each of  --shard 1/8 ... --shard 8/8,  then once  --shards 8  to merge.
    """


@click.command(help=_HELP, short_help="A downloaded release -> a pairs folder.")
@click.argument("source", type=click.Choice(list(SOURCES)), metavar="SOURCE")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The pairs folder to write.")
@click.option(
    "--images-root", type=click.Path(path_type=Path), help="Folder of the image paths.  [the folder of the file]"
)
@click.option(
    "--missing-images",
    type=click.Choice(["refuse", "drop", "blank"]),
    help="A row with a missing image: fail, drop it as bad, or use a grey image.  [benchmark: refuse; else: drop]",
)
@click.option("--limit", type=click.IntRange(1), help="Ingest only the first rows.")
@click.option("--license", default="", metavar="TAG", help="Licence of all pairs.  [that of the source]")
@click.option(
    "--source-option", multiple=True, metavar="NAME=VALUE", help="Option of the source, e.g. pairs=gap; repeatable."
)
@step_options
def ingest(
    source: str,
    path: Path,
    out: Path,
    images_root: Path | None,
    missing_images: Literal["refuse", "drop", "blank"] | None,
    limit: int | None,
    license: str,
    source_option: tuple[str, ...],
    shards: int | None,
    shard: str | None,
    workers: int | None,
    max_bad: float,
) -> None:
    from data_tools.ingest.run import ingest_step

    options = dict(map(_name_and_value, source_option))
    if len(options) < len(source_option):
        raise UserError(
            f"--source-option gives one name twice: {', '.join(source_option)}; give each once",
            code="option.repeated-name", option="--source-option", value=list(source_option),
        )  # fmt: skip
    step = ingest_step(
        source, path, out, images_root=images_root, missing_images=missing_images, limit=limit, max_bad=max_bad,
        license=license, source_options=options,
    )  # fmt: skip
    again = "delete ingest.json there to ingest again"
    show_step(step, report_table, out / "pairs.parquet", again, shards, shard, workers)


def _name_and_value(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise UserError(
            f"--source-option {text!r} is not NAME=VALUE, e.g. pairs=gap",
            code="option.bad-value", option="--source-option", value=text,
        )  # fmt: skip
    return name, value


def report_table(report: dict[str, Any]) -> Any:
    """Rows read and kept, and the reasons for the others."""
    from rich.table import Table

    table = Table(title=f"ingest {report['source']}", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("read", f"{report['read']:,}")
    table.add_row("kept", f"{report['kept']:,}")
    for kind in ("bad", "dropped", "notes"):
        for reason, count in report[kind].items():
            table.add_row(f"{'note' if kind == 'notes' else kind}: {reason.replace('_', ' ')}", f"{count:,}")
    table.add_row("better response is 1, is 2", f"{report['labels']['1']:,}, {report['labels']['2']:,}")
    table.add_row("images", f"{report['images']:,}")
    return table
