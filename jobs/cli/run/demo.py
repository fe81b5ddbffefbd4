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
from jobs.engine.request import Request, Resolved
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.run_folder.records import read_json, write_json
from jobs.engine.watch.cancel import cancel_all
from jobs.recipes.proxy_grm import DEMO_INPUTS
from proxygrm.core.files import lock
from proxygrm.core.files.owner import refuse_foreign
from proxygrm.core.pairs import SCHEMA_VERSION
from proxygrm.core.runtime.interrupts import stopped_once
from proxygrm.report.contents import Report
from slurm import reach

TRAIN, HELD_OUT, IN_BENCHMARK, SEED = 5000, 160, 40, 0
KINDS = ("colour",)
FOG = 0.6
"""Share of the images in fog."""
STOPPED = "stopped; the demo's jobs were cancelled, finished stages stay: the same command resumes it"
STAMP = {
    "train": TRAIN,
    "held_out": HELD_OUT,
    "benchmarks": IN_BENCHMARK,
    "seed": SEED,
    "fog": FOG,
    "recipe": 8,
    "pairs": SCHEMA_VERSION,
}
"""Of prepared inputs: with another stamp they are rebuilt."""


def run(folder: Path, recipe: str, quick: bool, prepare_only: bool, reuse: Sequence[Path] = ()) -> None:
    sources = console.other_runs(folder, reuse)
    started = time.time()
    ledger = Ledger(folder)
    ledger.create()
    remedy = f"watch it with `proxygrm status --run {folder} --watch`, or give this one another --run"
    with lock.held(folder / ".demo.lock", f"a demo is running in {folder}", remedy):
        prepare(DEMO_INPUTS)
        if prepare_only:
            return
        page = _chain(ledger, Request("local", f"{recipe}:{'quick' if quick else 'demo'}", reuse=sources))
    minutes = (time.time() - started) / 60
    echo(f"done in {minutes:.1f} minutes; open {folder / page}")


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
    from proxygrm.report.gather import read_benchmarks
    from proxygrm.report.papers import papers
    from proxygrm.report.tables import papers as papers_table
    from proxygrm.report.tables.run import result_table, training_table

    if report.rollouts:
        console.out.print(training_table(folder / report.rollouts))
    if report.results:
        console.out.print(result_table(folder / report.results.file, report.results))
    titles = report.results.models if report.results else {}
    if scored := papers(read_benchmarks(folder, report, []), titles):
        papers_table.show(scored, console.out)


def prepare(inputs: Path) -> None:
    """Draw the pairs, ingest them through the real reader, build the tiny model. Skipped when everything is there.

    Built in a scratch folder and renamed at the end, so an interrupted preparation leaves nothing that looks finished.
    """
    if read_json(inputs / "READY.json") == STAMP:
        return
    refuse_foreign(inputs, "use a checkout of your own")
    from data_tools.ingest.run import ingest
    from data_tools.sources.demo_benchmarks import write_demo_benchmarks
    from data_tools.sources.demo_pairs import write_demo_pairs
    from jobs.cli.common.quiet import quiet
    from proxygrm.demo.corpus import demo_corpus
    from proxygrm.demo.model import build_tiny_model

    echo("preparing: drawing preference pairs and building a tiny Qwen2.5-VL (about half a minute)")
    part = inputs.with_name(inputs.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    with quiet("demo"):
        write_demo_benchmarks(part / "benchmarks", IN_BENCHMARK, SEED)
        write_demo_pairs(part / "release", TRAIN, HELD_OUT, SEED, KINDS, FOG)
        for name, target in (("train", "pairs"), ("held_out", "held_out")):
            ingest("rlaif-v", part / "release" / f"{name}.parquet", part / target)
        build_tiny_model(part / "tiny-qwen2.5-vl", demo_corpus(SEED, kinds=KINDS), seed=SEED)
    write_json(part / "READY.json", STAMP)
    shutil.rmtree(inputs, ignore_errors=True)
    part.rename(inputs)
