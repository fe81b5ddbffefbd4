"""Hours of a run out of its attempts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.stage import Stage, StageRun
from jobs.engine.watch import cost
from slurm import scheduler
from slurm.sbatch import Resources
from slurm.scheduler import Attempt, Tres


def attempt(job: str, state: str, hours: float, gpus: int = 8, start: float = 10.0) -> Attempt:
    tres = Tres(64, gpus, 1)
    return Attempt(job, state, "0:0", start, start + 1, int(hours * 3600), 120, tres, tres if hours else Tres(), "n1")


def test_requeues_cost_hours_and_are_counted_as_lost_while_the_request_counts_once() -> None:
    found = cost.of_attempts("rl", [attempt("9", "PREEMPTED", 0.5), attempt("9", "COMPLETED", 1.0)])
    assert (found.jobs, found.attempts) == (1, 2)
    assert found.asked_gpu_h == 16.0
    assert found.used_gpu_h == 12.0
    assert found.lost_gpu_h == 4.0
    assert (found.asked_cpu_h, found.used_cpu_h, found.lost_cpu_h) == (128.0, 96.0, 32.0)


def test_an_attempt_of_which_accounting_does_not_know_the_request_yet_hides_nothing() -> None:
    fresh = replace(attempt("9", "RUNNING", 0.1), limit_min=0, requested=Tres())
    found = cost.of_attempts("rl", [attempt("9", "REQUEUED", 0.5), fresh])
    assert (found.jobs, found.asked_gpu_h) == (1, 16.0)


def test_a_job_that_never_started_asked_and_used_nothing() -> None:
    found = cost.of_attempts("rl", [attempt("9", "CANCELLED", 0.0, start=0.0)])
    assert (found.attempts, found.asked_gpu_h, found.used_gpu_h) == (0, 16.0, 0.0)


def test_the_chain_is_the_sum_of_its_stages() -> None:
    stages = [cost.of_attempts(name, [attempt(name, "COMPLETED", 1.0)]) for name in ("1", "2")]
    chain = cost.total(stages)
    assert (chain.stage, chain.jobs, chain.used_gpu_h) == ("chain", 2, 16.0)
    assert cost.total([]).used_gpu_h == 0


def nothing(run: StageRun) -> None:
    """A stage that does nothing."""


def test_every_job_a_stage_has_had_counts_and_a_batch_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = [Stage("sft", nothing, (), Resources())]
    stages += [Stage(f"cells/{n}", nothing, (), Resources(), batch="cells") for n in ("a", "b")]
    ledger = Ledger(tmp_path / "run")
    ledger.create()
    ledger.record_submissions({"sft": ("1", "f"), "cells/a": ("2_0", "f"), "cells/b": ("2_1", "f")})
    ledger.record_submissions({"sft": ("3", "f")})
    assert ledger.submissions()["sft"]["earlier"] == ["1"]
    asked: list[str] = []

    def attempts(jobs, since):
        asked.extend(jobs)
        return [attempt(job, "COMPLETED", 1.0) for job in ("1", "3", "2_0", "2_1")]

    monkeypatch.setattr(scheduler, "attempts", attempts)
    found = {one.stage: one for one in cost.of_run(stages, ledger)}
    assert sorted(asked) == ["1", "2_0", "2_1", "3"]
    assert (found["sft"].jobs, found["sft"].used_gpu_h) == (2, 16.0)
    assert (found["cells"].jobs, found["cells"].attempts) == (1, 2)
