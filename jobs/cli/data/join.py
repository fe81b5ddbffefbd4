"""`proxygrm data join PAIRS PAIRS... --out DIR`"""

from __future__ import annotations

from pathlib import Path

import click

_PATH = click.Path(path_type=Path)


@click.command(short_help="Several pairs folders -> one.")
@click.argument("folders", type=_PATH, nargs=-1, required=True, metavar="PAIRS PAIRS...")
@click.option("--out", type=_PATH, required=True, help="The pairs folder to write.")
def join(folders: tuple[Path, ...], out: Path) -> None:
    """Join the pairs folders PAIRS, in this order, into the pairs folder OUT.

    A filter then sees repeats across releases, and a split has every source in its sets. Ids and response order are
    kept; images are linked instead of copied where the file system can. OUT/join.json has the counts.

    \b
    proxygrm data join data/llava_critic data/rlaif_v data/rlhf_v data/mmif --out data/all
    """
    from rich.table import Table

    from data_tools.ingest.join import join as join_folders
    from jobs.cli.common.console import out as console
    from jobs.cli.common.quiet import quiet

    with quiet("data join"):
        report = join_folders(folders, out)
    table = Table(title="join", title_justify="left", show_header=False)
    table.add_column("")
    table.add_column("", justify="right")
    for folder, rows in report["folders"].items():
        table.add_row(folder, f"{rows:,}")
    table.add_row("all", f"{report['kept']:,}")
    table.add_row("better response is 1, is 2", f"{report['labels']['1']:,}, {report['labels']['2']:,}")
    table.add_row("images", f"{report['images']:,}")
    console.print(table)
    console.print(f"{out / 'pairs.parquet'}", soft_wrap=True)
