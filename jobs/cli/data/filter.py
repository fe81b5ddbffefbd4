"""`proxygrm data filter PAIRS --out DIR`"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from jobs.cli.common.options import refuse_idle
from jobs.cli.data.steps import run_step, step_options
from proxygrm.core.errors import UserError

_PATH = click.Path(path_type=Path)


@click.command("filter", short_help="A pairs folder without poor, repeated and benchmark rows.")
@click.argument("pairs", type=_PATH)
@click.option("--out", type=_PATH, required=True, help="The pairs folder to write.")
@click.option("--quality/--no-quality", default=None, help="Look at texts and picture headers.  [on]")
@click.option("--near-duplicates", metavar="SHARE|off", help="Share of common text that makes rows one.  [0.8]")
@click.option("--picture-distance", type=int, help="Bits of 64 by which pictures of near-duplicates differ.  [4]")
@click.option("--critiques", type=_PATH, multiple=True, help="The teacher's critiques, a file or folder; repeatable.")
@click.option("--agreement", metavar="LOW:HIGH", help="Share of right critiques that is kept.  [0:1, report only]")
@click.option("--against", type=_PATH, multiple=True, help="Pairs folder of a benchmark to keep out; repeatable.")
@click.option("--settings", type=_PATH, metavar="FILE.toml", help="All thresholds: docs/data-filters.md.")
@step_options
def filter_pairs(
    pairs: Path,
    out: Path,
    quality: bool | None,
    near_duplicates: str | None,
    picture_distance: int | None,
    critiques: tuple[Path, ...],
    agreement: str | None,
    against: tuple[Path, ...],
    settings: Path | None,
    shards: int | None,
    shard: str | None,
    workers: int | None,
    max_bad: float,
) -> None:
    """Write the rows of the pairs folder PAIRS that pass every filter into the pairs folder OUT.

    A row leaves for the first reason it meets: quality, then --against, then --critiques, then near-duplicates, of
    which the first in file order stays. OUT/filter.json counts, OUT/filter_dropped.jsonl names each row that left
    and what it collides with. The result is the same however many shards the work was cut in; a run that was stopped
    goes on at the first shard that is not done.

    \b
    proxygrm data filter pairs/rlaif-v --out pairs/clean --against pairs/vl-rewardbench
    """
    from data_tools.filters.run import filter_step
    from data_tools.filters.settings import read_settings
    from jobs.cli.common.console import out as console

    if agreement and not critiques:
        raise UserError("--agreement needs critiques to count; give --critiques DIR")
    changes: dict[str, Any] = {}
    if quality is not None:
        changes["quality"] = {} if quality else False
    if near_duplicates is not None:
        changes["similarity"] = _similarity(near_duplicates)
    if picture_distance is not None:
        refuse_idle("picture_distance", "with --near-duplicates off", unless=changes.get("similarity") is not False)
        changes["similarity"] = {**changes.get("similarity", {}), "picture_distance": picture_distance}
    if agreement:
        changes["difficulty"] = {"agreement": _range(agreement)}
    needs = {"difficulty": ("--critiques", critiques), "decontamination": ("--against", against)}
    idle = {table: option for table, (option, paths) in needs.items() if not paths}
    step = filter_step(
        pairs, out, read_settings(settings, changes, idle), critiques=critiques, against=against, max_bad=max_bad
    )
    before = step.finished() is not None
    report = run_step(step, shards, shard, workers)
    if report is not None:
        console.print(table(report))
        again = " (was done before; delete filter.json there to do it again)" if before else ""
        console.print(f"{out / 'pairs.parquet'}{again}", soft_wrap=True)


def _similarity(text: str) -> dict[str, float] | bool:
    if text == "off":
        return False
    try:
        return {"threshold": float(text)}
    except ValueError:
        raise UserError(f"--near-duplicates {text!r} is neither a share like 0.8 nor off") from None


def _range(text: str) -> list[float]:
    try:
        low, high = map(float, text.split(":"))
    except ValueError:
        raise UserError(f"--agreement {text!r} is not LOW:HIGH, e.g. 0.0:0.99") from None
    return [low, high]


def table(report: dict[str, Any]) -> Any:
    """Rows in and out, and why the others left."""
    from rich.table import Table

    read = report["read"]
    shown = Table(title=f"filter {report['pairs']}", title_justify="left")
    shown.add_column("")
    shown.add_column("rows", justify="right")
    shown.add_column("share", justify="right")

    def line(name: str, count: int, style: str = "") -> None:
        shown.add_row(name, f"{count:,}", f"{count / read:.1%}" if read else "", style=style)

    line("in", read)
    for reason, count in sorted((report["bad"] | report["dropped"]).items(), key=lambda item: (-item[1], item[0])):
        line(f"- {reason.replace('_', ' ')}", count)
    line("out", report["kept"], "bold")
    shown.add_section()
    shown.add_row("better response is 1, is 2", f"{report['labels']['1']:,}, {report['labels']['2']:,}", "")
    shown.add_row("pictures", f"{report['pictures']:,}", "")
    difficulty = report.get("difficulty")
    if difficulty:
        mean = difficulty["mean_agreement"]
        shown.add_row("teacher's mean agreement", "none" if mean is None else f"{mean:.3f}", "")
        shown.add_row("pairs without critiques", f"{difficulty['pairs_without_samples']:,}", "")
    return shown
