"""The state of every stage of a run, as a table, once or until everything has ended."""

from __future__ import annotations

import codecs
import os
import re
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

from rich.live import Live
from rich.markup import escape
from rich.table import Table

from jobs.cli.common import console
from jobs.cli.common.say import echo, secho
from jobs.engine import state
from jobs.engine.request import Resolved
from jobs.engine.run_folder.ledger import Ledger
from proxygrm.core.errors import UserError
from proxygrm.core.visible import uncoloured
from slurm import reach
from slurm.commands import NoAnswer

REFRESH_S, REFRESH_SHARED_S = 2.0, 15.0
"""Seconds between two queries of the queue: of the private cluster, and of one that other users share."""
LAST_LINES_S = 1.0
"""A job's last lines are visible by then, on a shared file system too."""
_INCOMPLETE = re.compile(r"(?:\r|\x1b(?:\[[0-9;:]*)?)\Z")
"""The start of a colour, or of a line end, whose rest may be in the next block."""
_RETURN = re.compile(r"\r\n?")
MAX_INCOMPLETE = 100
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
        table.add_row(row.stage, f"[{colour}]{row.word}[/]", row.job_id, took, escape(console.in_full(row.detail)))
    return table


def follow(resolved: Resolved, ledger: Ledger) -> list[state.StageState]:
    """Show progress until nothing of the run is queued or running; plain lines where there is no terminal.

    A scheduler that does not answer for a while is asked again. Raises KeyboardInterrupt that says what continues.
    """
    printed: dict[str, str] = {}
    pause = REFRESH_S if resolved.profile.private_cluster else REFRESH_SHARED_S
    try:
        with Live(console=console.out, auto_refresh=False, transient=False) as live:
            while True:
                states = _until_answered(resolved, ledger, pause)
                if console.out.is_terminal:
                    live.update(status_table(states, ledger), refresh=True)
                else:
                    _print_changes(states, printed)
                if not any(row.live for row in states):
                    return states
                time.sleep(pause)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "stopped watching; the jobs continue: `proxygrm status` shows them, `proxygrm cancel` ends them"
        ) from None


def _until_answered(resolved: Resolved, ledger: Ledger, pause: float) -> list[state.StageState]:
    """The states, however long the scheduler takes to answer; a private cluster that was taken down never will."""
    printed = ""
    while True:
        try:
            if away := reach.private_cluster_is_down(resolved.profile):
                return state.status(resolved.stages, ledger, away)
            return state.status(resolved.stages, ledger)
        except NoAnswer as error:
            if str(error) != printed:
                printed = str(error)
                echo(f"{time.strftime('%H:%M:%S')} {printed}; asking again every {pause:.0f} s", err=True)
            time.sleep(pause)


def _print_changes(states: list[state.StageState], printed: dict[str, str]) -> None:
    """A line for each stage whose state has changed. printed: stage -> its last line."""
    for row in states:
        line = f"{row.word} {row.detail}".strip()
        line += f" {row.done}/{row.total}" if row.word == "running" and row.total else ""
        if printed.get(row.stage) != line:
            printed[row.stage] = line
            echo(f"{time.strftime('%H:%M:%S')} {row.stage}: {console.in_full(line)}")


def follow_logs(
    resolved: Resolved, ledger: Ledger, name: str, paths: list[Path], lines: int, raw: bool = False
) -> None:
    """Print the logs' last lines, and new ones as they are written, until the stage (or batch) `name` has ended.

    raw: byte for byte, control characters included.
    """
    members = [stage for stage in resolved.stages if name in (stage.name, stage.batch)]
    pause = REFRESH_S if resolved.profile.private_cluster else REFRESH_SHARED_S
    tail = subprocess.Popen(["tail", "-n", str(lines), "-F", *map(str, paths)], stdout=None if raw else subprocess.PIPE)
    printer = None if raw else threading.Thread(target=_show, args=(tail.stdout,), daemon=True)
    if printer:
        printer.start()
    own = replace(resolved, stages=members)
    try:
        states = console.with_records(resolved.profile, lambda away: state.status(members, ledger, away))
        while any(row.live for row in states):
            with suppress(subprocess.TimeoutExpired):
                tail.wait(pause)
                return
            states = _until_answered(own, ledger, pause)
        time.sleep(LAST_LINES_S)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped printing; the job continues") from None
    finally:
        tail.terminate()
        tail.wait()
        if printer:
            printer.join(LAST_LINES_S)
    secho(f"==> {name}: {', '.join(dict.fromkeys(row.word for row in states))} <==", dim=True)


def _show(log: IO[bytes]) -> None:
    """New text as soon as it is written, incomplete lines too; a progress bar's returns become line ends."""
    rest, decoder = "", codecs.getincrementaldecoder("utf-8")("replace")
    while block := os.read(log.fileno(), 1 << 16):
        text = rest + decoder.decode(block)
        cut = _INCOMPLETE.search(text)
        rest = cut[0] if cut and len(cut[0]) < MAX_INCOMPLETE else ""
        echo(_RETURN.sub("\n", uncoloured(text[: len(text) - len(rest)])), nl=False)
    echo(rest + decoder.decode(b"", final=True), nl=False)


def ended_well(states: list[state.StageState]) -> None:
    """Raise UserError with the first failure when a followed run did not finish."""
    for row in states:
        if row.word in state.BAD | {"unknown"}:
            hint = "" if "proxygrm why" in row.detail else f"; `proxygrm why {row.stage}` says more"
            raise UserError(
                f"{row.stage} {row.word}: {row.detail}{hint}", code="run.stage-failed", stage=row.stage, word=row.word
            )
    unfinished = [row.stage for row in states if row.word != "done"]
    if unfinished:
        raise UserError(
            f"not finished: {', '.join(unfinished)}; `proxygrm status` shows the state of each",
            code="run.not-finished",
            stages=unfinished,
        )
