"""`--reuse RUN`: which stages of another run count, how they are linked, and what becomes of the links."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from jobs.engine.facts import gather
from jobs.engine.plan import Planned, plan
from jobs.engine.run_folder import code_version, reuse, snapshot
from jobs.engine.run_folder.ledger import Done, Ledger
from jobs.engine.run_folder.ownership import owner_file
from jobs.engine.run_folder.records import write_json
from jobs.engine.stage import Artifact, Given, Stage, StageRun, identities
from jobs.engine.state import each
from jobs.engine.watch import cost
from proxygrm.core.errors import UserError
from proxygrm.core.files import owner
from proxygrm.report.gather import gather as report_facts
from slurm.sbatch import Resources
from support.refusals import refused

SNAPSHOT = f"code/{snapshot.planned(Path()).name}"


@dataclass(frozen=True)
class Settings:
    size: int = 1


def nothing(run: StageRun) -> None:
    """A stage that does nothing."""


OWN = code_version.own_code(nothing)


def chain(data: Path, size: int = 1, last: int = 1) -> list[Stage]:
    first = Stage(
        "first", nothing, (Artifact("rows"),), Resources(), Settings(size), {"data": Given(str(data))}, array=2
    )
    second = Stage(
        "second", nothing, (Artifact("model"),), Resources(), Settings(last), {"rows": first / "rows"},
        leftovers=("checkpoints", "work/part-*"),
    )  # fmt: skip
    return [first, second]


def done(stage: Stage, cell: int, **other: str) -> Done:
    record = Done(stage.name, stage.fingerprint(), cell, 100.0, 200.0, "7", ["n1"], 10, claim="mine")
    usual: dict[str, Any] = {"code": "abc", "snapshot": SNAPSHOT, "recipe": OWN, **other}
    return replace(record, **usual)


def finish(ledger: Ledger, stage: Stage, **other: str) -> None:
    """As a job leaves it."""
    ledger.prepare(stage, stage.fingerprint())
    folder = ledger.folder / stage.name
    for cell in range(stage.array):
        write_json(owner_file(folder, cell), {"claim": "mine"})
    (folder / "jobs").mkdir()
    (folder / "metrics.jsonl").write_text("{}\n")
    for artifact in stage.makes:
        (folder / artifact.path).mkdir()
        (folder / artifact.path / "file").write_text("made")
    for left in ("checkpoints/step_1", "work/part-0"):
        (folder / left).mkdir(parents=True)
    for cell in range(stage.array):
        ledger.write_done(stage, done(stage, cell, **other))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_text("row\n")
    return path


@pytest.fixture
def source(tmp_path: Path, data: Path) -> Ledger:
    """A run that has done everything."""
    ledger = Ledger(tmp_path / "source")
    ledger.create()
    write_json(ledger.folder / "run.json", {})
    for stage in chain(data):
        finish(ledger, stage)
    return ledger


@pytest.fixture
def here(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path / "here")
    ledger.create()
    return ledger


def planned(stages: list[Stage], ledger: Ledger, *sources: Ledger, redo: str = "") -> list[Planned]:
    facts = gather(stages, ledger, ask_scheduler=False, sources=[str(source.folder) for source in sources])
    return plan(stages, facts, frozenset(filter(None, [redo])))


def take(stages: list[Stage], ledger: Ledger, *sources: Ledger) -> None:
    """As a submit does."""
    known = identities(stages)
    for line in planned(stages, ledger, *sources):
        if line.elsewhere:
            reuse.link(ledger, line.stage, known[line.stage.name], line.elsewhere)


def actions(lines: list[Planned]) -> list[str]:
    return [line.action for line in lines]


def test_a_finished_stage_is_reused_and_then_counts_as_done_here(data: Path, source: Ledger, here: Ledger) -> None:
    stages = chain(data)
    before = planned(stages, here, source)
    assert actions(before) == ["reuse", "reuse"]
    assert "job 7" in before[0].because
    assert not (here.folder / "first").exists(), "a plan writes nothing"
    take(stages, here, source)
    after = planned(stages, here)
    assert actions(after) == ["skip", "skip"]
    assert str(source.folder) in after[0].because
    state = each(stages, here, away="no scheduler")["first"]
    assert (state.word, state.job_id, state.seconds) == ("done", "7", 100.0)
    assert str(source.folder) in state.detail
    assert cost.of_records(stages, here) == [], "its hours count in the other run"
    assert report_facts(here.folder).stages[0].note == f"reused from {source.folder}"
    assert reuse.users(source.folder) == {"first": [str(here.folder)], "second": [str(here.folder)]}


def test_the_work_is_linked_and_not_what_served_to_do_it(data: Path, source: Ledger, here: Ledger) -> None:
    take(chain(data), here, source)
    folder = here.folder / "second"
    assert (folder / "model" / "file").read_text() == "made"
    assert {path.name for path in folder.iterdir() if path.is_symlink()} == {"model", "metrics.jsonl"}
    real = {path.name for path in folder.iterdir() if not path.is_symlink()}
    assert real == {"DONE.json", "fingerprint", "made_of.json"}, "no owner file: its claim is that of the other run"


def test_a_later_stage_that_differs_runs_and_waits_for_no_job_of_the_other_run(
    data: Path, source: Ledger, here: Ledger
) -> None:
    lines = planned(chain(data, last=2), here, source)
    assert [(line.action, line.after) for line in lines] == [("reuse", ()), ("run", ())]
    assert "size 1 -> 2" in lines[1].because


def test_a_stage_whose_upstream_runs_is_not_reused(data: Path, source: Ledger, here: Ledger) -> None:
    lines = planned(chain(data), here, source, redo="first")
    assert [(line.action, line.after) for line in lines] == [("run", ()), ("run", ("first",))]


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"snapshot": "code/0123456789ab", "code": "v1"}, "made by code v1, this is"),
        ({"snapshot": "", "code": "v1"}, "made by code v1, this is"),
        ({"snapshot": "", "code": ""}, "unknown revision"),
        ({"recipe": "0123456789abcdef"}, "the file with its function has changed"),
    ],
)
def test_work_of_other_code_is_not_reused(
    data: Path, source: Ledger, here: Ledger, other: dict[str, str], reason: str
) -> None:
    first = chain(data)[0]
    for cell in range(first.array):
        source.write_done(first, done(first, cell, **other))
    line = planned(chain(data), here, source)[0]
    assert line.action == "run"
    assert reason in line.because
    assert "not reused from" in line.because


def test_uncommitted_changes_are_told_apart_by_the_copy_of_the_code(
    data: Path, source: Ledger, here: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_version, "git_revision", lambda: "abc-dirty")
    first = chain(data)[0]
    for cell in range(first.array):
        source.write_done(first, done(first, cell, code="abc-dirty", snapshot="code/0123456789ab"))
    assert "other uncommitted changes" in planned(chain(data), here, source)[0].because
    for cell in range(first.array):  # sent by hand: the checkout itself ran, whatever it was then
        source.write_done(first, done(first, cell, code="abc-dirty", snapshot=""))
    assert planned(chain(data), here, source)[0].action == "run"
    monkeypatch.setattr(code_version, "git_revision", lambda: "abc")
    for cell in range(first.array):
        source.write_done(first, done(first, cell, code="abc", snapshot=""))
    assert planned(chain(data), here, source)[0].action == "reuse"


def test_what_is_not_proven_done_there_is_not_reused(data: Path, source: Ledger, here: Ledger) -> None:
    source.done_path(chain(data)[0], 1).unlink()
    shutil.rmtree(source.folder / "second" / "model")
    lines = planned(chain(data), here, source)
    assert actions(lines) == ["run", "run"]
    assert "not done there" in lines[0].because
    assert "model is not usable" in lines[1].because
    shutil.rmtree(source.folder)
    assert "no such folder any more" in planned(chain(data), here, source)[0].because


def test_the_first_run_that_has_it_counts_and_links_lead_to_who_did_the_work(
    tmp_path: Path, data: Path, source: Ledger, here: Ledger
) -> None:
    middle = Ledger(tmp_path / "middle")
    middle.create()
    take(chain(data), middle, source)
    lines = planned(chain(data), here, Ledger(tmp_path / "empty"), middle)
    assert [line.elsewhere.run for line in lines if line.elsewhere] == [source.folder, source.folder]
    take(chain(data), here, middle)
    shutil.rmtree(middle.folder)
    assert actions(planned(chain(data), here)) == ["skip", "skip"]


def test_files_that_others_may_write_are_refused(data: Path, source: Ledger, here: Ledger) -> None:
    (source.folder / "first" / "rows" / "file").chmod(0o666)
    (source.folder / "second").chmod(0o777)
    lines = planned(chain(data), here, source)
    assert actions(lines) == ["run", "run"]
    assert all("others may write to" in line.because for line in lines)


def test_of_another_user_s_run_only_what_cannot_run_code_is_taken(
    data: Path, source: Ledger, here: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reuse.os, "geteuid", lambda: os.getuid() + 1)
    assert actions(planned(chain(data), here, source)) == ["reuse", "reuse"]
    (source.folder / "second" / "model" / "weights.bin").write_text("pickle")
    lines = planned(chain(data), here, source)
    assert actions(lines) == ["reuse", "run"]
    assert f"would run code of {owner.name_of(os.getuid())}" in lines[1].because


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
def test_a_run_belongs_to_one_user(data: Path, source: Ledger, here: Ledger) -> None:
    other = 65534
    for path in (source.folder, *source.folder.rglob("*")):
        os.chown(path, other, other)
    assert actions(planned(chain(data), here, source)) == ["reuse", "reuse"]
    os.chown(source.folder / "first" / "rows" / "file", 0, 0)
    lines = planned(chain(data), here, source)
    assert actions(lines) == ["run", "run"]
    assert f"belongs to {owner.name_of(0)}, the run to {owner.name_of(other)}" in lines[0].because
    os.chown(source.folder / "first" / "rows" / "file", other, other)
    take(chain(data), here, source)
    assert actions(planned(chain(data), here)) == ["skip", "skip"]
    assert not (source.folder / "used_by").exists(), "another user's run is only read"


def test_a_folder_that_is_a_link_is_not_used(data: Path, source: Ledger, here: Ledger) -> None:
    (source.folder / "first" / "rows" / "more").symlink_to("/usr")
    assert "more is a link to a folder" in planned(chain(data), here, source)[0].because


def test_a_cell_of_an_ablation_is_reused_by_its_name(data: Path, source: Ledger, here: Ledger) -> None:
    first = chain(data)[0]
    cell = replace(chain(data)[1], name="cells/a/second", batch="seconds", needs={"rows": first / "rows"})
    finish(source, cell)
    take([first, cell], here, source)
    assert actions(planned([first, cell], here)) == ["skip", "skip"]
    assert (here.folder / "cells" / "a" / "second" / "model").is_symlink()
    assert reuse.users(source.folder)["cells/a/second"] == [str(here.folder)]


@pytest.mark.parametrize("lost", ["moved", "redone", "artifact"])
def test_links_whose_work_is_gone_are_noticed_and_the_stage_runs_here(
    data: Path, source: Ledger, here: Ledger, lost: str
) -> None:
    stages = chain(data)
    take(stages, here, source)
    if lost == "moved":
        source.folder.rename(source.folder.with_name("elsewhere"))
    elif lost == "redone":
        source.prepare(stages[0], stages[0].fingerprint(), redo=True)
        (source.folder / "first" / "rows").write_text("half of it")
    else:
        shutil.rmtree(source.folder / "first" / "rows")
    line = planned(stages, here)[0]
    assert line.action == "run"
    assert ("no longer has the work" in line.because) == (lost != "artifact")
    state = each(stages, here, away="no scheduler")["first"]
    assert (state.word, "no longer has the work" in state.detail) == ("not submitted", lost != "artifact")
    here.prepare(stages[0], stages[0].fingerprint())
    assert sorted(path.name for path in (here.folder / "first").iterdir()) == ["fingerprint", "made_of.json"]
    (here.folder / "first" / "rows").write_text("of this run")
    assert not list(source.folder.parent.glob("*/first.*/rows/rows")), "nothing was written through a link"


@pytest.mark.parametrize("redo", [True, False])
def test_running_a_reused_stage_again_leaves_the_other_run_as_it_was(
    data: Path, source: Ledger, here: Ledger, redo: bool
) -> None:
    take(chain(data), here, source)
    before = {path: path.lstat().st_mtime_ns for path in source.folder.rglob("*")}
    changed = chain(data, size=1 if redo else 2)[0]
    here.prepare(changed, changed.fingerprint(), redo=redo)
    assert not list(here.folder.glob("first.*")), "links are nobody's work: they are not kept"
    assert {path: path.lstat().st_mtime_ns for path in source.folder.rglob("*")} == before
    assert reuse.users(source.folder) == {"second": [str(here.folder)]}


def test_unfinished_work_of_this_run_is_moved_aside_for_finished_work(data: Path, source: Ledger, here: Ledger) -> None:
    stages = chain(data)
    here.prepare(stages[0], stages[0].fingerprint())
    (here.folder / "first" / "half").write_text("half")
    take(stages, here, source)
    assert actions(planned(stages, here)) == ["skip", "skip"]
    assert [path.read_text() for path in here.folder.glob("first.*/half")] == ["half"]


def test_work_that_changes_while_it_is_linked_is_refused(data: Path, source: Ledger, here: Ledger) -> None:
    stages = chain(data)
    line = planned(stages, here, source)[0]
    assert line.elsewhere is not None
    source.prepare(stages[0], stages[0].fingerprint(), redo=True)
    with refused("reuse.changed"):
        reuse.link(here, stages[0], identities(stages)["first"], line.elsewhere)
    assert not (here.folder / "first").exists()


def test_a_run_folder_that_cannot_be_written_is_one_clear_error(
    data: Path, source: Ledger, here: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = chain(data)
    line = planned(stages, here, source)[0]

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "symlink_to", full)
    assert line.elsewhere is not None
    with pytest.raises(UserError) as caught:
        reuse.link(here, stages[0], identities(stages)["first"], line.elsewhere)
    assert caught.value.code == "reuse.cannot-link"
    assert list(here.folder.iterdir()) == []
