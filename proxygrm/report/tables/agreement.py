"""The agreement of two proxies as tables for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from proxygrm.report.tables.score import between, per_cent


def show(found: Mapping[str, Any], console: Console) -> None:
    left_out = _counts(found["left_out"])
    console.print(
        f"{found['rows']:,} rubrics of {found['pairs']:,} pairs; {found['read']:,} rows read, {found['taken']:,} taken"
        + (f", left out: {left_out}" if left_out else "")
    )
    same = found["same"]
    console.print(
        f"[bold]same verdict {per_cent(same['share'])} %[/]  (95 %: {_between(same)}; of {same['of']:,} judged by both)"
        f"   kappa {_number(found['kappa'])}"
    )
    console.print(f"unscored counted as disagreement: {per_cent(found['same_all'])} %")
    table = Table("", "mode", "scored", "right %", "95 %", "says 1 %", "Brier", "s each", box=box.SIMPLE)
    for name in ("a", "b"):
        side = found[name]
        table.add_row(
            name, side["mode"], f"{side['scored']:,}", per_cent(side["right"]["share"]), _between(side["right"]),
            per_cent(side["says_1"], 1), _number(side["brier"]), _number(side["latency_mean_s"]),
        )  # fmt: skip
    console.print(table)
    verdicts, test = found["verdicts"], found["mcnemar"]
    console.print("verdicts (a, b): " + ", ".join(f"({pair}) {count:,}" for pair, count in verdicts.items()))
    console.print(
        f"pairs that a has right more often {test['only_a']:,}, that b has {test['only_b']:,}; "
        f"McNemar p {test['p']:.2g}"
    )
    for name in ("a", "b"):
        unscored = _counts(found[name]["unscored"]) or "none"
        console.print(f"{name}: {found[name]['source']}; unscored: {unscored}", soft_wrap=True)


def _between(share: Mapping[str, Any]) -> str:
    return "-" if share["low"] is None else between(share["low"], share["high"])


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in counts.items())


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
