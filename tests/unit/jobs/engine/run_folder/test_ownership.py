"""Two attempts of one stage, both alive: the newer one alone writes. Attempts are real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from data_tools.steps.shards import Shard, Step
from jobs.engine.job.worker import StageJob
from jobs.engine.run_folder.ledger import Done, Ledger
from jobs.engine.run_folder.ownership import SUPERSEDED, Ownership, Superseded
from jobs.engine.stage import Artifact, Stage, StageRun
from jobs.engine.steps import as_stages
from proxygrm.core.errors import UserError
from proxygrm.core.files.durable import move_into_place
from proxygrm.core.files.whole_file import write_text
from proxygrm.evaluate.rows.row_file import RowFile
from slurm.profile import Health, Profile
from slurm.sbatch import Resources
from support.refusals import refused

pytestmark = pytest.mark.slow

PROFILE = Profile("test", health=Health(preflight=False))


def work(run: StageRun) -> None:
    """Makes a folder in two steps; waits in between where it is told to."""
    who, waits = os.environ["WHO"], os.environ["WAITS"]
    run.progress(1, 2, who)
    scratch = run.out / f"scratch-{who}"
    scratch.mkdir()
    (scratch / "weights").write_text(who)
    (run.out.parent / f"begun-{who}").touch()
    while waits and not Path(run.run_dir, "go").exists():
        time.sleep(0.05)
    if "fails" in waits:
        raise UserError("of an attempt that has lost its stage")
    if "silent" in waits:
        return
    move_into_place(scratch, run.out / "model")


STAGE = Stage("train", work, (Artifact("model"),), Resources())
ATTEMPT = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[4:]
import test_ownership as test
from jobs.engine.run_folder import ownership
from jobs.engine.job.worker import StageJob
ownership.CHECK_EVERY_S = float(sys.argv[3])
StageJob(test.STAGE, Path(sys.argv[1]), test.PROFILE, 0, test.STAGE.fingerprint(), float(sys.argv[2]))()
"""


def attempt(
    run: Path, who: str, sent: float, restart: int, waits: str = "", look_s: float = 60.0
) -> subprocess.Popen[str]:
    own = {"WHO": who, "WAITS": waits, "SLURM_RESTART_COUNT": str(restart), "SLURM_JOB_ID": str(int(sent))}
    words = [str(run), str(sent), str(look_s), *map(str, (Path(__file__).parent, Path(__file__).parents[4]))]
    return subprocess.Popen(
        [sys.executable, "-c", ATTEMPT, *words], env={**os.environ, **own}, stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("waits", ["to publish", "silent, to write DONE", "fails"])
@pytest.mark.parametrize(("sent", "restart"), [(7.0, 1), (8.0, 0)], ids=["a requeue", "another job"])
def test_an_attempt_that_outlives_its_requeue_writes_nothing_more(
    tmp_path: Path, waits: str, sent: float, restart: int
) -> None:
    ledger = Ledger(tmp_path)
    old = attempt(tmp_path, "old", 7.0, 0, waits)
    until((tmp_path / "begun-old").exists)
    new = attempt(tmp_path, "new", sent, restart)
    assert new.wait(240) == 0, new.communicate()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "train").glob("*.json")}
    (tmp_path / "go").touch()
    _, said = old.communicate(timeout=240)
    assert old.returncode == SUPERSEDED, said
    assert "belongs to a newer attempt now" in said
    assert "Traceback" not in said
    assert (tmp_path / "train" / "model" / "weights").read_text() == "new"
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "train").glob("*.json")} == before
    assert not list((tmp_path / "train").glob("FAILED*"))
    done = ledger.done(STAGE)
    assert done
    assert (done.job_id, done.attempts) == (str(int(sent)), restart + 1)
    again = attempt(tmp_path, "old again", 7.0, 0)
    assert again.wait(240) == 0, "it is done, and that is all an older one is told"
    assert ledger.done(STAGE) == done


def test_an_older_attempt_never_takes_a_stage_back(tmp_path: Path) -> None:
    new = attempt(tmp_path, "new", 8.0, 0, "to publish")
    until((tmp_path / "begun-new").exists)
    late = attempt(tmp_path, "late", 7.0, 19)
    _, said = late.communicate(timeout=240)
    assert (late.returncode, "job 8, attempt 1" in said) == (SUPERSEDED, True), said
    (tmp_path / "go").touch()
    assert new.wait(240) == 0
    assert (tmp_path / "train" / "model" / "weights").read_text() == "new"


def test_an_attempt_that_neither_writes_nor_ends_is_ended_when_it_has_lost_its_stage(tmp_path: Path) -> None:
    old = attempt(tmp_path, "old", 7.0, 0, "for ever", look_s=0.2)
    until((tmp_path / "begun-old").exists)
    Ownership(tmp_path / "train", 0, 9.0).claim()
    _, said = old.communicate(timeout=240)
    assert (old.returncode, "belongs to a newer attempt now" in said) == (SUPERSEDED, True), said


def test_a_folder_that_was_moved_aside_is_not_written_by_those_it_was_moved_from(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.prepare(STAGE, "older")
    owner = Ownership(tmp_path / "train", 0, 7.0)
    owner.claim()
    ledger.prepare(STAGE, "newer")
    with owner.held(tmp_path / "train"), refused("stage.superseded", path=tmp_path / "train"):
        write_text(tmp_path / "train" / "progress.0.json", "{}")
    assert not (tmp_path / "train" / "progress.0.json").exists()


def test_a_record_of_another_attempt_than_the_owner_is_not_believed(tmp_path: Path) -> None:
    """As it is left by one that had looked in the moment before the newer one came."""
    ledger, fingerprint = Ledger(tmp_path), STAGE.fingerprint()
    (tmp_path / "train" / "model").mkdir(parents=True)
    write_text(tmp_path / "train" / "model" / "weights", "x")
    record = Done("train", fingerprint, 0, 1.0, 2.0, "7", ["n"], 1)
    ledger.write_done(STAGE, record)
    assert ledger.unfinished(STAGE, fingerprint) is None, "records from before there were owners"
    owner = Ownership(tmp_path / "train", 0, 8.0)
    owner.claim()
    assert ledger.unfinished(STAGE, fingerprint) == "not done yet"
    ledger.write_done(STAGE, replace(record, claim=owner.mine.claim))
    assert ledger.unfinished(STAGE, fingerprint) is None


def test_an_older_claim_that_was_written_late_does_not_stand(tmp_path: Path) -> None:
    new, old = Ownership(tmp_path, 0, 8.0), Ownership(tmp_path, 0, 7.0)
    new.claim()
    old._write()  # it had looked before the other came
    new.check()
    with pytest.raises(Superseded):
        old.check()
    new.check()
    with new.held(tmp_path):
        old._write()
        write_text(tmp_path / "progress.0.json", "{}")  # its check claims the stage again, by a rename that is checked
    assert Ownership(tmp_path, 0, 9.0)._owner() == new.mine


def test_elements_of_an_array_own_themselves_and_tasks_of_other_nodes_look_at_the_first(tmp_path: Path) -> None:
    first, other = Ownership(tmp_path, 0, 7.0), Ownership(tmp_path, 1, 9.0)
    first.claim()
    other.claim()
    first.check()
    second_node = Ownership(tmp_path, 0, 7.0, rank=1)
    second_node.claim()
    second_node.check()
    Ownership(tmp_path, 0, 8.0).claim()
    for one in (first, second_node):
        with refused("stage.superseded", path=tmp_path):
            one.check()
    other.check()


def test_rows_are_appended_by_the_owner_alone(tmp_path: Path) -> None:
    owner = Ownership(tmp_path, 0, 7.0)
    owner.claim()
    with owner.held(tmp_path):
        rows = RowFile(tmp_path / "rows.jsonl", {"model": "m"}).__enter__()
        rows.append({"key": "1"})
        Ownership(tmp_path, 0, 8.0).claim()
        with pytest.raises(Superseded):
            rows.__exit__(None, None, None)
    assert (tmp_path / "rows.jsonl").read_text().count("\n") == 1


def _part(shard: Shard, parts: Path) -> None:
    write_text(shard.path(parts / "part.txt"), "part")


def _is_there(shard: Shard, parts: Path) -> bool:
    return shard.path(parts / "part.txt").exists()


def _merge_while_another_comes(shards: list[Shard], parts: Path) -> dict[str, int]:
    Ownership(parts.parent / ".jobs" / "ingest-s-1-merge", 0, 99.0).claim()
    write_text(parts.parent / "all.txt", "of the one that lost")
    return {}


def test_a_merge_of_a_data_step_publishes_only_while_it_owns_the_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert threading.current_thread() is threading.main_thread()
    step = Step("ingest", tmp_path, "r.json", "s", _part, _is_there, _merge_while_another_comes, tmp_path / "all.txt")
    ledger = Ledger(tmp_path / ".jobs")
    for stage, sent in zip(as_stages(step, 1, Resources()), (5.0, 6.0), strict=True):
        ledger.prepare(stage, stage.fingerprint())
        job = StageJob(stage, ledger.folder, PROFILE, 0, stage.fingerprint(), sent)
        if sent == 5.0:
            job()
    with pytest.raises(SystemExit) as ended:
        job()
    assert ended.value.code == SUPERSEDED
    assert "belongs to a newer attempt now" in capsys.readouterr().err
    assert not (tmp_path / "all.txt").exists()
    assert not (tmp_path / "r.json").exists()
    assert _is_there(Shard(0, 1), step.parts)
