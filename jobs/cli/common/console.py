"""What the commands share: where they print, which run they speak of, what was asked for, the cluster behind it.

One rule for every command. With --run it is that folder; without, the run that was written to last under ./runs. What
a run was asked for before still holds, and options given now are added to it. Whoever names --profile or --experiment
begins afresh: with no options but those given, and without --run in runs/PROFILE.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from jobs import recipes
from jobs.cli.common.say import echo, secho
from jobs.engine import request as requests
from jobs.engine.request import Request, Resolved
from jobs.engine.run_folder import tokens
from jobs.engine.run_folder.ledger import Ledger, record_files
from jobs.engine.watch import advice
from proxygrm.core.errors import UserError
from proxygrm.core.visible import visible
from slurm import reach
from slurm.commands import NoAnswer, ignored
from slurm.profile import Profile

TABLE_WIDTH = 80


class _Console(Console):
    """Tables get 80 columns on a narrower terminal, too: a line that wraps is ugly, a figure cut to "9,…" is false.

    What others wrote is shown as text, whatever it is put into (a string here, so that columns are as wide as what they
    show; all else where it becomes characters). Colours and the cursor are rich's own.
    """

    def render_str(self, text: str, **options: Any) -> Text:  # type: ignore[override]
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)

    def print(self, *objects: Any, **options: Any) -> None:
        before = self._width
        if self.width < TABLE_WIDTH and any(isinstance(thing, Table) for thing in objects):
            self._width = TABLE_WIDTH
        try:
            super().print(*objects, **options)
        finally:
            self._width = before


out = _Console(highlight=False)
RUNS = Path("runs")
T = TypeVar("T")


def of_request(asked: dict[str, Any]) -> tuple[Resolved, Ledger]:
    """asked: the options of a command, by name. Prints which run it is."""
    given = tuple((key, asked[key]) for key in ("partition", "account", "qos", "reservation") if asked[key])
    afresh = bool(asked["profile"] or asked["experiment"])
    profile = asked["profile"] or "local"
    folder, how = run_folder(asked["run"], RUNS / Path(profile).stem, last=not afresh)
    base = None if afresh else requests.asked_before(folder, asked.get("ablation_name", ""))
    if base is None:
        own = profile.endswith(".toml")
        base = Request(str(Path(profile).expanduser().absolute()) if own else profile, folder=str(Path.cwd()))
    request = replace(
        base,
        experiment=asked["experiment"] or base.experiment,
        nodes=asked["nodes"] or base.nodes,
        assignments=tuple({one.partition("=")[0]: one for one in (*base.assignments, *asked["assignments"])}.values()),
        scheduler=tuple(dict([*base.scheduler, *given]).items()),
        ablation_name=asked.get("ablation_name", ""),
        ablation=asked.get("ablation", ()),
        throttle=asked.get("throttle", 0),
    )
    resolved = recipes.resolve(request)
    say_run(folder, how, resolved)
    return resolved, Ledger(folder)


def run_folder(run: Path | None, new: Path | None = None, last: bool = True) -> tuple[Path, str]:
    """The folder a command speaks of, and how it was chosen. new: the folder of a run that is to be begun where there
    is none yet; last: whether the run written to last may be meant.

    Raises UserError where there is no run and none is to be begun.
    """
    if run:
        return run.absolute(), ""
    folders = RUNS.absolute().glob("*")
    written = [(path.stat().st_mtime, folder) for folder in folders for path in record_files(folder)]
    if written and last:
        return max(written)[1], "the one written to last"
    if new is None:
        raise UserError("no run under ./runs; name a run folder with --run, or start with `make demo`")
    return new.absolute(), "" if record_files(new) else "new"


def of_run(run: Path | None, as_json: bool = False) -> tuple[Resolved, Ledger]:
    """Everything that was asked for in a run folder. Prints which one it is (as_json: not among the results)."""
    folder, how = run_folder(run)
    resolved = recipes.of_run(folder)
    say_run(folder, how, resolved, as_json)
    reach.connect(resolved.profile, start=False)
    return resolved, Ledger(folder)


def say_run(folder: Path, how: str, resolved: Resolved, as_json: bool = False) -> None:
    """The first line of every command; error messages of the command name the same run from here on."""
    request = resolved.request
    context = click.get_current_context(silent=True)
    if context:
        context.find_root().obj = (folder, request)
    words = [f"{resolved.experiment.name} on {advice.profile_option(request)}"]
    words += [f"{request.nodes} nodes"] if request.nodes else []
    words += list(request.assignments)
    words += [f"{name} {value}" for name, value in request.scheduler]
    words += [f"paths from {request.folder}"] if advice.elsewhere(request) else []
    where = advice.run_option(folder).removeprefix("--run ")
    line = f"run {where}{f' ({how})' if how else ''}: {', '.join(words)}"
    if as_json:
        echo(line, err=True)
    else:
        out.print(f"[dim]{escape(line)}[/]", soft_wrap=True)


def in_full(text: str) -> str:
    """Advice of a message with the options of the run that the command speaks of."""
    context = click.get_current_context(silent=True)
    about = context.find_root().obj if context else None
    return advice.in_full(text, *about) if about else text


def say_ignored() -> None:
    """Defaults that a person may have put into their shell on purpose are named where they do not count."""
    if names := [name for name in ignored(os.environ) if name.startswith("SBATCH_")]:
        out.print(
            f"[yellow]not taken from your shell: {', '.join(names)}; say it in the profile or by an option[/]",
            soft_wrap=True,
        )


def with_records(profile: Profile, look: Callable[[str], T]) -> T:
    """What `look` finds; it is given "", or, where the scheduler cannot be asked, the reason why, and then goes by the
    run's own records. Says so in one line on standard error."""
    away = reach.private_cluster_is_down(profile)
    if not away:
        try:
            return look("")
        except NoAnswer as error:
            away = str(error)
    secho(f"{away}: shown is what the run's records prove", err=True, fg="yellow")
    return look(away)


def settle(ledger: Ledger) -> None:
    """As `tokens.settle`, and say what became of what an earlier command had begun to send."""
    for line in tokens.settle(ledger):
        warn(line)


def warn(line: str) -> None:
    out.print(f"[yellow]{escape(line)}[/]", soft_wrap=True)
