"""Where every stage of a run stands, as a table, once or until everything has ended."""

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
"""Between two looks at the queue: of the private cluster, and of one that serves other people too."""
LAST_LINES_S = 1.0
"""What a job wrote last is seen by then, on a shared file system too."""
_HALF = re.compile(r"(?:\r|\x1b(?:\[[0-9;:]*)?)$")
"""The beginning of a colour, or of a line end, of which the rest may be in the next block."""
_RETURN = re.compile(r"\r\n?")
MOST_HALF = 100
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

    A scheduler that does not answer for a while is asked again. Raises KeyboardInterrupt that says what goes on.
    """
    said: dict[str, str] = {}
    pause = REFRESH_S if resolved.profile.private_cluster else REFRESH_SHARED_S
    try:
        with Live(console=console.out, auto_refresh=False, transient=False) as live:
            while True:
                states = _asked_again(resolved, ledger, pause)
                if console.out.is_terminal:
                    live.update(status_table(states, ledger), refresh=True)
                else:
                    _say_changes(states, said)
                if not any(row.live for row in states):
                    return states
                time.sleep(pause)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "stopped watching; the jobs go on: `proxygrm status` shows them, `proxygrm cancel` ends them"
        ) from None


def _asked_again(resolved: Resolved, ledger: Ledger, pause: float) -> list[state.StageState]:
    """The states, however long the scheduler does not answer; a private cluster that was taken down never will."""
    told = ""
    while True:
        try:
            if away := reach.private_cluster_is_down(resolved.profile):
                return state.status(resolved.stages, ledger, away)
            return state.status(resolved.stages, ledger)
        except NoAnswer as error:
            if str(error) != told:
                told = str(error)
                echo(f"{time.strftime('%H:%M:%S')} {told}; asking again every {pause:.0f} s", err=True)
            time.sleep(pause)


def _say_changes(states: list[state.StageState], said: dict[str, str]) -> None:
    """A line for each stage of which something new is known. said: stage -> its last line."""
    for row in states:
        line = f"{row.word} {row.detail}".strip()
        line += f" {row.done}/{row.total}" if row.word == "running" and row.total else ""
        if said.get(row.stage) != line:
            said[row.stage] = line
            echo(f"{time.strftime('%H:%M:%S')} {row.stage}: {console.in_full(line)}")


def follow_logs(
    resolved: Resolved, ledger: Ledger, name: str, paths: list[Path], lines: int, raw: bool = False
) -> None:
    """Print the logs' last lines and go on as they grow, until the stage (or batch of stages) `name` has ended.

    raw: byte for byte, whatever a terminal makes of it.
    """
    members = [stage for stage in resolved.stages if name in (stage.name, stage.batch)]
    pause = REFRESH_S if resolved.profile.private_cluster else REFRESH_SHARED_S
    tail = subprocess.Popen(["tail", "-n", str(lines), "-F", *map(str, paths)], stdout=None if raw else subprocess.PIPE)
    shown = None if raw else threading.Thread(target=_show, args=(tail.stdout,), daemon=True)
    if shown:
        shown.start()
    own = replace(resolved, stages=members)
    try:
        states = console.with_records(resolved.profile, lambda away: state.status(members, ledger, away))
        while any(row.live for row in states):
            with suppress(subprocess.TimeoutExpired):
                tail.wait(pause)
                return
            states = _asked_again(own, ledger, pause)
        time.sleep(LAST_LINES_S)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped printing; the job goes on") from None
    finally:
        tail.terminate()
        tail.wait()
        if shown:
            shown.join(LAST_LINES_S)
    secho(f"==> {name}: {', '.join(dict.fromkeys(row.word for row in states))} <==", dim=True)


def _show(log: IO[bytes]) -> None:
    """What grows, as soon as it is there, half lines too; a progress bar's returns become line ends."""
    half, decoder = "", codecs.getincrementaldecoder("utf-8")("replace")
    while block := os.read(log.fileno(), 1 << 16):
        text = half + decoder.decode(block)
        cut = _HALF.search(text)
        half = cut[0] if cut and len(cut[0]) < MOST_HALF else ""
        echo(_RETURN.sub("\n", uncoloured(text[: len(text) - len(half)])), nl=False)
    echo(half + decoder.decode(b"", final=True), nl=False)


def ended_well(states: list[state.StageState]) -> None:
    """Raise with the first failure when a followed run did not finish."""
    for row in states:
        if row.word in state.BAD | {"unknown"}:
            hint = "" if "proxygrm why" in row.detail else f"; `proxygrm why {row.stage}` says more"
            raise UserError(f"{row.stage} {row.word}: {row.detail}{hint}")
    unfinished = [row.stage for row in states if row.word != "done"]
    if unfinished:
        raise UserError(f"not finished: {', '.join(unfinished)}; `proxygrm status` says where each stands")
