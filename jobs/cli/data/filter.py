"""`proxygrm data filter PAIRS --out DIR`"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from jobs.cli.common.options import refuse_idle
from jobs.cli.data.steps import show_step, step_options
from proxygrm.core.errors import UserError

_PATH = click.Path(path_type=Path)


@click.command("filter", short_help="Drop poor, repeated and benchmark rows from a pairs folder.")
@click.argument("pairs", type=_PATH)
@click.option("--out", type=_PATH, required=True, help="The pairs folder to write.")
@click.option("--quality/--no-quality", default=None, help="Check texts and image headers.  [on]")
@click.option("--near-duplicates", metavar="SHARE|off", help="Share of common text of near-duplicates.  [0.8]")
@click.option("--image-distance", type=int, help="Bits of 64 by which images of near-duplicates may differ.  [4]")
@click.option("--critiques", type=_PATH, multiple=True, help="The teacher's critiques: file or folder; repeatable.")
@click.option("--agreement", metavar="LOW:HIGH", help="Share of right critiques to keep.  [0:1, report only]")
@click.option("--against", type=_PATH, multiple=True, help="Pairs folder of a benchmark; repeatable.")
@click.option("--settings", type=_PATH, metavar="FILE.toml", help="All thresholds: docs/data-filters.md.")
@step_options
def filter_pairs(
    pairs: Path,
    out: Path,
    quality: bool | None,
    near_duplicates: str | None,
    image_distance: int | None,
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

    A row is dropped for the first reason that applies: quality, then --against, then --critiques, then near-duplicates,
    of which the first in file order is kept. OUT/filter.json has the counts, OUT/filter_dropped.jsonl lists each
    dropped row and what it collides with. The result does not depend on the number of shards; an interrupted run
    resumes at the first unfinished shard.

    \b
    proxygrm data filter pairs/rlaif-v --out pairs/clean --against pairs/vl-rewardbench
    """
    from data_tools.filters.run import filter_step
    from data_tools.filters.settings import read_settings

    if agreement and not critiques:
        raise UserError(
            "--agreement needs critiques; give --critiques DIR", code="option.missing", option="--critiques"
        )
    changes: dict[str, Any] = {}
    if quality is not None:
        changes["quality"] = {} if quality else False
    if near_duplicates is not None:
        changes["similarity"] = _similarity(near_duplicates)
    if image_distance is not None:
        refuse_idle("image_distance", "with --near-duplicates off", unless=changes.get("similarity") is not False)
        changes["similarity"] = {**changes.get("similarity", {}), "image_distance": image_distance}
    if agreement:
        changes["difficulty"] = {"agreement": _range(agreement)}
    needs = {"difficulty": ("--critiques", critiques), "decontamination": ("--against", against)}
    unused = {table: option for table, (option, paths) in needs.items() if not paths}
    step = filter_step(
        pairs, out, read_settings(settings, changes, unused), critiques=critiques, against=against, max_bad=max_bad
    )
    again = "delete filter.json there to filter again"
    show_step(step, report_table, out / "pairs.parquet", again, shards, shard, workers)


def _similarity(text: str) -> dict[str, float] | bool:
    if text == "off":
        return False
    try:
        return {"threshold": float(text)}
    except ValueError:
        raise UserError(
            f"--near-duplicates {text!r} is neither a share like 0.8 nor off",
            code="option.bad-value", option="--near-duplicates", value=text,
        ) from None  # fmt: skip


def _range(text: str) -> list[float]:
    try:
        low, high = map(float, text.split(":"))
    except ValueError:
        raise UserError(
            f"--agreement {text!r} is not LOW:HIGH, e.g. 0.0:0.99",
            code="option.bad-value", option="--agreement", value=text,
        ) from None  # fmt: skip
    return [low, high]


def report_table(report: dict[str, Any]) -> Any:
    """Rows read and kept, and the reasons for the others."""
    from rich.table import Table

    read = report["read"]
    table = Table(title=f"filter {report['pairs']}", title_justify="left")
    table.add_column("")
    table.add_column("rows", justify="right")
    table.add_column("share", justify="right")

    def add_line(name: str, count: int, style: str = "") -> None:
        table.add_row(name, f"{count:,}", f"{count / read:.1%}" if read else "", style=style)

    add_line("in", read)
    for reason, count in sorted((report["bad"] | report["dropped"]).items(), key=lambda item: (-item[1], item[0])):
        add_line(f"- {reason.replace('_', ' ')}", count)
    add_line("out", report["kept"], "bold")
    table.add_section()
    table.add_row("better response is 1, is 2", f"{report['labels']['1']:,}, {report['labels']['2']:,}", "")
    table.add_row("images", f"{report['images']:,}", "")
    difficulty = report.get("difficulty")
    if difficulty:
        mean = difficulty["mean_agreement"]
        table.add_row("teacher's mean agreement", "none" if mean is None else f"{mean:.3f}", "")
        table.add_row("pairs without critiques", f"{difficulty['pairs_without_samples']:,}", "")
    return table
