"""What all sharded data commands share: their options, and how a step is carried out, here or as a job array."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click

from data_tools.steps.shards import Shard, Step, carry_out
from jobs.cli.common.options import refuse_idle


def _remember(context: click.Context, option: click.Parameter, value: Any) -> None:
    context.meta[f"{__name__}.{option.name}"] = value


def step_options(command: Callable[..., None]) -> Callable[..., None]:
    """--shards, --shard, --workers, --max-bad: pass them on to `run_step`; --submit and --profile it finds itself."""
    options = [
        click.option("--shards", type=click.IntRange(1), default=None, help="Parts to cut the work in.  [cores]"),
        click.option("--shard", default=None, metavar="I/N", help="Do only this part, e.g. 3/8."),
        click.option("--workers", type=click.IntRange(1), default=None, help="Processes at once.  [cores]"),
        click.option(
            "--max-bad", type=click.FloatRange(0, 1), default=0.01, show_default=True, help="Bad rows allowed, a share."
        ),
        click.option(
            "--submit",
            is_flag=True,
            expose_value=False,
            callback=_remember,
            help="As a SLURM job array of --shards elements, with the merge after it.",
        ),
        click.option(
            "--profile",
            default="local",
            show_default=True,
            expose_value=False,
            callback=_remember,
            help="With --submit: the cluster.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def run_step(step: Step, shards: int | None, shard: str | None, workers: int | None) -> dict[str, Any] | None:
    """Carry the step out and return its report; None when it was sent to the queue, or one shard was asked for."""
    from jobs.cli.common.console import out
    from jobs.cli.common.quiet import progress_bar, quiet

    told = click.get_current_context().meta
    submit = bool(told.get(f"{__name__}.submit"))
    refuse_idle("profile", "without --submit", unless=submit)
    refuse_idle("workers shard", "with --submit", unless=not submit)
    refuse_idle("workers shards", "with --shard, which does one part", unless=shard is None)
    if submit:
        _send(step, shards or 8, told[f"{__name__}.profile"])
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


def _send(step: Step, shards: int, profile_name: str) -> None:
    from jobs.cli.common.console import out, warn
    from jobs.engine.submit import submit_step
    from slurm import profile as profiles
    from slurm import reach
    from slurm.sbatch import Resources

    if step.finished() is not None:
        out.print(f"{step.name}: {step.out} is complete; nothing to send")
        return
    profile = profiles.load(profile_name)
    on = Resources(cpus_per_node=1, memory_gb=4, walltime_min=240)
    with reach.scheduler_at_hand(profile):
        array, merge = submit_step(step, shards, profile, on, tell=warn)
    out.print(f"{step.name}: job array {array} of {shards}, then the merge {merge}; logs in {step.out / '.jobs'}")
