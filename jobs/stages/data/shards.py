"""How a stage carries out a data step on its node: in shards, on all CPUs that it has."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from jobs.engine.stage import StageRun

if TYPE_CHECKING:
    from data_tools.steps.shards import Step


def carry_out(step: Step, run: StageRun) -> dict[str, Any]:
    """In as many shards as the stage's settings say. Returns the step's report."""
    from data_tools.steps import shards

    return shards.carry_out(
        step,
        run.config.shards,
        len(os.sched_getaffinity(0)),
        lambda done, total: run.progress(done, total, "shards"),
    )
