"""`proxygrm ablate`: what a spec's cells are, sending them, and their results in one table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from jobs.cli.common.console import of_run, out
from jobs.cli.common.say import echo
from jobs.engine.request import ablation_of
from jobs.engine.run_folder.ledger import read_json, record_folder, write_json
from jobs.engine.sweep import Cell
from jobs.recipes import shipped
from proxygrm.core.files.owner import refuse_foreign

FIGURES = ("accuracy", "both_orders_accuracy", "format_rate", "proxy_agreement")
SEED = "rl.seed"


@dataclass(frozen=True)
class Row:
    """Cells that differ in their seed alone. means, spreads: by figure; a spread is the sample standard deviation,
    None of a single cell. cells: those that are evaluated, of so many."""

    name: str
    evaluated: int
    cells: int
    means: Mapping[str, float]
    spreads: Mapping[str, float | None]


def list_shipped() -> None:
    table = Table("ablation", "cells", "at a time", "what it asks")
    for spec in shipped():
        table.add_row(spec.name, str(len(spec.cells)), str(spec.throttle or "all"), escape(spec.about))
    out.print(table)
    out.print("proxygrm ablate NAME --dry-run shows what would be sent; your own: proxygrm ablate my.toml")


def collect(folder: Path, cells: Sequence[Cell]) -> list[Row]:
    """One row for each setting of the cells, seeds taken together, in the spec's order."""
    groups: dict[str, list[dict[str, float] | None]] = {}
    for cell in cells:
        groups.setdefault(without_seed(cell), []).append(_figures(folder / "cells" / cell.name / "evaluate"))
    rows = []
    for name, found in groups.items():
        there = [figures for figures in found if figures is not None]
        values = {key: [f[key] for f in there if key in f] for key in FIGURES}
        means = {key: statistics.fmean(v) for key, v in values.items() if v}
        spreads = {key: statistics.stdev(v) if len(v) > 1 else None for key, v in values.items() if v}
        rows.append(Row(name, len(there), len(found), means, spreads))
    return rows


def without_seed(cell: Cell) -> str:
    axes = [value if axis == "cell" else f"{axis.split('.')[-1]}={value}" for axis, value in cell.axes if axis != SEED]
    return ", ".join(axes) or "default"


def _figures(folder: Path) -> dict[str, float] | None:
    """Of the policy of one cell; None while it is not proven done."""
    if not (folder / "DONE.json").exists():
        return None
    summary: dict[str, Any] = (read_json(folder / "summary.json") or {}).get("rl", {})
    return {key: float(summary[key]) for key in FIGURES if isinstance(summary.get(key), int | float)}


def show_table(run: Path | None, name: str, as_json: bool) -> None:
    """name: of the ablation; "" for the one that was asked for last."""
    folder = of_run(run, as_json)[1].folder
    asked = ablation_of(folder, name)
    rows = collect(folder, asked.ablation)
    file = record_folder(folder, asked.ablation_name) / "table.json"
    refuse_foreign(file.parent, "copy the run")
    write_json(file, [vars(row) for row in rows])
    if as_json:
        echo(json.dumps([vars(row) for row in rows], indent=2))
        return
    title = f"{folder.name}, {asked.ablation_name}: policy of each cell on held-out pairs"
    table = Table(title=title, title_justify="left")
    table.add_column("cell", overflow="fold")
    table.add_column("evaluated", justify="right")
    for key in FIGURES:
        table.add_column(key.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(escape(row.name), f"{row.evaluated}/{row.cells}", *(_cell(row, key) for key in FIGURES))
    out.print(table)
    out.print(f"mean ± standard deviation over seeds, in percent; also in {file}")


def _cell(row: Row, key: str) -> str:
    if key not in row.means:
        return "–"
    spread = row.spreads[key]
    return f"{100 * row.means[key]:.1f}" + (f" ± {100 * spread:.1f}" if spread is not None else "")
