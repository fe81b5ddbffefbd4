"""Shared by the commands: where they print, which run they are about, its request, the cluster behind it.

The same rule holds for every command. With --run it is that folder; without, the run under ./runs that was written to
last. The run's earlier options still hold, and options typed now are added to them. With --profile or --recipe a
request starts over: only the typed options hold, and without --run the folder is runs/PROFILE.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
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
from jobs.engine.recipe import Recipe, own_file, with_file
from jobs.engine.request import Request, Resolved
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.run_folder.records import from_here, record_files
from jobs.engine.watch import advice
from proxygrm.core.errors import UserError
from proxygrm.core.visible import visible
from slurm import profile as profiles
from slurm import reach
from slurm.commands import NoAnswer, ignored
from slurm.profile import Profile

TABLE_WIDTH = 80


class _Console(Console):
    """Tables get 80 columns on a narrower terminal too: a wrapped line is ugly, a figure cut to "9,…" is wrong.

    Text from other programs is shown with its control characters spelled out: strings before they are laid out, so that
    columns have the right width, everything else when it is rendered. Colours and cursor movements are rich's own.
    """

    def render_str(self, text: str, **options: Any) -> Text:  # type: ignore[override]
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)

    def print(self, *objects: Any, **options: Any) -> None:
        before = self._width
        if self.width < TABLE_WIDTH and any(isinstance(each, Table) for each in objects):
            self._width = TABLE_WIDTH
        try:
            super().print(*objects, **options)
        finally:
            self._width = before


out = _Console(highlight=False)
RUNS = Path("runs")
T = TypeVar("T")


def of_request(options: dict[str, Any], as_json: bool = False) -> tuple[Resolved, Ledger]:
    """options: of a command, by name. Prints which run it is about (as_json: on standard error)."""
    request, folder, how = _request(options)
    resolved = recipes.resolve(request)
    say_run(folder, how, resolved, as_json)
    return resolved, Ledger(folder)


def recipe_of(options: dict[str, Any]) -> Recipe:
    """The recipe that a command with these options is about."""
    request, _, _ = _request(options)
    return recipes.find(request.recipe or profiles.load(request.profile).recipe)[0]


def _request(options: dict[str, Any]) -> tuple[Request, Path, str]:
    """The request, the run folder, and how the folder was chosen."""
    scheduler = tuple((key, options[key]) for key in ("partition", "account", "qos", "reservation") if options[key])
    new = bool(options["profile"] or options["recipe"])
    profile = options["profile"] or "local"
    folder, how = run_folder(options["run"], RUNS / Path(profile).stem, last=not new)
    base = None if new else requests.asked_before(folder, options.get("ablation_name", ""))
    if base is None:
        base = Request(_absolute_profile(profile), folder=str(Path.cwd()))
    assignments = (*base.assignments, *options["assignments"])
    request = replace(
        base,
        recipe=_absolute_recipe(options["recipe"] or "") or base.recipe,
        nodes=options["nodes"] or base.nodes,
        assignments=tuple({text.partition("=")[0]: text for text in assignments}.values()),
        scheduler=tuple(dict([*base.scheduler, *scheduler]).items()),
        ablation_name=options.get("ablation_name", ""),
        ablation=options.get("ablation", ()),
        throttle=options.get("throttle", 0),
        sweep=options.get("sweep", ""),
        reuse=tuple(dict.fromkeys([*base.reuse, *other_runs(folder, options.get("reuse", ()))])),
    )
    return request, folder, how


def other_runs(folder: Path, sources: Iterable[Path]) -> tuple[str, ...]:
    """The run folders that --reuse names, by absolute paths. Raises UserError for one that is none, and for the run's
    own."""
    folders = tuple(source.expanduser().absolute() for source in sources)
    for source in folders:
        if source.resolve() == folder.resolve():
            raise UserError(
                f"--reuse {source} is this run itself; name another one", code="reuse.itself", path=str(source)
            )
        if not record_files(source):
            raise UserError(
                f"--reuse {source}: that is not a run folder (no run.json)", code="reuse.not-a-run", path=str(source)
            )
    return tuple(map(str, folders))


def _absolute_profile(profile: str) -> str:
    """A profile that is named by its file, by the absolute path, so that it is found from every folder."""
    return str(Path(profile).expanduser().absolute()) if profile.endswith(".toml") else profile


def _absolute_recipe(recipe: str) -> str:
    """The same of a recipe."""
    file = own_file(recipe)
    return with_file(recipe, file.absolute()) if file else recipe


def run_folder(run: Path | None, new: Path | None = None, last: bool = True) -> tuple[Path, str]:
    """The folder that a command is about, and how it was chosen. new: the folder of a new run where there is none yet;
    last: whether the run written to last may be chosen.

    Raises UserError where there is no run and none may be started.
    """
    if run:
        return run.absolute(), ""
    folders = RUNS.absolute().glob("*")
    written = [(path.stat().st_mtime, folder) for folder in folders for path in record_files(folder)]
    if written and last:
        return max(written)[1], "the one written to last"
    if new is None:
        raise UserError("no run under ./runs; name a run folder with --run, or start with `make demo`", code="run.none")
    return new.absolute(), "" if record_files(new) else "new"


def of_run(run: Path | None, as_json: bool = False) -> tuple[Resolved, Ledger]:
    """The complete request of a run folder. Prints which folder it is (as_json: on standard error)."""
    folder, how = run_folder(run)
    resolved = recipes.of_run(folder)
    say_run(folder, how, resolved, as_json)
    reach.connect(resolved.profile, start=False)
    return resolved, Ledger(folder)


def say_run(folder: Path, how: str, resolved: Resolved, as_json: bool = False) -> None:
    """Prints the first line of a command; the command's error messages name the same run from here on."""
    request = resolved.request
    context = click.get_current_context(silent=True)
    if context:
        context.find_root().obj = (folder, request)
    words = [f"{resolved.recipe.name}:{resolved.preset} on {advice.profile_option(request)}"]
    words += [f"{request.nodes} nodes"] if request.nodes else []
    words += list(request.assignments)
    words += [f"{name} {value}" for name, value in request.scheduler]
    words += [f"reuse {from_here(Path(run))}" for run in request.reuse]
    words += [f"paths from {request.folder}"] if advice.elsewhere(request) else []
    where = advice.run_option(folder).removeprefix("--run ")
    line = f"run {where}{f' ({how})' if how else ''}: {', '.join(words)}"
    if as_json:
        echo(line, err=True)
    else:
        out.print(f"[dim]{escape(line)}[/]", soft_wrap=True)


def in_full(text: str) -> str:
    """A message whose commands have the options of the run that this command is about."""
    context = click.get_current_context(silent=True)
    about = context.find_root().obj if context else None
    return advice.in_full(text, *about) if about else text


def say_ignored() -> None:
    """Name the defaults from the user's shell that are not used: they may be there on purpose."""
    if names := [name for name in ignored(os.environ) if name.startswith("SBATCH_")]:
        out.print(
            f"[yellow]not taken from your shell: {', '.join(names)}; use the profile or an option[/]",
            soft_wrap=True,
        )


def with_records(profile: Profile, query: Callable[[str], T]) -> T:
    """Calls `query` with "", or, where the scheduler cannot be asked, with the reason, so that it goes by the run's own
    records; then a line on standard error says so."""
    away = reach.private_cluster_is_down(profile)
    if not away:
        try:
            return query("")
        except NoAnswer as error:
            away = str(error)
    secho(f"{away}: the run's records are shown alone", err=True, fg="yellow")
    return query(away)


def warn(line: str) -> None:
    out.print(f"[yellow]{escape(line)}[/]", soft_wrap=True)
