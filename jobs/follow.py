"""Where every stage of a run stands, as a table, once or until everything has ended."""

from __future__ import annotations

import time

import click
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from jobs import console, state
from jobs.ledger import Ledger
from jobs.request import Resolved
from proxygrm.errors import UserError

REFRESH_S, REFRESH_SHARED_S = 2.0, 15.0
"""Between two looks at the queue: of the private cluster, and of one that serves other people too."""
COLOURS = {
    "done": "green",
    "running": "cyan",
    "pending": "yellow",
    "waiting": "yellow",
    "requeued": "yellow",
    "not submitted": "dim",
    "unknown": "magenta",
}


def status_table(states: list[state.StageState], ledger: Ledger) -> Table:
    table = Table(title=f"{ledger.folder.name}  {time.strftime('%H:%M:%S')}", title_justify="left")
    for column in ("stage", "state", "job", "progress", "detail"):
        table.add_column(column, overflow="fold")
    for row in states:
        colour = COLOURS.get(row.word, "red")
        share = f"{row.done}/{row.total}" if row.total and row.word != "done" else ""
        took = ", ".join(filter(None, [share, f"{row.seconds:.0f} s" if row.seconds else ""]))
        table.add_row(row.stage, f"[{colour}]{row.word}[/]", row.job_id, took, escape(row.detail))
    return table


def follow(resolved: Resolved, ledger: Ledger) -> list[state.StageState]:
    """Show progress until nothing of the run is queued or running; plain lines where there is no terminal."""
    said: dict[str, str] = {}
    with Live(console=console.out, auto_refresh=False, transient=False) as live:
        while True:
            states = state.status(resolved.stages, ledger)
            if console.out.is_terminal:
                live.update(status_table(states, ledger), refresh=True)
            else:
                for row in states:
                    line = f"{row.word} {row.detail}".strip()
                    line += f" {row.done}/{row.total}" if row.word == "running" and row.total else ""
                    if said.get(row.stage) != line:
                        said[row.stage] = line
                        click.echo(f"{time.strftime('%H:%M:%S')} {row.stage}: {line}")
            if not any(row.live for row in states):
                return states
            time.sleep(REFRESH_S if resolved.profile.private_cluster else REFRESH_SHARED_S)


def ended_well(states: list[state.StageState]) -> None:
    """Raise with the first failure when a followed run did not finish."""
    for row in states:
        if row.word in state.BAD | {"unknown"}:
            hint = "" if "proxygrm why" in row.detail else f"; `proxygrm why {row.stage}` says more"
            raise UserError(f"{row.stage} {row.word}: {row.detail}{hint}")
    unfinished = [row.stage for row in states if row.word != "done"]
    if unfinished:
        raise UserError(f"not finished: {', '.join(unfinished)}; `proxygrm status` says where each stands")
