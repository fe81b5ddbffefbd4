"""Best of N by step scores as tables: a data source each, per cent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from proxygrm.report.numbers import per_cent

_RELEASED_AT = ("1", "2", "4", "8")


def show(figures: Mapping[str, Any], console: Console) -> None:
    for source, of_source in figures.items():
        ks = _shown(list(of_source["pass"]))
        table = Table(
            "", *(f"{k}" for k in ks), title=f"{source}: {of_source['total']:,} questions", title_justify="left"
        )
        lines = {"pass (any right)": of_source["pass"], **{f"by {n}": bon for n, bon in of_source["bon"].items()}}
        lines |= {"by majority": of_source["self_consistency"], "by chance": of_source["random"]}
        for name, curve in lines.items():
            table.add_row(name, *(per_cent(curve[k]["value"]) for k in ks))
        console.print(table)
    overall = figures["OVERALL"]["pass"]
    last = list(overall)[-1]
    console.print(
        f"per cent right of the best of N candidates; pass@{last} is between {per_cent(overall[last]['low'])} and "
        f"{per_cent(overall[last]['high'])} (95 %, bootstrap over questions). --json has every interval",
        highlight=False,
    )


def show_released(figures: Mapping[str, Any], console: Console) -> None:
    for source, of_source in figures.items():
        total = of_source["total"]
        table = Table("", *_RELEASED_AT, title=f"{source}: {total:,} questions", title_justify="left")
        names = [name for name in of_source if name != "total"]
        table.add_row("pass", *_shares(of_source[names[0]]["pass_correct"], total))
        for name in names:
            table.add_row(f"by {name}", *_shares(of_source[name]["bon_correct"], total))
        console.print(table)
    console.print("pass at 1 is the best single position of the whole file, and a tie is right if one of it is")


def _shares(counts: list[int], total: int) -> list[str]:
    return [per_cent(counts[int(k) - 1] / total) for k in _RELEASED_AT]


def _shown(ks: list[str]) -> list[str]:
    """Few enough for a line of 80 characters."""
    powers = [k for k in ks if int(k) & (int(k) - 1) == 0]
    return powers if powers[-1] == ks[-1] else [*powers, ks[-1]]
