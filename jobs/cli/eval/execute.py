"""Executing an `eval run`: in this process, with several copies of the model side by side, or on the cluster."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from data_tools.steps.shards import Shard, Step, all_shards, stamp_of
from data_tools.steps.stale_parts import hold_parts
from jobs.cli.common.console import out as console
from jobs.cli.common.say import echo
from proxygrm.core.errors import UserError
from proxygrm.evaluate.judges.base import Progress
from proxygrm.evaluate.judges.endpoint import Endpoint
from proxygrm.evaluate.run import (
    ANSWERS,
    PreparedRun,
    Run,
    merge_shards,
    prepare_run,
    run_shard,
    size_line,
)
from proxygrm.evaluate.shards import raw_files
from proxygrm.report.numbers import counts_text

POLL_S = 2.0


def step_of(prepared: PreparedRun) -> Step:
    """The run as a step in shards. A shard is done when its marker is in the step's parts folder; the answers are in
    OUT/raw, from which later runs over more pairs resume."""
    run, judging = prepared.run, prepared.judging
    source = run.pairs / "pairs.parquet" if run.pairs.is_dir() else run.pairs
    settings = run.settings
    images_missing = judging.missing_images + judging.dropped
    options = (run.bench, settings.orders, settings.votes, settings.max_pairs, images_missing, judging.judge.made_by)
    return Step(
        f"eval run {run.bench}", run.out, "run.json", stamp_of(options, [source]),
        run=partial(_run, run), done=_done, merge=partial(_merge, run),
        result=run.out / ANSWERS,
    )  # fmt: skip


def _run(run: Run, shard: Shard, parts: Path, progress: Progress = lambda done, total, note: None) -> None:
    run_shard(prepare_run(run), shard.index, shard.count, progress)
    shard.path(parts / "judged").touch()


def _done(shard: Shard, parts: Path) -> bool:
    return shard.path(parts / "judged").exists()


def _merge(run: Run, shards: list[Shard], parts: Path) -> dict[str, Any]:
    return merge_shards(prepare_run(run))


def run_here(run: Run, copies: int | None) -> None:
    """In this process, or with one process per copy of the checkpoint."""
    prepared = prepare_run(run)
    step = step_of(prepared)
    count = _copies(run, copies)
    _print(size_line(prepared))
    with ProgressBar() as on_progress:
        if step.finished() is None:
            with hold_parts(step.parts, step.report):
                if count == 1:
                    step.parts.mkdir(parents=True, exist_ok=True)
                    _run(run, Shard(0, 1), step.parts, on_progress)
                else:
                    _run_copies(prepared, step, count, on_progress)
                step.finish(count)
    _print_summary(prepared, step)


def run_one_shard(run: Run, text: str) -> None:
    """One shard; the process that finds all shards done merges them."""
    prepared, shard = prepare_run(run), Shard.parse(text)
    step = step_of(prepared)
    _print(size_line(prepared))
    if step.finished() is None:
        with ProgressBar() as on_progress:
            step.parts.mkdir(parents=True, exist_ok=True)
            if not step.done(shard, step.parts):
                _run(run, shard, step.parts, on_progress)
        if not all(step.done(other, step.parts) for other in all_shards(shard.count)):
            _print(f"{step.name}: shard {shard} is done; the last of {shard.count} merges")
            return
        try:
            step.finish(shard.count)
        except (UserError, OSError):
            if step.finished() is None:  # else another shard finished at the same time, and merged
                raise
    _print_summary(prepared, step)


def submit_array(run: Run, shards: int, profile_name: str, walltime_min: int) -> None:
    """A job array with one copy of the checkpoint per element, and a merge job after it."""
    from jobs.cli.common.console import warn
    from jobs.engine.steps import submit_step
    from slurm import profile as profiles
    from slurm import reach
    from slurm.sbatch import Resources

    profile = profiles.load(profile_name)
    loads_model = not (isinstance(run.judge, Endpoint) or run.scalar)
    if loads_model and run.settings.device == "auto":
        run = replace(run, settings=replace(run.settings, device=profile.node.device))
    prepared = prepare_run(run)
    step = step_of(prepared)
    _print(size_line(prepared))
    if step.finished() is not None:
        _print(f"{step.name}: {run.out / ANSWERS} is complete; nothing to submit")
        return
    small = Resources(cpus_per_task=2, mem_gb=8, timeout_min=walltime_min)
    gpus = run.settings.tensor_parallel_size if loads_model else 0
    mem_gb = max(8, profile.node.memory_gb * gpus // max(profile.node.gpus, 1))
    resources = replace(small, gpus_per_node=gpus, cpus_per_task=2 + 6 * gpus, mem_gb=mem_gb) if gpus else small
    with reach.scheduler_ready(profile):
        array, merge_job = submit_step(step, shards, profile, resources, small, on_message=warn)
    parts = f"job array {array} of {shards}, then " if array else ""
    _print(f"{step.name}: {parts}the merge {merge_job}; logs in {run.out / '.jobs'}")


@contextmanager
def resumable() -> Iterator[None]:
    """Ctrl-C ends the command with one line and exit status 130; the same command resumes."""
    try:
        yield
    except KeyboardInterrupt:
        echo("\nstopped; finished judgements are kept, and the same command resumes", err=True)
        sys.exit(130)


def _print(text: str) -> None:
    console.print(text, soft_wrap=True, markup=False)


def _copies(run: Run, requested: int | None) -> int:
    if isinstance(run.judge, Endpoint) or run.scalar:
        return 1
    if requested or run.settings.device == "cpu":
        return requested or 1
    import torch

    return max(1, torch.cuda.device_count() // run.settings.tensor_parallel_size)


def _run_copies(prepared: PreparedRun, step: Step, count: int, on_progress: Progress) -> None:
    """One process per copy, each with its own GPUs. The first error is raised after all have ended, because the answers
    of the others are worth keeping."""
    run = prepared.run
    gpus_each = run.settings.tensor_parallel_size
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    gpus = visible if visible != [""] else [str(number) for number in range(count * gpus_each)]
    if run.settings.device != "cpu" and len(gpus) < count * gpus_each:
        raise UserError(
            f"--copies {count} with --tensor-parallel-size {gpus_each} need {count * gpus_each} GPUs; {len(gpus)} are "
            "visible",
            code="eval.too-few-gpus",
            needed=count * gpus_each,
            visible=len(gpus),
        )
    total, counter = len(prepared.judging.requests), _AnswerCounter(run.raw)
    pools: list[ProcessPoolExecutor] = []
    try:
        futures: list[Future[None]] = []
        for shard in all_shards(count):
            of_shard = ",".join(gpus[shard.index * gpus_each : (shard.index + 1) * gpus_each])
            pools.append(ProcessPoolExecutor(1, get_context("spawn"), initializer=_use_gpus, initargs=(of_shard,)))
            futures.append(pools[-1].submit(step.run_one, shard))
        while not all(future.done() for future in futures):
            time.sleep(POLL_S)
            on_progress(min(counter.count(), total), total, "judging")
        for future in futures:
            future.result()
    finally:
        for pool in pools:
            pool.shutdown(cancel_futures=True)


def _use_gpus(gpus: str) -> None:
    """Before CUDA is initialised in this process."""
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus


class _AnswerCounter:
    """Counts the answers in growing files, reading each byte once."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._offsets, self._lines = folder, dict[Path, int](), dict[Path, int]()

    def count(self) -> int:
        for path in raw_files(self.folder):
            with path.open("rb") as file:
                file.seek(self._offsets.get(path, 0))
                new = file.read()
            self._offsets[path] = self._offsets.get(path, 0) + len(new)
            self._lines[path] = self._lines.get(path, 0) + new.count(b"\n")
        return sum(max(0, lines - 1) for lines in self._lines.values())


class ProgressBar:
    """A progress bar as a callback; silent without a terminal."""

    def __enter__(self) -> Progress:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

        from jobs.cli.common.quiet import progress_bar

        self._bar = progress_bar(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        )
        task = self._bar.add_task("reading", total=None)
        self._bar.start()
        return lambda done, total, note: self._bar.update(
            task, completed=done, total=total, description=note if note.startswith("loading") else "judging"
        )

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def _print_summary(prepared: PreparedRun, step: Step) -> None:
    """What was judged, and the command that scores it."""
    report = step.finished() or {}
    run, total = prepared.run, report["judgements"]
    facts = [f"orders {report['orders']}, votes {report['votes']}: {total - report['unparsed']:,} of {total:,} parsed"]
    facts += [
        f"{report[name]:,} {words}"
        for name, words in (
            ("ties", "ties"), ("refused", "prompts refused"), ("truncated", "cut off"),
            ("blank_images", "judged with a blank image"),
            ("without_images", "pairs left out without their images"), ("doubled", "doubled, the first counts"),
        )
        if report[name]
    ]  # fmt: skip
    _print("; ".join(facts))
    for reason, count in report["why_unparsed"].items():
        _print(f"  unparsed: {counts_text({reason: count})}")
    options = " --partial" if report["revision"] is None and report["expected"] != report["pairs"] else ""
    if run.bench == "pairs" and report["pairs"] == prepared.judging.available:
        options = f" --pairs {shlex.quote(str(run.pairs))}"
    _print(f"proxygrm eval score --bench {run.bench} --answers {shlex.quote(str(run.out / ANSWERS))}{options}")
