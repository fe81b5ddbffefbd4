"""`proxygrm plan --downloads`: what a chain takes from outside, for a login node with internet."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from rich.markup import escape
from rich.table import Table

from jobs.cli.common import console
from jobs.cli.common.say import echo
from jobs.engine.downloads import Download, needed
from jobs.engine.flow import Choice, chosen


def show(options: dict[str, Any], stages: Iterable[str], as_json: bool) -> None:
    resolved, _ = console.of_request(options, as_json)
    rows = needed(chosen(resolved, Choice(tuple(stages))))
    if as_json:
        echo(json.dumps([row.to_json() for row in rows], indent=2))
        return
    console.out.print(_table(rows, resolved.recipe.name))
    wanting = [row for row in rows if row.problem]
    for row in wanting:
        if row.command:
            echo(row.command)
        else:
            console.out.print(f"[yellow]{escape(row.name)}:[/] {escape(row.problem)}", soft_wrap=True)
    if not wanting:
        console.out.print("everything is here")


def _table(rows: list[Download], recipe: str) -> Table:
    table = Table(title=f"{recipe}: models and data it needs", title_justify="left")
    for column in ("name", "needed by"):
        table.add_column(column, overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("GB", justify="right")
    table.add_column("revision", no_wrap=True)
    colours = {"here": "green", "not usable": "red", "missing": "yellow"}
    for row in rows:
        table.add_row(
            escape(row.name),
            escape(", ".join(row.stages)),
            f"[{colours[row.state]}]{row.state}[/]",
            "" if row.size is None else f"{row.size / 1e9:.2f}",
            row.revision[:12],
        )
    return table
