"""`proxygrm data convert TO INPUT --out FILE`"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, cast

import click

from jobs.cli.common.options import refuse_idle
from jobs.cli.data.steps import run_step, step_options

_FILE = click.Path(path_type=Path)


@click.command(short_help="A pairs folder -> files for verl, ms-swift or a benchmark script.")
@click.argument("to", type=click.Choice(["verl", "swift-grm", "swift-proxy", "bench"]), metavar="TO")
@click.argument("source", type=_FILE, metavar="INPUT")
@click.option("--out", type=_FILE, required=True, help="The file to write: .parquet for verl, .jsonl for the others.")
@click.option("--critiques", type=_FILE, multiple=True, help="The teacher's, for ms-swift: file or folder; repeatable.")
@click.option(
    "--pictures",
    type=click.Choice(["bytes", "path"]),
    default="bytes",
    show_default=True,
    help="In verl's parquet: the pictures themselves, or where they lie.",
)
@click.option("--split", default="train", show_default=True, help="Name of the split in verl's extra_info.")
@click.option("--images-root", type=_FILE, help="Where picture paths of a JSONL begin.  [its folder]")
@click.option(
    "--missing-images",
    type=click.Choice(["refuse", "drop", "blank"]),
    default="drop",
    show_default=True,
    help="A row without its image: refuse all, leave it out as bad, or show a grey one.",
)
@step_options
def convert(
    to: str,
    source: Path,
    out: Path,
    critiques: tuple[Path, ...],
    pictures: str,
    split: str,
    images_root: Path | None,
    missing_images: Literal["refuse", "drop", "blank"],
    shards: int | None,
    shard: str | None,
    workers: int | None,
    max_bad: float,
    **more: Any,
) -> None:
    """Write what a trainer reads, from a pairs folder.

    \b
    verl         parquet for RL of the reward model; INPUT may also be a JSONL of preferences
    swift-grm    ms-swift JSONL: pair -> the teacher's critique        (needs --critiques)
    swift-proxy  ms-swift JSONL: pair and rubric -> thought, verdict   (needs --critiques)
    bench        JSONL {id, prompt, chosen, rejected, image}

    \b
    A row of a JSONL of preferences:
      {"id": "7", "question": "...", "chosen": "...", "rejected": "...", "images": ["a.png"]}

    Rows that leave are counted in FILE.report.json and named in FILE.dropped.jsonl. For sets of given sizes that
    share no picture, use `proxygrm data split`.
    """
    from data_tools.export.convert import LINES, Target, convert_step, dropped_rows
    from data_tools.filters.difficulty import critique_files
    from jobs.cli.common.console import out as console

    refuse_idle("pictures split", f"on {to}: it is of verl's parquet", unless=to == "verl")
    refuse_idle("images_root", "on a pairs folder, whose pictures lie in it", unless=source.suffix.lower() in LINES)
    step = convert_step(
        cast(Target, to), source, out, critiques=critique_files(critiques),
        pictures=cast(Literal["bytes", "path"], pictures), split=split, images_root=images_root,
        missing_images=missing_images, max_bad=max_bad,
    )  # fmt: skip
    before = step.finished() is not None
    report = run_step(step, shards, shard, workers, **more)
    if report is not None:
        left = "".join(
            f", {kind}: {reason.replace('_', ' ')} {count:,}" for kind, reason, count in dropped_rows(report)
        )
        again = " (was done before; remove it to have it made again)" if before else ""
        console.print(f"{out}: {report['kept']:,} of {report['read']:,} rows{left}{again}", soft_wrap=True)
