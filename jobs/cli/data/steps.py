"""Shared by all sharded data commands: their options, and running a step here or as a job array."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click

from data_tools.steps.shards import Shard, Step, carry_out
from jobs.cli.common.options import Share, refuse_idle


def _remember(context: click.Context, option: click.Parameter, value: Any) -> None:
    context.meta[f"{__name__}.{option.name}"] = value


def step_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds --shards, --shard, --workers and --max-bad, for `run_step`, which reads --submit and --profile itself."""
    options = [
        click.option("--shards", type=click.IntRange(1), default=None, help="Number of parts.  [cores]"),
        click.option("--shard", default=None, metavar="I/N", help="Run only this part, e.g. 3/8."),
        click.option("--workers", type=click.IntRange(1), default=None, help="Number of processes.  [cores]"),
        click.option("--max-bad", type=Share(), default=0.01, show_default=True, help="Share of bad rows allowed."),
        click.option(
            "--submit",
            is_flag=True,
            expose_value=False,
            callback=_remember,
            help="Run as a SLURM job array of --shards elements, followed by the merge.",
        ),
        click.option(
            "--profile",
            default="local",
            show_default=True,
            expose_value=False,
            callback=_remember,
            help="With --submit: the profile of the cluster.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def run_step(step: Step, shards: int | None, shard: str | None, workers: int | None) -> dict[str, Any] | None:
    """Run the step and return its report; None if it was submitted, or only one shard was requested."""
    from jobs.cli.common.console import out
    from jobs.cli.common.quiet import progress_bar, quiet

    meta = click.get_current_context().meta
    submit = bool(meta.get(f"{__name__}.submit"))
    refuse_idle("profile", "without --submit", unless=submit)
    refuse_idle("workers shard", "with --submit", unless=not submit)
    refuse_idle("workers shards", "with --shard, which runs one part", unless=shard is None)
    if submit:
        _submit(step, shards or 8, meta[f"{__name__}.profile"])
        return None
    if shard is not None:
        part = Shard.parse(shard)
        with quiet(step.name):
            step.run_one(part)
        out.print(f"{step.name}: shard {part} is done")
        return None
    with quiet(step.name), progress_bar() as bar:
        task = bar.add_task(step.name)
        count = shards or len(os.sched_getaffinity(0))
        return carry_out(step, count, workers, lambda done, total: bar.update(task, completed=done, total=total))


def show_step(
    step: Step,
    table: Callable[[dict[str, Any]], Any],
    made: object,
    again: str,
    shards: int | None,
    shard: str | None,
    workers: int | None,
) -> None:
    """As `run_step`, then the table of its report and what it made. again: how to have finished work done once more."""
    from jobs.cli.common.console import out

    already_done = step.finished() is not None
    report = run_step(step, shards, shard, workers)
    if report is not None:
        out.print(table(report))
        out.print(f"{made}{f' (already done; {again})' if already_done else ''}", soft_wrap=True)


def _submit(step: Step, shards: int, profile_name: str) -> None:
    from jobs.cli.common.console import out, warn
    from jobs.engine.steps import submit_step
    from slurm import profile as profiles
    from slurm import reach
    from slurm.sbatch import Resources

    if step.finished() is not None:
        out.print(f"{step.name}: {step.out} is complete; nothing to submit")
        return
    profile = profiles.load(profile_name)
    on = Resources(cpus_per_task=1, mem_gb=4, timeout_min=240)
    with reach.scheduler_ready(profile):
        array, merge = submit_step(step, shards, profile, on, on_message=warn)
    parts = f"job array {array} of {shards}, then " if array else ""
    out.print(f"{step.name}: {parts}the merge {merge}; logs in {step.out / '.jobs'}")
