"""From a request to recorded jobs, with a scheduler that accepts everything."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data_tools.steps.shards import Shard, Step
from jobs.engine import facts, flow
from jobs.engine.check import Problem
from jobs.engine.flow import Choice
from jobs.engine.plan import Planned
from jobs.engine.recipe import Recipe
from jobs.engine.request import Request, Resolved, asked_before
from jobs.engine.run_folder import code_version, snapshot
from jobs.engine.run_folder.ledger import Done, Ledger
from jobs.engine.run_folder.records import read_json
from jobs.engine.stage import Artifact, Given, Stage, StageRun
from jobs.engine.steps import submit_step
from slurm import limits, reach, scheduler, submission
from slurm.profile import Profile
from slurm.sbatch import Resources
from slurm.scheduler import JobState
from support.refusals import refused


def nothing(run: StageRun) -> None:
    """A stage that does nothing."""


class Heard(flow.Listener):
    def __init__(self) -> None:
        self.steps: list[str] = []

    def on_ready(self) -> None:
        self.steps.append("ready")

    def on_plan(self, planned: list[Planned]) -> None:
        self.steps.append(f"plan {' '.join(line.action for line in planned)}")

    def on_problems(self, problems: list[Problem]) -> str:
        self.steps.append("problems")
        return "; advice"

    def on_reused(self, line: Planned) -> None:
        self.steps.append(f"reused {line.stage.name}")

    def on_sent(self, line: Planned, job_id: str) -> None:
        self.steps.append(f"sent {line.stage.name} {job_id}")


@pytest.fixture(autouse=True)
def queue(monkeypatch: pytest.MonkeyPatch) -> dict[str, JobState]:
    """Job id -> state. Every submission is accepted and waits."""
    jobs: dict[str, JobState] = {}

    def send(work: list[Any], folder: Path, *_: object) -> str:
        jobs[str(100 + len(jobs))] = JobState("PENDING", "Dependency")
        return list(jobs)[-1]

    monkeypatch.setattr(submission, "send", send)
    monkeypatch.setattr(scheduler, "find", lambda tokens, since: {})
    monkeypatch.setattr(facts, "query", lambda ids, since=0.0: {job: [jobs[job]] for job in ids if job in jobs})
    monkeypatch.setattr(reach, "private_cluster_is_down", lambda profile: "")
    monkeypatch.setattr(reach, "scheduler_ready", lambda profile: nullcontext())
    monkeypatch.setattr(limits, "problems", lambda stages, profile: [])
    monkeypatch.setattr(limits, "arrays_too_large", lambda batches: [])
    return jobs


@pytest.fixture
def resolved(tmp_path: Path) -> Resolved:
    data = tmp_path / "data"
    data.mkdir()
    (data / "rows").write_text("row\n")
    first = Stage("first", nothing, (Artifact("rows"),), Resources(), needs={"data": Given(str(data))}, array=2)
    second = Stage("second", nothing, (Artifact("m"),), Resources(), needs={"rows": first / "rows"})
    third = Stage("third", nothing, (Artifact("r"),), Resources(), needs={"m": second / "m", "rows": first / "rows"})
    stages = [first, second, third]
    recipe = Recipe("three", lambda _: stages, {})
    return Resolved(Request(), recipe, "demo", None, Profile("test"), stages)


def test_a_submit_takes_each_step_once_and_computes_each_identity_once(
    tmp_path: Path, resolved: Resolved, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: Counter[str] = Counter()
    made_of = Stage._made_of

    def counted(stage: Stage, known: Any) -> dict[str, Any]:
        computed[stage.name] += 1
        return made_of(stage, known)

    monkeypatch.setattr(Stage, "_made_of", counted)
    heard, ledger = Heard(), Ledger(tmp_path / "run")
    flow.submit(resolved, ledger, Choice(), heard)
    assert heard.steps == ["ready", "plan run run run", "sent first 100", "sent second 101", "sent third 102"]
    assert computed == {"first": 1, "second": 1, "third": 1}
    recorded = read_json(ledger.folder / "run.json")["fingerprints"]
    assert recorded == {name: row["fingerprint"] for name, row in ledger.submissions().items()}
    assert recorded == {stage.name: stage.fingerprint() for stage in resolved.stages}
    assert read_json(ledger.folder / "second" / "made_of.json") == resolved.stages[1].identity().made_of


def test_a_second_submit_waits_for_the_jobs_of_the_first(tmp_path: Path, resolved: Resolved) -> None:
    ledger, heard = Ledger(tmp_path / "run"), Heard()
    flow.submit(resolved, ledger, Choice(), flow.Listener())
    planned = flow.submit(resolved, ledger, Choice(), heard)
    assert heard.steps == ["ready", "plan wait wait wait"]
    assert [line.job_id for line in planned] == ["100", "101", "102"]


def test_what_the_records_prove_done_starts_nothing(tmp_path: Path, resolved: Resolved) -> None:
    ledger, heard = Ledger(tmp_path / "run"), Heard()
    for stage in resolved.stages:
        for cell in range(stage.array):
            ledger.write_done(stage, Done(stage.name, stage.fingerprint(), cell, 1.0, 2.0, "7", ["n1"], 10))
        (ledger.folder / stage.name / stage.makes[0].path).write_text("made")
    flow.submit(resolved, ledger, Choice(), heard)
    assert heard.steps == ["plan skip skip skip"]
    assert not (ledger.folder / "run.json").exists()


def test_a_problem_is_raised_with_its_code_before_anything_is_sent(tmp_path: Path, resolved: Resolved) -> None:
    (tmp_path / "data" / "rows").unlink()
    ledger, heard = Ledger(tmp_path / "run"), Heard()
    with refused("submit.missing-input") as caught:
        flow.submit(resolved, ledger, Choice(), heard)
    assert heard.steps[-1] == "problems"
    assert str(caught.value).endswith("; advice")
    assert ledger.submissions() == {}


def test_only_chosen_stages_and_what_they_need_are_planned(tmp_path: Path, resolved: Resolved) -> None:
    planned = flow.preview(resolved, Ledger(tmp_path / "run"), Choice(("second",)), ask_scheduler=False)
    assert [line.stage.name for line in planned] == ["first", "second"]
    with refused("stage.unknown", name="nine"):
        flow.preview(resolved, Ledger(tmp_path / "run"), Choice(redo=frozenset({"nine"})), ask_scheduler=False)


def _part(shard: Shard, parts: Path) -> None:
    shard.path(parts / "part.txt").write_text("part")


def _part_exists(shard: Shard, parts: Path) -> bool:
    return shard.path(parts / "part.txt").exists()


def _merge(shards: list[Shard], parts: Path) -> dict[str, int]:
    (parts.parent / "all.txt").write_text("merged")
    return {"parts": len(shards)}


def test_a_data_step_is_planned_and_sent_like_stages_of_a_chain(tmp_path: Path, queue: dict[str, JobState]) -> None:
    def step(stamp: str) -> Step:
        return Step("ingest", tmp_path, "r.json", stamp, _part, _part_exists, _merge, tmp_path / "all.txt")

    assert submit_step(step("a"), 3, Profile("test"), Resources()) == ("100", "101")
    assert submit_step(step("a"), 3, Profile("test"), Resources()) == ("100", "101"), "they are queued already"
    assert submit_step(step("b"), 3, Profile("test"), Resources()) == ("102", "103"), "other inputs, the same folder"
    queue.clear()
    for number in range(3):
        step("a").run_one(Shard(number, 3))
    assert submit_step(step("a"), 3, Profile("test"), Resources())[0] != "", "parts without a record are proven again"


def test_what_another_run_has_done_is_linked_and_no_job_waits_for_one_of_its_jobs(
    tmp_path: Path, resolved: Resolved, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, first = Ledger(tmp_path / "source"), resolved.stages[0]
    source.prepare(first, first.fingerprint())
    (source.folder / "first" / "rows").write_text("made")
    code, own = str(snapshot.planned(Path())), code_version.own_code(nothing)
    for cell in range(first.array):
        record = Done("first", first.fingerprint(), cell, 1.0, 2.0, "7", ["n1"], 10, snapshot=code, recipe=own)
        source.write_done(first, record)
    sent: list[Any] = []
    monkeypatch.setattr(submission, "send", lambda _, folder, python, options, *__: sent.append(options) or "1")
    heard, ledger = Heard(), Ledger(tmp_path / "run")
    asked = replace(resolved, request=Request(reuse=(str(source.folder),)))
    flow.submit(asked, ledger, Choice(), heard)
    assert heard.steps == ["ready", "plan reuse run run", "reused first", "sent second 1", "sent third 1"]
    assert [options.get("dependency") for options in sent] == [None, "afterok:1"]
    assert list(ledger.submissions()) == ["second", "third"]
    assert read_json(ledger.folder / "run.json")["request"]["reuse"] == [str(source.folder)]
    assert asked_before(ledger.folder) == asked.request
