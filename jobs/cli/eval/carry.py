"""Carrying a judge's run out: in this process, by several copies of the model side by side, or on the cluster."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from data_tools.steps.shards import Shard, Step, all_shards, stamp_of
from data_tools.steps.stale_parts import one_run
from jobs.cli.common.console import out as console
from proxygrm.core.errors import UserError
from proxygrm.evaluate.judges.endpoint import Endpoint
from proxygrm.evaluate.run import ANSWERS, Run, Work, merge, open_run, raw_files, run_shard, size_line

Progress = Callable[[int, int, str], None]
POLL_S = 2.0


def step_of(work: Work) -> Step:
    """The run as a step in shards. A shard is done when its marker stands in the step's parts folder; the answers
    themselves stand in OUT/raw, which later runs over more pairs go on from."""
    run = work.run
    source = run.pairs / "pairs.parquet" if run.pairs.is_dir() else run.pairs
    how = run.settings
    options = (run.bench, how.orders, how.votes, how.max_pairs, work.missing + work.dropped, work.judge.made_by)
    return Step(
        f"eval run {run.bench}", run.out, "run.json", stamp_of(options, [source]),
        run=partial(_run, run), done=_done, merge=partial(_merge, run),
        result=run.out / ANSWERS,
    )  # fmt: skip


def _run(run: Run, shard: Shard, parts: Path, progress: Progress = lambda done, total, note: None) -> None:
    run_shard(open_run(run), shard.index, shard.count, progress)
    shard.path(parts / "judged").touch()


def _done(shard: Shard, parts: Path) -> bool:
    return shard.path(parts / "judged").exists()


def _merge(run: Run, shards: list[Shard], parts: Path) -> dict[str, Any]:
    return merge(open_run(run))


def here(run: Run, copies: int | None) -> None:
    """In this process, or with one process for each copy of the checkpoint."""
    work = open_run(run)
    step = step_of(work)
    count = _copies(run, copies)
    _say(size_line(work))
    with bar() as show:
        if step.finished() is None:
            with one_run(step.parts, step.report):
                if count == 1:
                    step.parts.mkdir(parents=True, exist_ok=True)
                    _run(run, Shard(0, 1), step.parts, show)
                else:
                    _side_by_side(work, step, count, show)
                step.finish(count)
    _tell(work, step)


def one(run: Run, text: str) -> None:
    """One shard; whoever finds all shards done merges."""
    work, shard = open_run(run), Shard.parse(text)
    step = step_of(work)
    _say(size_line(work))
    if step.finished() is None:
        with bar() as show:
            step.parts.mkdir(parents=True, exist_ok=True)
            if not step.done(shard, step.parts):
                _run(run, shard, step.parts, show)
        if not all(step.done(other, step.parts) for other in all_shards(shard.count)):
            _say(f"{step.name}: shard {shard} is done; the last of {shard.count} merges")
            return
        try:
            step.finish(shard.count)
        except (UserError, OSError):
            if step.finished() is None:  # else another shard ended in the same moment, and merged
                raise
    _tell(work, step)


def send(run: Run, shards: int, profile_name: str, walltime_min: int) -> None:
    """A job array, one copy of the checkpoint an element, and the merge after it."""
    from jobs.cli.common.console import warn
    from jobs.engine.submit import submit_step
    from slurm import profile as profiles
    from slurm import reach
    from slurm.sbatch import Resources

    profile = profiles.load(profile_name)
    loads = not (isinstance(run.judge, Endpoint) or run.scalar)
    if loads and run.settings.device == "auto":
        run = replace(run, settings=replace(run.settings, device=profile.node.device))
    work = open_run(run)
    step = step_of(work)
    _say(size_line(work))
    if step.finished() is not None:
        _say(f"{step.name}: {run.out / ANSWERS} is complete; nothing to send")
        return
    small = Resources(cpus_per_node=2, memory_gb=8, walltime_min=walltime_min)
    gpus = run.settings.tensor_parallel if loads else 0
    share = profile.node.memory_gb * gpus // max(profile.node.gpus, 1)
    on = replace(small, gpus_per_node=gpus, cpus_per_node=2 + 6 * gpus, memory_gb=max(8, share)) if gpus else small
    with reach.scheduler_at_hand(profile):
        array, joined = submit_step(step, shards, profile, on, small, tell=warn)
    _say(f"{step.name}: job array {array} of {shards}, then the merge {joined}; logs in {run.out / '.jobs'}")


def _say(text: str) -> None:
    console.print(text, soft_wrap=True, markup=False)


def _copies(run: Run, asked: int | None) -> int:
    if isinstance(run.judge, Endpoint) or run.scalar:
        return 1
    if asked or run.settings.device == "cpu":
        return asked or 1
    import torch

    return max(1, torch.cuda.device_count() // run.settings.tensor_parallel)


def _side_by_side(work: Work, step: Step, count: int, show: Progress) -> None:
    """One process a copy, each with GPUs of its own. The first failure is raised when all have ended: the others'
    answers are worth keeping."""
    each = work.run.settings.tensor_parallel
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    gpus = visible if visible != [""] else [str(number) for number in range(count * each)]
    if work.run.settings.device != "cpu" and len(gpus) < count * each:
        raise UserError(f"--copies {count} of --tensor-parallel {each} need {count * each} GPUs; {len(gpus)} are there")
    total, seen = len(work.shown()), _Growing(work.run.out)
    pools: list[ProcessPoolExecutor] = []
    try:
        running: list[Future[None]] = []
        for shard in all_shards(count):
            mine = ",".join(gpus[shard.index * each : (shard.index + 1) * each])
            pools.append(ProcessPoolExecutor(1, get_context("spawn"), initializer=_see, initargs=(mine,)))
            running.append(pools[-1].submit(step.run_one, shard))
        while not all(future.done() for future in running):
            time.sleep(POLL_S)
            show(min(seen.answers(), total), total, "judging")
        for future in running:
            future.result()
    finally:
        for pool in pools:
            pool.shutdown(cancel_futures=True)


def _see(gpus: str) -> None:
    """Before CUDA is touched in this process."""
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus


class _Growing:
    """Counts the answers in files that grow, reading each byte once."""

    def __init__(self, out: Path) -> None:
        self.out, self._at, self._lines = out, dict[Path, int](), dict[Path, int]()

    def answers(self) -> int:
        for path in raw_files(self.out):
            with path.open("rb") as file:
                file.seek(self._at.get(path, 0))
                new = file.read()
            self._at[path] = self._at.get(path, 0) + len(new)
            self._lines[path] = self._lines.get(path, 0) + new.count(b"\n")
        return sum(max(0, lines - 1) for lines in self._lines.values())


class bar:
    """A progress bar as a callback; silent where no terminal is."""

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


def _tell(work: Work, step: Step) -> None:
    """What was judged, and what to do with it."""
    report = step.finished() or {}
    run = work.run
    asked, parsed = report["judgements"], report["judgements"] - report["unparsed"]
    facts = [f"orders {report['orders']}, votes {report['votes']}: {parsed:,} of {asked:,} parsed"]
    facts += [
        f"{report[name]:,} {words}"
        for name, words in (
            ("ties", "ties"), ("refused", "prompts refused"), ("truncated", "cut off"),
            ("blank_pictures", "judged with a blank picture"),
            ("without_images", "pairs left out without their images"), ("doubled", "doubled, the first counts"),
        )
        if report[name]
    ]  # fmt: skip
    _say("; ".join(facts))
    for reason, count in report["why_unparsed"].items():
        _say(f"  unparsed: {reason.replace('_', ' ')} {count:,}")
    options = " --partial" if report["revision"] is None and report["expected"] != report["pairs"] else ""
    if run.bench == "pairs" and report["pairs"] == work.available:
        options = f" --pairs {shlex.quote(str(run.pairs))}"
    _say(f"proxygrm eval score --bench {run.bench} --answers {shlex.quote(str(run.out / ANSWERS))}{options}")
