"""The agreement of two proxies as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from proxygrm.report.numbers import between, counts_text, per_cent


def show(figures: Mapping[str, Any], console: Console) -> None:
    left_out = counts_text(figures["left_out"])
    console.print(
        f"{figures['rows']:,} rubrics of {figures['pairs']:,} pairs; {figures['read']:,} rows read, "
        f"{figures['taken']:,} taken" + (f", left out: {left_out}" if left_out else "")
    )
    same = figures["same"]
    console.print(
        f"[bold]same verdict {per_cent(same['share'])} %[/]  (95 %: {_between(same)}; of {same['of']:,} judged by both)"
        f"   kappa {_number(figures['kappa'])}"
    )
    console.print(f"unscored counted as disagreement: {per_cent(figures['same_all'])} %")
    table = Table("", "mode", "scored", "right %", "95 %", "says 1 %", "Brier", "s per judgement", box=box.SIMPLE)
    for name in ("a", "b"):
        side = figures[name]
        table.add_row(
            name, side["mode"], f"{side['scored']:,}", per_cent(side["right"]["share"]), _between(side["right"]),
            per_cent(side["says_1"], 1), _number(side["brier"]), _number(side["latency_mean_s"]),
        )  # fmt: skip
    console.print(table)
    verdicts, test = figures["verdicts"], figures["mcnemar"]
    console.print("verdicts (a, b): " + ", ".join(f"({pair}) {count:,}" for pair, count in verdicts.items()))
    console.print(
        f"pairs that a has right more often {test['only_a']:,}, that b has {test['only_b']:,}; "
        f"McNemar p {test['p']:.2g}"
    )
    for name in ("a", "b"):
        unscored = counts_text(figures[name]["unscored"]) or "none"
        console.print(f"{name}: {figures[name]['source']}; unscored: {unscored}", soft_wrap=True)


def _between(share: Mapping[str, Any]) -> str:
    return "-" if share["low"] is None else between(share["low"], share["high"])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
