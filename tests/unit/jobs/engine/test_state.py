"""What SLURM and the run folder say -> one word a stage, without a cluster."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobs.engine import facts, state
from jobs.engine.run_folder import failures
from jobs.engine.run_folder import ledger as ledgers
from jobs.engine.run_folder.ledger import Done, Ledger
from jobs.engine.run_folder.records import write_json
from jobs.engine.stage import Artifact, Stage, StageRun
from jobs.engine.state import StageState, of_batch, word_of
from slurm import scheduler
from slurm.sbatch import Resources
from slurm.scheduler import JobState, Tres

pytestmark = pytest.mark.slow


def nothing(run: StageRun) -> None:
    """A stage that does nothing."""


def two_stages() -> list[Stage]:
    first = Stage("first", nothing, (Artifact("m"),), Resources(), array=3)
    second = Stage("second", nothing, (Artifact("r"),), Resources(), needs={"m": first / "m"})
    return [first, second]


@pytest.mark.parametrize(
    ("job", "word"),
    [
        (JobState("PENDING", "Priority"), "pending"),
        (JobState("PENDING", "Dependency"), "waiting"),
        (JobState("PENDING", "DependencyNeverSatisfied"), "pending"),
        (JobState("PENDING", "BeginTime", restarts=2), "requeued"),
        (JobState("REQUEUED"), "requeued"),
        (JobState("RUNNING", restarts=1), "running"),
        (JobState("COMPLETING"), "running"),
        (JobState("SUSPENDED"), "running"),
        (JobState("COMPLETED"), "failed"),
        (JobState("FAILED", exit_code="1:0"), "failed"),
        (JobState("OUT_OF_MEMORY"), "failed"),
        (JobState("TIMEOUT"), "timed out"),
        (JobState("DEADLINE"), "timed out"),
        (JobState("NODE_FAIL"), "node failed"),
        (JobState("PREEMPTED"), "preempted"),
        (JobState("CANCELLED"), "cancelled"),
        (JobState("SOMETHING_NEW"), "unknown"),
    ],
)
def test_every_state_of_slurm_has_one_word_of_the_closed_set(job: JobState, word: str) -> None:
    assert word_of(job) == word
    assert word in state.WORDS


def test_every_active_state_is_live_and_no_other_is() -> None:
    assert {word_of(JobState(name)) for name in scheduler.ACTIVE} <= state.LIVE
    assert not {word_of(JobState(name)) for name in state.ENDED} & state.LIVE


def run_with(monkeypatch: pytest.MonkeyPatch, ledger: Ledger, jobs: dict[str, list[JobState]]) -> list[StageState]:
    monkeypatch.setattr(state, "query", lambda ids, since=0.0: {job: jobs[job] for job in ids if job in jobs})
    return state.status(two_stages(), ledger)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    found = Ledger(tmp_path / "a run")
    stages = two_stages()
    for stage, job in zip(stages, ("7", "8"), strict=True):
        found.prepare(stage, stage.fingerprint())
        found.record_submissions({stage.name: (job, stage.fingerprint())})
    return found


def test_elements_of_an_array_are_counted_and_a_stage_names_what_it_waits_for(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(ledger.folder / "first" / "FAILED.2.json", {"reason": "no room", "node": "n1", "time": 60.0})
    jobs = {
        "7_0": [JobState("RUNNING", nodes="n1", started=50.0)],
        "7_1": [JobState("PENDING", "Resources")],
        "7_2": [JobState("FAILED", nodes="n1", started=50.0)],
        "8": [JobState("PENDING", "Dependency")],
    }
    first, second = run_with(monkeypatch, ledger, jobs)
    assert first.word == "running"
    assert first.detail.startswith("1 running, 1 pending, 1 failed")
    assert first.counts == {"running": 1, "pending": 1, "failed": 1}
    assert (second.word, second.detail) == ("waiting", "for first")


def test_progress_of_an_earlier_attempt_is_not_shown_as_that_of_this_one(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"done": 30, "total": 30, "note": "all", "time": 100.0}
    write_json(ledger.folder / "second" / "progress.0.json", row)
    again = {"8": [JobState("RUNNING", nodes="n1", started=200.0, restarts=1)]}
    _, second = run_with(monkeypatch, ledger, again)
    assert (second.word, second.done, second.total, second.attempt) == ("running", 0, 0, 2)
    assert second.detail == "on n1, attempt 2"
    _, second = run_with(monkeypatch, ledger, {"8": [JobState("RUNNING", nodes="n1", started=90.0)]})
    assert (second.done, second.total) == (30, 30)


def test_a_failure_written_by_an_earlier_attempt_is_not_told_of_this_one(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(ledger.folder / "second" / "FAILED.0.json", {"reason": "an old one", "node": "", "time": 100.0})
    _, second = run_with(monkeypatch, ledger, {"8": [JobState("FAILED", exit_code="1:0", started=200.0)]})
    assert second.word == "failed"
    assert "an old one" not in second.detail
    long = "RayTaskError(OutOfMemoryError): ray::Worker()\n" + "  File x\n" * 500 + "OutOfMemoryError: no room\n"
    assert failures.in_one_line({"reason": long, "node": "n1"}) == (
        "RayTaskError(OutOfMemoryError): ray::Worker() ... OutOfMemoryError: no room (on n1)"
    )
    assert failures.in_one_line({"reason": " \n", "node": ""}) == "no reason given"
    assert "proxygrm why second" in second.detail


def test_a_job_that_nobody_knows_is_unknown_not_done_and_not_failed(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [one.word for one in run_with(monkeypatch, ledger, {})] == ["unknown", "unknown"]


def test_done_needs_the_record_whatever_slurm_says(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    completed = {f"7_{cell}": [JobState("COMPLETED")] for cell in range(3)}
    assert run_with(monkeypatch, ledger, completed)[0].word == "failed"
    (stage, _) = two_stages()
    for cell in range(3):
        ledger.write_done(stage, Done("first", stage.fingerprint(), cell, 1.0, 9.0, "7", ["n"], 1, attempts=cell + 1))
    (ledger.folder / "first" / "m").write_text("made")
    first = run_with(monkeypatch, ledger, completed)[0]
    assert (first.word, first.seconds, first.attempt) == ("done", 8.0, 3)
    assert run_with(monkeypatch, ledger, {})[0].word == "done"  # SLURM may forget it
    (ledger.folder / "first" / "m").unlink()
    first = run_with(monkeypatch, ledger, completed)[0]
    assert first.word == "failed"
    assert "m is not usable" in first.detail


def test_jobs_sent_by_hand_that_record_themselves_at_once_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "RECORDING_S", 900.0)  # each of them waits for a slow disk, and for the others to
    ledger = Ledger(tmp_path / "a run")
    stages = [Stage(f"s{number}", nothing, (), Resources()) for number in range(24)]

    def record(number: int) -> None:
        ledger.record_by_hand(stages[number], "f", f"{number}", 5.0)

    with ThreadPoolExecutor(len(stages)) as pool:
        list(pool.map(record, range(len(stages))))
    assert {name: row["job_id"] for name, row in ledger.submissions().items()} == {
        stage.name: f"{number}" for number, stage in enumerate(stages)
    }


def test_a_job_sent_by_hand_records_itself_once_and_moves_work_of_another_configuration_aside(tmp_path: Path) -> None:
    ledger, stage = Ledger(tmp_path / "a run"), two_stages()[0]
    ledger.record_by_hand(stage, "f", "7", 5.0)
    (ledger.folder / "first" / "half").write_text("done")
    failure = ledger.folder / "first" / "FAILED.1.json"
    failure.write_text("{}")
    ledger.record_by_hand(stage, "f", "7", 900.0)  # another element of the array, or a requeue
    assert failure.exists()
    ledger.record_by_hand(stage, "f", "9", 1000.0)
    row = ledger.submissions()["first"]
    assert (row["job_id"], row["earlier"], row["first"], row["submitted"]) == ("9", ["7"], 5.0, 1000.0)
    assert (ledger.folder / "first" / "half").exists(), "it is resumed"
    ledger.record_by_hand(stage, "g", "11", 2000.0)
    assert not (ledger.folder / "first" / "half").exists()
    assert (ledger.folder / "first.f" / "half").exists()


def test_an_array_sent_in_parts_is_known_in_all_its_parts(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    first = two_stages()[0]
    ledger.write_done(first, Done("first", first.fingerprint(), 0, 1.0, 9.0, "7", ["n"], 1))
    ledger.record_by_hand(first, first.fingerprint(), "30", 5.0)  # element 2 alone, while 7_1 still runs
    jobs = {
        "7_0": [JobState("COMPLETED")],
        "7_1": [JobState("RUNNING", nodes="n1", started=50.0)],
        "7_2": [JobState("FAILED", nodes="n1", started=50.0)],
        "30_2": [JobState("COMPLETED")],
    }
    ledger.write_done(first, Done("first", first.fingerprint(), 2, 1.0, 9.0, "30", ["n"], 1))
    assert run_with(monkeypatch, ledger, jobs)[0].counts == {"done": 2, "running": 1}
    monkeypatch.setattr(facts, "query", lambda ids, since=0.0: {"7": [jobs["7_1"][0]], "30": jobs["30_2"]})
    queued = facts.gather(two_stages(), ledger)["first"].queued
    assert queued
    assert (queued.job_id, queued.state) == ("7", "RUNNING")


def test_what_was_done_with_another_configuration_has_not_failed(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    (_, stage) = two_stages()
    ledger.write_done(stage, Done("second", "an older one", 0, 1.0, 9.0, "8", ["n"], 1))
    (ledger.folder / "second" / "r").write_text("made")
    for jobs in ({"8": [JobState("COMPLETED")]}, {}):
        second = run_with(monkeypatch, ledger, jobs)[1]
        assert second.word == "not submitted"
        assert "changed since it was done" in second.detail
    assert run_with(monkeypatch, ledger, {"8": [JobState("TIMEOUT")]})[1].word == "timed out"


def test_a_batch_is_on_its_way_while_any_member_is() -> None:
    members = [StageState("a", "done"), StageState("b", "failed", "no room"), StageState("c", "pending", "Priority")]
    found = of_batch("cells", members)
    assert found.word == "pending"
    assert found.detail == "1 pending, 1 failed, 1 done; b: no room"
    assert of_batch("cells", members[:2]).word == "failed"
    assert (found.done, found.total) == (1, 3)


def test_names_of_array_elements_are_spelled_out() -> None:
    assert scheduler._elements("[0-3,7%2]") == ["0", "1", "2", "3", "7"]
    assert scheduler._elements("12") == ["12"]
    assert scheduler._elements("") == [""]
    assert len(scheduler._elements("[0-999]")) == 1000


def test_what_an_allocation_holds_is_read_with_typed_gpus_counted_once() -> None:
    assert scheduler._tres("billing=4,cpu=16,gres/gpu:h100=8,gres/gpu=8,mem=8G,node=2") == Tres(16, 8, 2)
    assert scheduler._tres("cpu=1,gres/gpu:a100=4,gres/gpu:h100=4,node=1") == Tres(1, 8, 1)
    assert scheduler._tres("") == Tres(0, 0, 0)
