"""`proxygrm data convert TO INPUT --out FILE`"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

import click

from jobs.cli.common.options import refuse_idle
from jobs.cli.data.steps import run_step, step_options

_FILE = click.Path(path_type=Path)


@click.command(short_help="A pairs folder -> files for verl, ms-swift or a benchmark script.")
@click.argument(
    "to",
    type=click.Choice(["verl", "verl-r1", "swift-grm", "swift-proxy", "swift-r1", "swift-rm", "bench"]),
    metavar="TO",
)
@click.argument("source", type=_FILE, metavar="INPUT")
@click.option("--out", type=_FILE, required=True, help="The file to write: .parquet for verl, .jsonl for the others.")
@click.option(
    "--critiques",
    type=_FILE,
    multiple=True,
    help="Critiques, for ms-swift: file or folder; repeatable.",
)
@click.option(
    "--images",
    type=click.Choice(["bytes", "path"]),
    default="bytes",
    show_default=True,
    help="In verl's parquet: the bytes of the images, or their paths.",
)
@click.option("--split", default="train", show_default=True, help="Name of the split in verl's extra_info.")
@click.option("--images-root", type=_FILE, help="Folder of the image paths in a JSONL.  [its folder]")
@click.option(
    "--missing-images",
    type=click.Choice(["refuse", "drop", "blank"]),
    default="drop",
    show_default=True,
    help="A row with a missing image: fail, drop it as bad, or use a grey image.",
)
@step_options
def convert(
    to: str,
    source: Path,
    out: Path,
    critiques: tuple[Path, ...],
    images: str,
    split: str,
    images_root: Path | None,
    missing_images: Literal["refuse", "drop", "blank"],
    shards: int | None,
    shard: str | None,
    workers: int | None,
    max_bad: float,
) -> None:
    """Convert a pairs folder into a file for a trainer.

    \b
    verl         parquet for RL of the reward model; INPUT may also be a preference JSONL
    verl-r1      the same, asking for a judgement by R1-Reward's contract
    swift-grm    ms-swift JSONL: pair -> the teacher's critique        (needs --critiques)
    swift-proxy  ms-swift JSONL: pair and rubric -> thought, verdict   (needs --critiques)
    swift-r1     ms-swift JSONL: pair -> R1-Reward's judgement         (needs --critiques)
    swift-rm     ms-swift JSONL: question -> the better and the worse response
    bench        JSONL {id, prompt, chosen, rejected, image}

    \b
    A line of a preference JSONL:
      {"id": "7", "question": "...", "chosen": "...", "rejected": "...", "images": ["a.png"]}

    FILE.report.json has the counts, FILE.dropped.jsonl lists the rows left out. For sets of given sizes that share no
    image, use `proxygrm data split`.
    """
    from data_tools.export.convert import LINES, Target, convert_step, dropped_rows
    from data_tools.filters.difficulty import critique_files
    from jobs.cli.common.console import out as console

    refuse_idle("images split", f"with {to}, only with verl", unless=to in ("verl", "verl-r1"))
    refuse_idle("images_root", "with a pairs folder, which has its own images", unless=source.suffix.lower() in LINES)
    step = convert_step(
        cast(Target, to), source, out, critiques=critique_files(critiques),
        images=cast(Literal["bytes", "path"], images), split=split, images_root=images_root,
        missing_images=missing_images, max_bad=max_bad,
    )  # fmt: skip
    already_done = step.finished() is not None
    report = run_step(step, shards, shard, workers)
    if report is not None:
        excluded = "".join(
            f", {kind}: {reason.replace('_', ' ')} {count:,}" for kind, reason, count in dropped_rows(report)
        )
        note = " (already done; delete it to convert again)" if already_done else ""
        console.print(f"{out}: {report['kept']:,} of {report['read']:,} rows{excluded}{note}", soft_wrap=True)
