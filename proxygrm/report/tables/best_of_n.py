"""Accuracy@N as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from proxygrm.report.numbers import between, per_cent


def show(figures: Mapping[str, Any], console: Console) -> None:
    console.print(
        f"{figures['candidates']:,} candidates of {figures['prompts']:,} prompts, ranked by {figures['ranked_by']}",
        highlight=False,
    )
    table = Table("N", "prompts", "best correct %", "95 %", "any correct %")
    for row in figures["accuracy_at"]:
        table.add_row(
            str(row["n"]), f"{row['prompts']:,}", per_cent(row["accuracy"]), between(row["low"], row["high"]),
            per_cent(row["any_correct"]),
        )  # fmt: skip
    if figures["accuracy_at"]:
        console.print(table)
    else:
        console.print("correctness is unknown, so there is no accuracy@N; --out writes the ranking")
    console.print(
        f"ties and unparsed verdicts: {figures['unclear_verdicts']:,} (half a win each); prompts whose best are tied: "
        f"{figures['prompts_with_tied_best']:,} (they share the choice)",
        highlight=False,
    )
    if figures["pairs_not_judged"]:
        console.print(
            f"{figures['pairs_not_judged']:,} pairs of candidates were not judged; scores are over the others",
            style="yellow",
            highlight=False,
        )
