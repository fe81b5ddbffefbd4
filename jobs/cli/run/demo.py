"""`proxygrm demo`: prepare the inputs, start the private SLURM, run the chain, show the result."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from jobs import recipes
from jobs.cli.common import console
from jobs.cli.common.say import echo
from jobs.cli.run.follow import ended_well, follow
from jobs.cli.run.send import send
from jobs.engine.demo_inputs import DemoInputs
from jobs.engine.recipe import Recipe
from jobs.engine.request import Request, Resolved
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.run_folder.records import read_json, write_json
from jobs.engine.watch.cancel import cancel_all
from proxygrm.core.errors import UserError
from proxygrm.core.files import lock
from proxygrm.core.files.owner import refuse_foreign
from proxygrm.core.runtime.interrupts import stopped_once
from proxygrm.report.contents import Report
from slurm import reach

DEFAULT = "proxy_grm"
STOPPED = "stopped; the demo's jobs were cancelled, finished stages stay: the same command resumes it"


def run(folder: Path | None, recipe: str, quick: bool, prepare_only: bool, reuse: Sequence[Path] = ()) -> None:
    """folder: without one, a run folder of the recipe's own."""
    chosen = _recipe(recipe)
    folder = folder or Path("runs") / ("demo" if chosen.name == DEFAULT else f"demo-{chosen.name.replace('_', '-')}")
    sources = console.other_runs(folder, reuse)
    started = time.time()
    ledger = Ledger(folder)
    ledger.create()
    remedy = f"watch it with `proxygrm status --run {folder} --watch`, or give this one another --run"
    with lock.held(folder / ".demo.lock", f"a demo is running in {folder}", remedy):
        if chosen.demo_inputs:
            prepare(chosen.demo_inputs)
        if prepare_only:
            return
        page = _chain(ledger, Request("local", f"{recipe}:{'quick' if quick else 'demo'}", reuse=sources))
    minutes = (time.time() - started) / 60
    look = f"open {folder / page}" if (folder / page).exists() else f"`proxygrm report --run {folder}` makes its page"
    echo(f"done in {minutes:.1f} minutes; {look}")


def _chain(ledger: Ledger, request: Request) -> str:
    """Returns the path of the page in the run folder. Ctrl-C, or closing the terminal, cancels the demo's own jobs and
    waits for their end, so that the next demo does not find any of them."""
    from slurm.local import cluster
    from slurm.local.folder import default_folder, in_use

    resolved = recipes.resolve(request)
    console.say_run(ledger.folder, "", resolved)
    where = default_folder()
    with stopped_once() as signals:
        try:
            with in_use(where):
                _run_chain(resolved, ledger, where, signals)
        finally:
            if reason := cluster.down_if_unused(where):
                echo(f"the private cluster stays up: {reason}; `proxygrm cluster down` stops it")
    show_result(ledger.folder, resolved.recipe.report)
    return resolved.recipe.report.page


def _run_chain(resolved: Resolved, ledger: Ledger, where: Path, signals: list[int]) -> None:
    """signals: the one that stopped it, if any."""
    from slurm.local import cluster

    cluster.up(where, temporary=True)
    try:
        send(resolved, ledger)
        ended_well(follow(resolved, ledger))
    except BaseException:  # a closed terminal fails at the next printed line too
        if not signals:
            raise
        with suppress(OSError):
            echo("\nstopping: this demo's jobs are cancelled", err=True)
        reach.connect(resolved.profile, start=False)
        cancel_all(ledger)
        raise KeyboardInterrupt(STOPPED) from None


def show_result(folder: Path, report: Report) -> None:
    from proxygrm.report.gather import read_benchmarks, read_results
    from proxygrm.report.papers import papers
    from proxygrm.report.tables import papers as papers_table
    from proxygrm.report.tables.run import result_table, training_table

    if report.rollouts:
        console.out.print(training_table(folder / report.rollouts))
    if report.results:
        console.out.print(result_table(read_results(folder, report.results, []), report.results))
    titles = report.results.models if report.results else {}
    if scored := papers(read_benchmarks(folder, report, []), titles):
        papers_table.show(scored, console.out)


def prepare(inputs: DemoInputs) -> None:
    """Draw the inputs. Skipped when everything is there.

    Drawn in a scratch folder and renamed at the end, so an interrupted preparation leaves nothing that looks finished.
    """
    folder = inputs.folder
    if read_json(folder / "READY.json") == inputs.stamp:
        return
    folder.parent.mkdir(exist_ok=True)
    refuse_foreign(folder, "use a checkout of your own")
    with lock.held(folder.with_name(f".{inputs.name}.lock"), f"another demo draws {folder}", wait_s=600):
        # Another demo may have drawn them meanwhile.
        if read_json(folder / "READY.json") != inputs.stamp:
            echo(f"preparing: {inputs.announcement}")
            _draw(inputs)


def _draw(inputs: DemoInputs) -> None:
    from jobs.cli.common.quiet import quiet

    folder = inputs.folder
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    with quiet("demo"):
        inputs.draw(part)
    write_json(part / "READY.json", dict(inputs.stamp))
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def _recipe(spec: str) -> Recipe:
    """Raises UserError: demo.preset-given, recipe.unknown-preset where it has no demo, and those of `recipes.find`."""
    recipe, preset = recipes.find(spec)
    if preset:
        raise UserError(
            f"{spec}: a demo has its own preset; --recipe {spec.removesuffix(f':{preset}')}, and --quick for few steps",
            code="demo.preset-given",
            preset=preset,
        )
    recipe.settings("demo")
    return recipe
