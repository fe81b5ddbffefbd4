"""A run folder whose surroundings change: its profile is gone, its records are torn, it is looked at from elsewhere, by
root, or while the scheduler is away."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from jobs import recipes
from jobs.cli.run import follow
from jobs.engine.run_folder.ledger import Ledger
from slurm.local.config import ClusterSpec
from slurm.local.folder import new_record, write_record
from support.refusals import code_of
from support.run_folders.run_commands import LOOKING, asked, here, say, sent

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[4]
__all__ = ["here"]
"""The fixture every test of this file runs in."""


def site(folder: Path, text: str = "") -> Path:
    path = folder / "site.toml"
    path.write_text(f"private_cluster = true\npreset = 'quick'\n{text}")
    return path


@pytest.mark.parametrize("after", ["removed", "damaged", "edited"])
def test_a_run_can_be_looked_at_whatever_becomes_of_its_profile_s_file(after: str, tmp_path: Path) -> None:
    profile = site(tmp_path)
    sent("site.toml")
    if after == "removed":
        profile.unlink()
    else:
        profile.write_text("not toml [" if after == "damaged" else "private_cluster = false\n")
    for command in LOOKING[:2] + LOOKING[4:5]:
        found = say(*command)
        assert found.exit_code == 0, (command, found.output)
        assert "run runs/site (the one written to last): proxy_grm:quick on site.toml" in found.stdout
        assert "the private cluster is down" in found.output


def test_relative_paths_of_a_request_begin_where_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pairs.parquet").write_bytes(b"pairs")
    (tmp_path / "elsewhere").mkdir()
    run = str(tmp_path / "runs" / "site")
    sent("site.toml", "pairs=data")
    before = [stage.fingerprint() for stage in recipes.of_run(Path(run)).stages]
    monkeypatch.chdir("elsewhere")
    assert [stage.fingerprint() for stage in recipes.of_run(Path(run)).stages] == before
    found = say("plan", "--run", run)
    assert f"proxy_grm:quick on {tmp_path / 'site.toml'}, pairs=data, paths from {tmp_path}" in found.stdout
    assert f"data at {tmp_path}" not in found.output
    why = say("why", "--run", run).stdout
    assert f"do: proxygrm submit --run {run}\n" in why, "the rest is in its record; typed here it would be elsewhere"


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("run.json", "{torn", "run.json cannot be read"),
        ("run.json", '{"format": 3}', "a submit with --profile, --run and the run's other options writes it again"),
        ("run.json", '{"format": 3, "request": {}, "written": 1}', "with --profile, --run"),
        ("run.json", "[1]", "with --profile, --run"),
        ("submissions.json", '{"distill": {}}', "end the jobs of this run"),
        ("submissions.json", "[7]", "end the jobs of this run"),
        ("distill/DONE.0.json", '{"stage": "distill"}', "delete it to have its stage run again"),
        ("distill/DONE.0.json", "[7]", "delete it to have its stage run again"),
    ],
)
def test_a_record_that_cannot_be_read_is_one_line_that_says_what_to_do(file: str, text: str, said: str) -> None:
    ledger = asked("one", 100, done=True)[0]
    (ledger.folder / file).write_text(text)
    for command in (["status"], ["why"], ["plan", "--run", "runs/one"]):
        found = say(*command)
        assert found.exit_code == 2, (command, found.output)
        assert found.stderr.count(f"{file} cannot be read") == 1
        assert said in found.stderr
        assert "Traceback" not in found.output


def test_a_record_of_another_version_of_the_code_counts() -> None:
    ledger, stages = asked("one", 100, done=True)
    path = ledger.done_path(stages[0], 0)
    row = json.loads(path.read_text())
    path.write_text(json.dumps({"of_tomorrow": 1, **{key: row[key] for key in row if key not in ("code", "snapshot")}}))
    assert "done" in say("status").stdout
    assert ledger.unfinished(stages[0], stages[0].fingerprint()) is None


def test_jobs_of_a_private_cluster_that_died_are_not_said_to_be_gone(tmp_path: Path) -> None:
    asked("one", 100)
    folder = tmp_path / "cluster"
    folder.mkdir()
    write_record(folder, replace(new_record(ClusterSpec()), host=socket.gethostname()))
    found = say("cancel")
    assert found.exit_code == 2
    assert f"on {socket.gethostname()} it ended with its queue: start it there, then do this again" in found.stderr
    write_record(folder, new_record(ClusterSpec()))
    assert "nothing to cancel" in say("cancel").stdout


SQUEUE = """#!/bin/bash
n=$(cat asked 2> /dev/null); echo "x$n" > asked
case "$n" in
    "") printf '7|0|RUNNING|0|0|0|n1|None\\n7|1|RUNNING|0|0|0|n1|None\\n' ;;
    x) echo "squeue: error: busy" >&2; exit 1 ;;
esac
"""
SACCT = """#!/bin/bash
printf '7_0|FAILED|1:0|9999999999|9|10|1|5|||n1\\n7_1|FAILED|1:0|9999999999|9|10|1|5|||n1\\n'
"""


def test_logs_are_followed_on_while_the_scheduler_does_not_answer_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {"squeue": SQUEUE, "sacct": SACCT}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(follow, "REFRESH_SHARED_S", 0.1)
    Path("site.toml").write_text("preset = 'quick'\n")
    sent("site.toml")
    ledger, stages = Ledger(Path("runs/site")), recipes.of_run(Path("runs/site")).stages
    ledger.record_submissions({"distill": ("7", stages[0].fingerprint())})
    log = ledger.folder / "distill" / "jobs" / "7_0_0_log.out"
    log.parent.mkdir(parents=True)
    log.write_text("at work\n")
    (tmp_path / "asked").unlink(missing_ok=True)
    found = say("logs", "distill", "-f")
    assert "squeue failed: busy; asking again" in found.stderr
    assert found.stdout.endswith("==> distill: failed <==\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root meets it")
def test_root_leaves_nothing_in_the_checkout_or_run_of_another_user(tmp_path: Path) -> None:
    asked("one", 100)
    shutil.copytree(ROOT / "requirements", tmp_path / "checkout" / "requirements")
    shutil.copytree(ROOT / "jobs", tmp_path / "checkout" / "jobs", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (tmp_path / "runs", tmp_path / "checkout"):
        for each in (path, *path.rglob("*")):
            os.chown(each, 12345, 12345)
    found = say("report")
    assert (found.exit_code, "runs/one belongs to user 12345" in found.stderr) == (2, True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PATH": os.defpath, "PYTHONPATH": str(tmp_path / "checkout")}
    for command in (["/bin/bash", "checkout/requirements/setup.sh"], ["/bin/bash", "checkout/requirements/lock.sh"]):
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert (done.returncode, "and you are root: become" in done.stderr) == (2, True)
    loads = "import jobs.engine.run_folder.changes; print(jobs.engine.run_folder.changes.__file__)"
    done = subprocess.run([sys.executable, "-c", loads], env=environment, capture_output=True, text=True, cwd="/")
    assert done.stdout.startswith(str(tmp_path / "checkout"))
    left = [path.name for path in (tmp_path / "checkout").rglob("*") if path.stat().st_uid != 12345]
    assert sorted({name.split(".")[0] for name in left}) == ["__init__", "__pycache__"], (
        "Python reads jobs itself first"
    )


def test_a_run_of_an_earlier_version_is_answered_with_one_line_that_names_it() -> None:
    ledger = asked("one", 100)[0]
    path = ledger.folder / "run.json"
    record = json.loads(path.read_text())
    del record["format"]
    record |= {"packages": {"proxygrm-suite": "0.1.0"}, "git": "637e542abcde"}
    path.write_text(json.dumps(record))
    for command in (["status"], ["plan"], ["submit"], ["report"]):
        answer = say(*command)
        assert answer.exit_code == 2
        assert code_of(answer.output) == "run.other-version"
        assert "made by proxygrm 0.1.0 (revision 637e542abcde)" in answer.output
