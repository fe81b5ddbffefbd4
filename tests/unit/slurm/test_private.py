"""What jobs run as code (pickles, the copy of the code, checkpoints) is refused where others own or may write it."""

from __future__ import annotations

import os
import pickle
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.engine.run_folder import snapshot
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.stage import Stage
from proxygrm.core.errors import UserError
from proxygrm.core.files.owner import why_untrusted
from slurm import private
from slurm.sbatch import Resources
from support.refusals import refused

OTHER_USER = 65534
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


@pytest.fixture
def team_umask() -> Iterator[None]:
    """As on systems where every user has a group, and in shared project folders."""
    before = os.umask(0o002)
    yield
    os.umask(before)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with the pickle of job 7, and a copy of code, as a submit leaves them."""
    folder = tmp_path / "a run"
    private.make(folder)
    private.make_jobs(folder, folder / "rl" / "jobs")
    (folder / "rl" / "jobs" / "7_submitted.pkl").write_bytes(pickle.dumps("job"))
    private.tighten(folder / "rl" / "jobs")
    private.make(folder / "code", 0o700)
    private.make(folder / "code" / "abc" / "jobs" / "data", below=folder / "code")
    (folder / "code" / "abc" / "jobs" / "data" / "x.py").write_text("")
    (folder / "code" / "abc" / "jobs" / "data" / "x.py").chmod(0o644)
    return folder


def guarded(run: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    lines = private.guard_lines(run, run / "rl" / "jobs", run / "code" / "abc")
    return subprocess.run(
        ["bash"], input="\n".join(["#!/bin/bash", *lines, "umask", "echo loaded"]), capture_output=True, text=True,
        env={"PATH": os.environ["PATH"], **({"SLURM_JOB_ID": "7"} | variables)},
    )  # fmt: skip


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def given_away(path: Path) -> None:
    os.chown(path, OTHER_USER, OTHER_USER)


def for_all_to_write(path: Path) -> None:
    path.chmod(0o777 if path.is_dir() else 0o666)


def for_the_group_to_write(path: Path) -> None:
    path.chmod(path.stat().st_mode | stat.S_IWGRP)


PARTS = (".", "rl", "rl/jobs", "rl/jobs/7_submitted.pkl", "code", "code/abc", "code/abc/jobs/data/x.py")
WAYS = (pytest.param(given_away, marks=ROOT_ONLY), for_all_to_write, for_the_group_to_write)


def test_a_job_whose_files_are_its_users_alone_loads_them_and_writes_nothing_for_others_to_change(run: Path) -> None:
    done = guarded(run)
    assert (done.returncode, done.stderr) == (0, "")
    umask, loaded = done.stdout.split()
    assert int(umask, 8) & 0o022 == 0o022
    assert loaded == "loaded"


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("spoil", WAYS)
def test_a_job_refuses_what_others_own_or_may_write_before_anything_is_loaded(
    run: Path, part: str, spoil: Callable[[Path], None]
) -> None:
    spoil(run / part)
    done = guarded(run)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"refused to load {run / part} (")
    assert "chmod go-w" in line


def test_an_element_of_an_array_looks_at_its_own_pickle(run: Path) -> None:
    jobs = run / "rl" / "jobs"
    for name, bits in (("8_3_submitted.pkl", 0o666), ("8_2_submitted.pkl", 0o600)):
        (jobs / name).write_bytes(b"")
        (jobs / name).chmod(bits)
    array = {"SLURM_JOB_ID": "11", "SLURM_ARRAY_JOB_ID": "8"}
    assert guarded(run, **array, SLURM_ARRAY_TASK_ID="2").returncode == 0
    assert guarded(run, **array, SLURM_ARRAY_TASK_ID="3").returncode == 2


def test_a_job_refuses_when_it_cannot_check(run: Path) -> None:
    shutil.rmtree(run / "rl")
    done = guarded(run)
    assert done.returncode == 2
    assert "what it cannot check" in done.stderr


def test_a_link_to_another_place_in_the_copy_of_the_code_is_refused(run: Path, tmp_path: Path) -> None:
    (run / "code" / "abc" / "jobs" / "evil.py").symlink_to(tmp_path)
    assert guarded(run).returncode == 2


def test_a_write_permission_by_an_access_list_is_seen(run: Path) -> None:
    if shutil.which("setfacl") is None:
        pytest.skip("setfacl is not installed")
    path = run / "rl" / "jobs" / "7_submitted.pkl"
    if subprocess.run(["setfacl", "-m", f"u:{OTHER_USER}:rw", str(path)], capture_output=True).returncode:
        pytest.skip("this file system keeps no access lists")
    assert guarded(run).returncode == 2
    assert "may be written by others" in why_untrusted(path)


def test_folders_and_copies_are_private_under_a_teams_umask(team_umask: None, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "runs" / "team")
    ledger.create()
    stage = Stage(name="cells/a", run=lambda run: None, makes=(), on=Resources())
    ledger.prepare(stage, "f")
    private.make_jobs(ledger.folder, ledger.folder / "cells" / "a" / "jobs")
    code = snapshot.take(ledger.folder)
    assert mode(tmp_path / "runs") == 0o775  # another one's run may stand beside this one
    assert [mode(ledger.folder / part) for part in (".", "cells", "cells/a", "cells/a/jobs", "code")] == [
        0o755, 0o755, 0o755, 0o700, 0o700,
    ]  # fmt: skip
    assert [path for path in code.rglob("*") if path.stat().st_mode & 0o022] == []
    assert snapshot.take(ledger.folder) == code
    private.refuse_shared(ledger.folder, [ledger.folder / "cells" / "a" / "jobs"])


def test_pickles_that_submitit_wrote_by_the_umask_are_made_private(team_umask: None, tmp_path: Path) -> None:
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    private.make_jobs(tmp_path, jobs)  # of a run that an earlier version started
    for name in ("7_submitted.pkl", "7_submission.sh", "7_0_result.pkl"):
        (jobs / name).write_text("x")
    private.tighten(jobs)
    assert mode(jobs) == 0o700
    assert {mode(path) for path in jobs.iterdir()} == {0o600}


@pytest.mark.parametrize("part", [".", "rl"])
def test_a_submit_into_folders_that_others_may_write_says_how_to_close_them(run: Path, part: str) -> None:
    for_the_group_to_write(run / part)
    with refused("run.writable-by-others", paths=[run / part]) as caught:
        private.refuse_shared(run, [run / "rl" / "jobs"])
    command = str(caught.value).rpartition("; ")[2]
    subprocess.run(["bash", "-c", command], check=True)
    private.refuse_shared(run, [run / "rl" / "jobs"])


@ROOT_ONLY
def test_a_submit_into_a_folder_of_another_user_is_refused(run: Path) -> None:
    given_away(run / "rl")
    with refused("run.foreign-folder", paths=[run / "rl"]):
        private.refuse_shared(run, [run / "rl" / "jobs"])


@pytest.mark.parametrize("spoil", WAYS)
def test_a_copy_of_the_code_that_others_could_change_is_not_used_again(
    run: Path, spoil: Callable[[Path], None]
) -> None:
    code = snapshot.take(run)
    spoil(code / "jobs" / "engine" / "job" / "worker.py")
    with pytest.raises(UserError, match=f"rm -r {code}".replace(" ", r"\ ").replace(r"rm\ -r\ ", "rm -r ")):
        snapshot.take(run)


@pytest.mark.parametrize("spoil", WAYS)
@pytest.mark.parametrize("part", ["checkpoints/step_1", "checkpoints/step_1/optim.pt", "checkpoints/step_1/rng.pth"])
def test_a_checkpoint_that_others_own_or_may_write_is_not_resumed(
    tmp_path: Path, part: str, spoil: Callable[[Path], None]
) -> None:
    step = tmp_path / "checkpoints" / "step_1"
    step.mkdir(parents=True)
    for name in ("optim.pt", "rng.pth", "notes.txt"):
        (step / name).write_bytes(b"")
    for_the_group_to_write(step / "notes.txt")  # is only read
    private.refuse_planted(tmp_path)
    spoil(tmp_path / part)
    with refused("run.untrusted-checkpoint"):
        private.refuse_planted(tmp_path)
