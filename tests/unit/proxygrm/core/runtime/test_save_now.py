"""A job that has to stop requests a checkpoint of its training, and waits for it, but not forever."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobs.engine.job import last_save
from proxygrm.core.runtime.save_now import SaveNow, listening, save_before

pytestmark = pytest.mark.slow

TRAINING = """
import sys, time
from pathlib import Path
from proxygrm.core.runtime.save_now import SaveNow
here, seconds = SaveNow(Path(sys.argv[1])), float(sys.argv[2])
while not here.is_requested():
    time.sleep(0.05)
time.sleep(seconds)
here.answer("A checkpoint of step 7 is there to go on from")
time.sleep(60)
"""


@contextmanager
def training(folder: Path, code: str = TRAINING, seconds: float = 0.0) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", code, str(folder), str(seconds)])
    try:
        with listening(folder, process):
            yield process
    finally:
        process.kill()
        process.wait()


def test_a_training_that_is_asked_answers_and_the_answer_is_passed_on(tmp_path: Path) -> None:
    with training(tmp_path):
        assert save_before(time.time() + 120).startswith("A checkpoint of step 7 is there to go on from (after ")


def test_one_that_does_not_answer_in_time_does_not_delay_the_job(tmp_path: Path) -> None:
    with training(tmp_path, seconds=60):
        began = time.monotonic()
        assert re.match(r"No checkpoint within [01] s: ", save_before(time.time() + 1))
        assert time.monotonic() - began < 45


def test_one_that_has_ended_is_not_waited_for(tmp_path: Path) -> None:
    with training(tmp_path, code="") as process:
        process.wait()
        assert save_before(time.time() + 60) == "The training had ended by itself"


def test_a_stage_without_a_training_waits_for_nothing(tmp_path: Path) -> None:
    with training(tmp_path):
        pass
    assert save_before(time.time() + 60) == "Every finished row is on disk"


def test_the_next_attempt_does_not_take_the_last_ones_answer_for_its_own(tmp_path: Path) -> None:
    here = SaveNow(tmp_path)
    here.request()
    here.answer("A checkpoint of step 3 is there to go on from")
    assert (here.is_requested(), here.read_answer()) == (True, "A checkpoint of step 3 is there to go on from")
    here.clear()
    assert (here.is_requested(), here.read_answer()) == (False, None)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_does_not_keep_the_job_from_its_requeue(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with training(tmp_path / "gone"):
        last_save.save("grm_rl", lead_s=60)
    assert "No checkpoint could be" in capsys.readouterr().out


@pytest.fixture
def scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """squeue that prints when this job ends, and scontrol that records its arguments."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "squeue").write_text(f"#!/bin/sh\ncat {tmp_path}/end\n")
    (tools / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/arguments\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "81")
    return tmp_path


@pytest.mark.parametrize(("left", "lead"), [(4, 100), (3600, 4)])
def test_it_waits_as_long_as_the_scheduler_leaves_and_at_most_the_profiles_lead(
    scheduler: Path, capsys: pytest.CaptureFixture[str], left: int, lead: float
) -> None:
    """A preempted job has its partition's grace time, which may be much shorter than the lead before a time limit."""
    (scheduler / "end").write_text(f"{time.time() + left:.0f}\n")
    began = time.monotonic()
    with training(scheduler, seconds=60):
        last_save.save("grm_rl", lead_s=lead)
    assert 2.5 < time.monotonic() - began < 45  # a quarter of the 4 s is for requeueing
    assert "it resumes from its last one" in capsys.readouterr().out


def test_a_job_started_by_hand_saves_and_requeues_itself_under_its_array_s_id(
    scheduler: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scheduler / "end").write_text("N/A\n")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "80")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    before = signal.getsignal(signal.SIGUSR2)
    try:
        last_save.on_signal("grm_rl", lead_s=60)
        with training(scheduler):
            monkeypatch.setenv("SLURM_PROCID", "1")
            os.kill(os.getpid(), signal.SIGUSR2)
            assert not (scheduler / "save_now").exists()  # node 0 does it for all
            monkeypatch.setenv("SLURM_PROCID", "0")
            os.kill(os.getpid(), signal.SIGUSR2)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert (scheduler / "arguments").read_text() == "requeue 80_1\n"
