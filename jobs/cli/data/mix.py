"""`proxygrm data mix SPEC --out DIR`"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from jobs.cli.data.steps import show_step, step_options

_PATH = click.Path(path_type=Path)


@click.command("mix", short_help="Mix pairs folders of several sources by a spec.")
@click.argument("spec")
@click.option("--out", type=_PATH, required=True, help="The pairs folder to write.")
@click.option("--root", type=_PATH, help="Folder of the spec's relative paths.  [the current one]")
@click.option("--only", multiple=True, metavar="SOURCE", help="Use only this source of the spec; repeatable.")
@click.option("--seed", type=click.IntRange(0), help="Which rows the caps take.  [the spec's]")
@step_options
def mix(
    spec: str,
    out: Path,
    root: Path | None,
    only: tuple[str, ...],
    seed: int | None,
    shards: int | None,
    shard: str | None,
    workers: int | None,
    max_bad: float,
) -> None:
    """Write the mixture SPEC, a TOML file or the name of a shipped one, into the pairs folder OUT.

    Rows of a benchmark and repeats within and across the sources are left out, then what is over the caps and weights.
    OUT/mix.json counts what each source gave and lost and why, OUT/mix_dropped.jsonl lists each row left out. The
    result does not depend on the number of shards; an interrupted run resumes at the first unfinished shard.

    \b
    proxygrm data mix base-reward --root data --out data/mixture
    """
    from data_tools.mix.run import mix_step
    from data_tools.mix.spec import read_spec

    step = mix_step(read_spec(spec, root, only, seed), out, max_bad=max_bad)
    show_step(step, report_table, out / "pairs.parquet", "delete mix.json there to mix again", shards, shard, workers)


def report_table(report: dict[str, Any]) -> Any:
    """What each source had, gave and lost, and its share of the mixture."""
    from rich.table import Table

    table = Table("source", "rows", "kept", "share", "lost", title="mixture", title_justify="left")
    for column in table.columns[1:4]:
        column.justify = "right"
    for name, source in report["sources"].items():
        losses = sorted(source["lost"].items(), key=lambda item: (-item[1], item[0]))
        lost = ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in losses)
        share = f"{source['kept'] / report['kept']:.1%}" if report["kept"] else ""
        table.add_row(name, f"{source['read']:,}", f"{source['kept']:,}", share, lost)
    table.add_section()
    table.add_row("all", f"{report['read']:,}", f"{report['kept']:,}", "", style="bold")
    labels = report["labels"]
    lines = [f"better response is 1, is 2: {labels['1']:,}, {labels['2']:,}; images: {report['images']:,}"]
    for name, source in report["sources"].items():
        if source.get("not_there"):  # a report of an earlier version has none
            lines.append(f"{name} has no row of {', '.join(source['not_there'])}, which `without` leaves out")
    table.caption = "\n".join(lines)
    return table
