"""The comparison of runs, and a leaderboard with published numbers, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from proxygrm.evaluate.benchmarks import benchmark
from proxygrm.evaluate.scores.compare import ORDERS_DIFFER, mcnemar_cells
from proxygrm.report.numbers import between, per_cent, points

MARKS = {"yes": "=", "nearly": "~", "no": "x"}


def show(figures: Mapping[str, Any], console: Console) -> None:
    console.print(
        f"[bold]{benchmark(figures['bench']).title}[/]  partition {figures['partition']}, policy {figures['policy']}",
        highlight=False,
    )
    plus = any("acc_plus" in run for run in figures["runs"].values())
    board = Table("", "run", "N", "overall %", "95 %", "macro %", *(["acc+ %"] if plus else []))
    for name, run in figures["runs"].items():
        expected = f" of {run['expected']:,}" if run["expected"] is not None else ""
        partial = " [red]partial[/]" if run["partial"] else ""
        board.add_row(
            "", f"[bold]{name}[/]", f"{run['rows']:,}{expected}{partial}", per_cent(run["overall"]),
            between(*run["overall_interval"]), per_cent(run["macro"]),
            *([per_cent(run["acc_plus"])] if plus else []),
        )  # fmt: skip
    if figures["anchors"]:
        board.add_section()
    for anchor in figures["anchors"]:
        board.add_row(MARKS[anchor["comparable"]], f"[dim]{anchor['name']}[/]", "", anchor["per_cent"], "", "")
    console.print(board)
    if figures["anchors"]:
        console.print(
            "published numbers: ~ comparable except for the differences listed, x not comparable", style="dim"
        )
    for anchor in figures["anchors"]:
        console.print(f"{MARKS[anchor['comparable']]} {anchor['name']}: {anchor['why']}", style="dim", highlight=False)
    if not figures["against"]:
        return
    console.print(f"against [bold]{figures['baseline']}[/], pair by pair", highlight=False)
    points_of = f"points of {figures['against'][0]['figure']}"
    table = Table("run", "pairs", points_of, "95 %", "won", "lost", "McNemar p", "Holm")
    for row in figures["against"]:
        table.add_row(
            row["run"], f"{row['pairs']:,}", points(row["difference"], 2), between(row["low"], row["high"]),
            *mcnemar_cells(row),
        )  # fmt: skip
    console.print(table)
    if any(run["orders"] == 2 for run in figures["runs"].values()):
        console.print("won, lost: pairs right in both orders in one run and not in the other", style="dim")
    for row in figures["against"]:
        if row["orders_differ"]:
            console.print(f"{row['run']}: {ORDERS_DIFFER}", style="yellow", highlight=False)
        if row["left_out"]:
            console.print(f"{row['run']}: {row['left_out']:,} pairs left out by the policy", highlight=False)
        if row["not_shared"]:
            console.print(
                f"{row['run']}: {row['not_shared']:,} pairs that only one of the two runs judged are left out",
                style="bold red",
                highlight=False,
            )
