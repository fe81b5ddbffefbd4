"""What `proxygrm clean` finds in a run folder, and that nothing else goes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from jobs.engine.run_folder import tokens
from jobs.engine.run_folder.ledger import Done, Ledger
from jobs.engine.space.clean import Removable, refuse_active, removable, remove
from jobs.engine.stage import Artifact, Stage, StageRun
from slurm import scheduler
from slurm.sbatch import Resources
from slurm.scheduler import JobState
from support.refusals import refused


def nothing(run: StageRun) -> None:
    """A stage that does nothing."""


def stages(config: int = 1) -> list[Stage]:
    first = Stage(
        "first", nothing, (Artifact("model"),), Resources(), config, leftovers=("trainer/checkpoint-*", "last")
    )
    cell = Stage("cells/a/second", nothing, (Artifact("rows"),), Resources(), needs={"model": first / "model"})
    return [first, cell]


def finish(ledger: Ledger, stage: Stage, copy: str) -> Path:
    """Returns its folder."""
    ledger.prepare(stage, stage.fingerprint())
    folder = ledger.folder / stage.name
    (folder / stage.makes[0].path).write_text("made")
    for checkpoint in ("checkpoint-1", "checkpoint-2"):
        (folder / "trainer" / checkpoint).mkdir(parents=True)
        (folder / "trainer" / checkpoint / "weights").write_bytes(bytes(10_000))
    (folder / "last").symlink_to("trainer/checkpoint-2")
    (folder / "trainer" / "log").write_text("stays")
    (ledger.folder / "code" / copy).mkdir(parents=True, exist_ok=True)
    record = Done(stage.name, stage.fingerprint(), 0, 1.0, 2.0, "7", ["n1"], 10, snapshot=f"code/{copy}")
    ledger.write_done(stage, record)
    return folder


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "run")


def names(found: list[Removable], ledger: Ledger) -> list[str]:
    return [str(one.path.relative_to(ledger.folder)) for one in found]


def test_checkpoints_of_done_stages_go_and_what_was_made_stays(ledger: Ledger) -> None:
    chain = stages()
    folder = finish(ledger, chain[0], "0" * 12)
    os.link(folder / "trainer" / "checkpoint-2" / "weights", folder / "model-weights")  # as the published model is
    found = removable(chain, ledger)
    assert names(found, ledger) == ["first/last", "first/trainer/checkpoint-1", "first/trainer/checkpoint-2"]
    sizes = [one.size for one in found]
    assert sizes[1] >= 10_000 > sizes[2], "a file that the model has too frees nothing"
    remove(found)
    assert sorted(path.name for path in folder.iterdir()) == [
        "DONE.json", "fingerprint", "made_of.json", "model", "model-weights", "trainer"
    ]  # fmt: skip
    assert ledger.unfinished(chain[0], chain[0].fingerprint()) is None
    assert removable(chain, ledger) == []


def test_checkpoints_of_a_stage_that_is_not_done_stay(ledger: Ledger) -> None:
    chain = stages()
    folder = finish(ledger, chain[0], "0" * 12)
    assert removable(stages(config=2), ledger) == [], "done with another configuration"
    (folder / "model").unlink()
    assert removable(chain, ledger) == []
    ledger.done_path(chain[0]).unlink()
    assert names(removable(chain, ledger), ledger) == ["code/000000000000"]


def test_work_that_was_moved_aside_goes_with_all_that_is_in_it(ledger: Ledger) -> None:
    for config, copy in ((1, "1" * 12), (2, "2" * 12), (2, "3" * 12)):
        first, cell = stages(config)
        ledger.prepare(first, first.fingerprint(), redo=copy[0] == "3")
        finish(ledger, first, copy)
        if copy[0] != "3":
            finish(ledger, cell, copy)
    assert stages(2)[1].fingerprint() != stages(1)[1].fingerprint()
    other = ledger.folder / "first.notes"
    other.mkdir()
    named = names(removable(stages(2), ledger), ledger)
    old, new = stages(1), stages(2)
    assert [name for name in named if name.startswith(("first.", "cells"))] == [
        f"cells/a/second.{old[1].fingerprint()}",
        *sorted([f"first.{old[0].fingerprint()}", f"first.{new[0].fingerprint()}"]),
    ]
    assert [name for name in named if name.startswith("code")] == ["code/111111111111"]


def test_copies_of_the_code_stay_while_a_record_or_the_script_of_a_last_job_names_them(ledger: Ledger) -> None:
    chain = stages()
    finish(ledger, chain[0], "1" * 12)
    for copy in ("2" * 12, "3" * 12, "4" * 12):
        (ledger.folder / "code" / copy).mkdir()
    jobs = ledger.folder / "cells" / "a" / "second" / "jobs"
    jobs.mkdir(parents=True)
    for job, copy in (("8", "2" * 12), ("9", "3" * 12)):
        (jobs / f"{job}_submission.sh").write_text(f"cd {ledger.folder}/code/{copy} && srun python\n")
        ledger.record_submissions({chain[1].name: (job, "f")})
    found = [name for name in names(removable(chain, ledger), ledger) if name.startswith("code")]
    assert found == ["code/222222222222", "code/444444444444"]


def test_half_written_files_go_once_they_are_old(ledger: Ledger) -> None:
    chain = stages()
    folder = finish(ledger, chain[0], "1" * 12)
    remove(removable(chain, ledger))
    fresh, old = folder / ".rows.0123456789ab", folder / ".model.ba9876543210"
    fresh.write_text("half")
    old.mkdir()
    (old / "weights").write_text("half")
    hour_ago = time.time() - 4000
    os.utime(old, (hour_ago, hour_ago))
    assert names(removable(chain, ledger), ledger) == ["first/.model.ba9876543210"]
    remove(removable(chain, ledger))
    assert fresh.exists()
    assert not old.exists()


def test_no_link_is_followed_out_of_the_run_folder(ledger: Ledger, tmp_path: Path) -> None:
    chain = stages()
    folder = finish(ledger, chain[0], "1" * 12)
    elsewhere = tmp_path / "elsewhere"
    (folder / "trainer").rename(elsewhere)
    (folder / "trainer").symlink_to(elsewhere)
    aside = ledger.folder / f"first.{'a' * 16}"
    aside.symlink_to(elsewhere)
    assert names(removable(chain, ledger), ledger) == ["first/last", aside.name]
    remove(removable(chain, ledger))
    assert not aside.is_symlink()
    assert sorted(path.name for path in elsewhere.iterdir()) == ["checkpoint-1", "checkpoint-2", "log"]


def test_nothing_goes_from_a_run_that_works(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = {"7": [JobState("FAILED")], "8": [JobState("RUNNING")]}
    monkeypatch.setattr(scheduler, "query", lambda ids, since=0.0: {job: jobs[job] for job in ids})
    monkeypatch.setattr(scheduler, "find", lambda sent, since: {})
    ledger.create()
    ledger.record_submissions({"first": ("7", "f")})
    refuse_active(ledger)
    ledger.record_submissions({"second": ("8_3", "f")})
    with refused("clean.active", jobs=["8"]):
        refuse_active(ledger)
    jobs["8"] = [JobState("COMPLETED")]
    tokens.begin(ledger, {"first": "f"}, 1, ledger.folder / "first" / "jobs")
    with refused("clean.active", jobs=[]):
        refuse_active(ledger)


def test_what_cannot_be_removed_is_named(ledger: Ledger) -> None:
    with refused("clean.cannot-remove", path=str(ledger.folder / "gone")):
        remove([Removable(ledger.folder / "gone", "")])
