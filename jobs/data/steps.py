"""What all sharded data commands share: their options, and how a step is carried out, here or as a job array."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click

from data_tools.shards import Shard, Step, carry_out


def step_options(command: Callable[..., None]) -> Callable[..., None]:
    """--shards, --shard, --workers, --max-bad; pass them on to `run_step`."""
    options = [
        click.option("--shards", type=click.IntRange(1), default=None, help="Parts to cut the work in.  [cores]"),
        click.option("--shard", default=None, metavar="I/N", help="Do only this part, e.g. 3/8."),
        click.option("--workers", type=click.IntRange(1), default=None, help="Processes at once.  [cores]"),
        click.option(
            "--max-bad", type=click.FloatRange(0, 1), default=0.01, show_default=True, help="Bad rows allowed, a share."
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def run_step(step: Step, shards: int | None, shard: str | None, workers: int | None) -> dict[str, Any] | None:
    """Carry the step out and return its report; None when only one shard was asked for."""
    from rich.progress import Progress

    from jobs.console import out

    if shard is not None:
        part = Shard.parse(shard)
        step.run_one(part)
        out.print(f"{step.name}: shard {part} is done")
        return None
    with Progress(console=out, disable=not out.is_terminal) as bar:
        task = bar.add_task(step.name)
        count = shards or len(os.sched_getaffinity(0))
        return carry_out(step, count, workers, lambda done, total: bar.update(task, completed=done, total=total))
