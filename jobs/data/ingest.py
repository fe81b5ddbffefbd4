"""`proxygrm data ingest SOURCE PATH --out DIR`"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click


@click.command()
@click.argument("source", type=click.Choice(["rlaif-v", "preference-jsonl"]))
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The pairs folder to write.")
@click.option("--missing-images", type=click.Choice(["refuse", "blank"]), default="refuse", show_default=True)
def ingest(source: str, path: Path, out: Path, missing_images: Literal["refuse", "blank"]) -> None:
    """Turn a downloaded release into a pairs folder; says what it dropped and why."""
    from data_tools import bench_jsonl, rlaif_v
    from jobs.console import out as console

    if source == "rlaif-v":
        console.print(f"{out}: {rlaif_v.ingest(path, out)}")
    else:
        console.print(f"{out}: {bench_jsonl.ingest(path, out, missing_images=missing_images)}")
