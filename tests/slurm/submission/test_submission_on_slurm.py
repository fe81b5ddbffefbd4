"""What is submitted is what the plan printed: whatever the shell says, however the folder is called, whatever happens
to the code while the job waits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cloudpickle
import pytest
from conftest import LocalCluster, eventually, log_of, send, until_ended
from submitit.slurm import slurm

from data_tools.steps.shards import Shard, Step
from jobs.engine.facts import gather
from jobs.engine.plan import Sending, plan
from jobs.engine.run_folder import code_version, snapshot
from jobs.engine.run_folder.code_version import CODE
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.stage import Artifact, Stage, StageRun
from jobs.engine.steps import submit_step
from jobs.engine.submit import submit
from jobs.engine.watch import logs, why
from slurm.environment import path_problem
from slurm.profile import Health, Profile, Scheduler
from slurm.sbatch import Resources, sbatch_parameters
from support.refusals import refused

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("on_the_local_cluster")]
cloudpickle.register_pickle_by_value(sys.modules[__name__])

PROFILE = Profile("test", scheduler=Scheduler(partition="gpu", signal_before_end_s=10), health=Health(preflight=False))
SMALL = Resources(cpus_per_task=1, mem_gb=1, timeout_min=5)
COMPILED = shutil.ignore_patterns("__pycache__")  # others write there meanwhile
HOSTILE = {
    # A site's `module load slurm`, or a .bashrc.
    **{"SBATCH_TIMELIMIT": "1", "SBATCH_PARTITION": "scavenge", "SBATCH_MEM_PER_NODE": "100M", "SBATCH_EXPORT": "NONE"},
    **{"SBATCH_NO_REQUEUE": "1", "SBATCH_ARRAY_INX": "0-3", "SBATCH_OPEN_MODE": "truncate", "SBATCH_SIGNAL": "KILL@1"},
    # A shell inside an allocation.
    **{"SLURM_MEM_PER_CPU": "2000", "SLURM_MEM_PER_GPU": "1000", "SLURM_EXPORT_ENV": "NONE", "SLURM_NTASKS": "7"},
    **{"SLURM_ARRAY_JOB_ID": "99", "SLURM_ARRAY_TASK_ID": "3", "SLURM_CPU_BIND": "quiet,mask_cpu:0x1"},
    **{"SLURM_JOB_NUM_NODES": "3", "SLURM_NNODES": "3", "SLURM_PROCID": "2", "SLURM_RESTART_COUNT": "40"},
    **{"SLURM_DISTRIBUTION": "nonsense", "SLURM_HINT": "nonsense", "SRUN_EXPORT_ENV": "NONE", "SLURM_WAIT": "1"},
    # What would read back something else.
    **{"SQUEUE_FORMAT": "%i", "SQUEUE_STATES": "SUSPENDED", "SACCT_FORMAT": "JobID", "SLURM_CLUSTERS": "elsewhere"},
    **{"SLURM_TIME_FORMAT": "relative", "SQUEUE_ACCOUNT": "nobody", "SINFO_PARTITION": "nowhere"},
    # What submitit and launchers would take for their own.
    **{"SUBMITIT_EXECUTOR": "local", "SUBMITIT_PREEMPT_SIGNAL": "USR1", "SUBMITIT_FOLDER": "/nowhere", "RANK": "5"},
}


def write_text(run: StageRun) -> None:
    names = sorted(name for name in HOSTILE if os.environ.get(name) == HOSTILE[name])
    (run.out / "text").write_text(f"{run.rank} of {run.nodes}: {names}")


def stages(nodes: int = 1) -> list[Stage]:
    first = Stage("first", write_text, (Artifact("text"),), SMALL, array=2)
    on = Resources(nodes=nodes, cpus_per_task=1, mem_gb=1, timeout_min=5)
    return [first, Stage("second", write_text, (Artifact("text"),), on, needs={"text": first / "text"})]


def test_no_variable_of_the_shell_changes_what_is_submitted_or_read_back(
    local_cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "read first").write_text("export SLURM_MEM_PER_CPU=2000 SRUN_EXPORT_ENV=NONE SLURM_EXPORT_ENV=NONE\n")
    monkeypatch.setenv("BASH_ENV", str(tmp_path / "read first"))
    chain, ledger = stages(), Ledger(tmp_path / "run")
    jobs = send(chain, ledger, PROFILE)
    for name in HOSTILE:
        monkeypatch.delenv(name)
    asked = local_cluster.job(int(jobs["second"]))
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    assert (asked["Partition"], asked["TimeLimit"], asked["MinMemoryNode"]) == ("gpu", "00:05:00", "1G")
    assert (asked["Requeue"], asked["NumNodes"]) == ("1", "1-1")
    ended = until_ended(chain, ledger)
    assert {one.word for one in ended.values()} == {"done"}, "".join(log_of(stage, ledger) for stage in chain)
    assert (ledger.folder / "second" / "text").read_text() == "0 of 1: []"


@pytest.mark.parametrize(
    "words", ["two words", "it's", 'a "b"', "a#b # c", "a;b|c&d", "$HOME $(id) `id`", "*?[x]", "ü"]
)
def test_whatever_a_profile_says_to_sbatch_stays_one_value(
    local_cluster: LocalCluster, tmp_path: Path, words: str
) -> None:
    mail = {"mail-user": words, "mail-type": "INVALID_DEPEND"}  # which does not come about
    profile = Profile("test", scheduler=Scheduler(partition="gpu", sbatch=mail, exclusive="user"))
    parameters = sbatch_parameters(stages()[0], profile, "", hold=True)
    text = slurm._make_sbatch_string(command="true", folder=tmp_path, **parameters)
    script = tmp_path / "script.sh"
    script.write_text(text)
    job = local_cluster.run("sbatch", "--parsable", str(script)).strip()
    said = local_cluster.run("scontrol", "show", "job", job)
    local_cluster.run("scancel", job)
    assert f" MailUser={words} MailType=" in said
    assert "OverSubscribe=USER" in said


def _write_part(shard: Shard, parts: Path) -> None:
    shard.path(parts / "part.txt").write_text("part")


def _part_is_there(shard: Shard, parts: Path) -> bool:
    return shard.path(parts / "part.txt").exists()


def _merge(shards: list[Shard], parts: Path) -> dict[str, int]:
    (parts.parent / "all.txt").write_text("merged")
    return {"parts": len(shards)}


def test_a_data_step_sent_from_an_element_of_an_array_runs_and_merges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "out"
    step = Step("ingest", out, "report.json", "stamp", _write_part, _part_is_there, _merge, out / "all.txt")
    submit_step(step, 2, PROFILE, SMALL)
    eventually(lambda: (out / "report.json").exists(), 60, lambda: str(list(out.rglob("*.out"))))
    assert json.loads((out / "report.json").read_text())["parts"] == 2
    assert len(list((out / ".jobs" / "code").iterdir())) == 1


@pytest.mark.parametrize("name", ['it\'s "q" #1', "$HOME `id`", "a;b&c*?[x]", "ü 語", "~x", "-n", "{a}=b,c:d"])
def test_a_run_folder_with_an_odd_name_has_its_logs_where_they_are_looked_for(name: str, tmp_path: Path) -> None:
    chain, ledger = stages()[:1], Ledger(tmp_path / name)
    job = send(chain, ledger, PROFILE)["first"]
    assert until_ended(chain, ledger)["first"].word == "done"
    assert len(logs.files(chain[0], ledger, job)) == 2
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["lr%j", "a%A", "100%", "b\\=0", "new\nline", "tab\there"])
def test_a_path_that_slurm_would_read_as_a_pattern_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    problem = path_problem(tmp_path / name / "run")
    assert problem
    assert "\n" not in problem
    command = [sys.executable, "-m", "jobs", "submit", "distill", "--run", str(tmp_path / name)]
    environment = {**os.environ, "PROXYGRM_CLUSTER_DIR": str(tmp_path / "cluster")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert not (tmp_path / "cluster").exists(), "refused before anything is started"
    assert done.returncode == 2
    typed = (
        "--run contains" if not name.isprintable() else "takes for a pattern"
    )  # control characters in whatever is typed
    assert typed in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "submitted" not in done.stdout
    out = tmp_path / name / "out"
    step = Step("ingest", out, "report.json", "stamp", _write_part, _part_is_there, _merge, out / "all.txt")
    with refused("run.bad-path", path=out / ".jobs"):
        submit_step(step, 2, PROFILE, SMALL)


SENDS = """
import sys
from pathlib import Path
from jobs.engine.run_folder.code_version import CODE
from jobs.engine.run_folder.ledger import Ledger
from slurm.sbatch import sbatch_parameters
from jobs.engine.plan import Facts, Sending, plan
from jobs.engine.submit import submit
from jobs.engine.stage import Artifact, Stage
from slurm.sbatch import Resources
from jobs.probe_stage import write_word
from slurm.profile import Health, Profile, Scheduler

assert str(CODE) == sys.argv[2], CODE
small = Resources(cpus_per_task=1, mem_gb=1, timeout_min=5)
stage = Stage("probe", write_word, (Artifact("word"),), small)
ledger = Ledger(Path(sys.argv[1]))
ledger.create()
profile = Profile("test", scheduler=Scheduler(partition="gpu"), health=Health(preflight=False))
planned = plan([stage], {"probe": Facts("not done yet", stage.identity())})
print(submit(planned, profile, ledger, sending=Sending(hold=True))["probe"])
"""
PROBE = """
import subprocess, sys
from jobs.probe_word import WORD

def write_word(run):
    child = [sys.executable, "-c", "from jobs.probe_word import WORD; print(WORD)"]
    of_child = subprocess.run(child, capture_output=True, text=True, check=True).stdout
    (run.out / "word").write_text(f"{WORD} {of_child}")
"""


def test_a_queued_job_runs_the_code_as_it_was_at_submission(local_cluster: LocalCluster, tmp_path: Path) -> None:
    """Started in the checkout that is edited, as jobs are; the edit breaks everything that the job imports."""
    checkout, run = tmp_path / "checkout", tmp_path / "run"
    for package in code_version.PROJECT:
        shutil.copytree(CODE / package, checkout / package, ignore=COMPILED)
    (checkout / "jobs" / "probe_stage.py").write_text(PROBE)
    (checkout / "jobs" / "probe_word.py").write_text("WORD = 'old'\n")
    (checkout / "sends.py").write_text(SENDS)
    for words in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "first"],
    ):
        subprocess.run(["git", *words], cwd=checkout, check=True)
    revision = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True
    ).stdout.strip()
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, "sends.py", str(run), str(checkout)]
    sent = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    assert sent.returncode == 0, sent.stderr
    (checkout / "jobs" / "probe_word.py").write_text("WORD = 'new'\n")
    for path in ("jobs/engine/job/worker.py", "jobs/engine/stage.py", "slurm/profile.py", "proxygrm/core/errors.py"):
        (checkout / path).write_text("raise RuntimeError('the code of another day')\n")
    job = int(sent.stdout)
    local_cluster.run("scontrol", "release", str(job))
    local_cluster.wait(job, "COMPLETED", 60)
    assert (run / "probe" / "word").read_text() == "old old\n"
    record = json.loads((run / "probe" / "DONE.json").read_text())
    assert record["code"] == revision
    assert (run / record["snapshot"] / "jobs" / "probe_word.py").read_text() == "WORD = 'old'\n"


def test_a_job_whose_code_was_removed_says_so_and_runs_no_other(local_cluster: LocalCluster, tmp_path: Path) -> None:
    chain, ledger = stages()[:1], Ledger(tmp_path / "run")
    ledger.create()
    local_cluster.run("scontrol", "update", "partitionname=gpu", "state=down")
    try:
        send(chain, ledger, PROFILE)
        shutil.rmtree(ledger.folder / "code")
    finally:
        local_cluster.run("scontrol", "update", "partitionname=gpu", "state=up")
    assert until_ended(chain, ledger)["first"].word == "failed"
    assert "the code of this job is missing" in log_of(chain[0], ledger)


def test_jobs_of_one_code_share_a_copy_and_an_edit_makes_another(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    checkout = tmp_path / "checkout"
    for package in code_version.PROJECT:
        shutil.copytree(CODE / package, checkout / package, ignore=COMPILED)
    monkeypatch.setattr(snapshot, "CODE", checkout)
    first = snapshot.take(tmp_path / "run")
    assert snapshot.take(tmp_path / "run") == first == snapshot.planned(tmp_path / "run")
    assert (first / "jobs" / "recipes" / "ablations" / "proxy_grm" / "aggregation.toml").exists()
    assert (first / "slurm" / "clusters" / "local.toml").exists()
    (checkout / "proxygrm" / "critique" / "prompts" / "grm.txt").write_text("another prompt")
    second = snapshot.take(tmp_path / "run")
    assert second != first
    assert (second / "proxygrm" / "critique" / "prompts" / "grm.txt").read_text() == "another prompt"
    assert not list((tmp_path / "run" / "code").glob(".*"))


def test_a_waiting_job_whose_pickle_others_could_change_is_refused_and_why_says_so(
    local_cluster: LocalCluster, tmp_path: Path
) -> None:
    before = os.umask(0o002)
    try:
        chain, ledger = [*stages()[:1], replace(stages()[0], name="third")], Ledger(tmp_path / "run")
        ledger.create()
        sending = Sending(hold=True)
        jobs = submit(plan(chain, gather(chain, ledger)), PROFILE, ledger, sending=sending)
    finally:
        os.umask(before)
    folder = ledger.folder / "first" / "jobs"
    written = [path for path in ledger.folder.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o022]
    assert {path.name for path in written} <= {".lock", ".submissions.lock"}
    pickles = list(folder.glob("*.pkl"))
    assert len(pickles) == 2
    assert {path.stat().st_mode & 0o777 for path in (*pickles, folder)} == {0o600, 0o700}
    (ledger.folder / "third" / "jobs" / f"{jobs['third']}_1_submitted.pkl").chmod(0o666)
    local_cluster.run("scontrol", "release", *jobs.values())
    ended = until_ended(chain, ledger)
    assert (ended["first"].word, ended["third"].word) == ("done", "failed")
    assert "Loading pickle" not in logs_of_element(ledger, "third", jobs["third"], 1)
    found = why.explain_stage("third", chain, ledger, "")
    assert found.cause == "files that others could change", found
    assert "third/jobs" in found.lines[0].text
    results = list(folder.glob("*_result.pkl"))
    assert len(results) == 2
    assert {path.stat().st_mode & 0o777 for path in results} == {0o600}
    assert (ledger.folder / "first" / "text").stat().st_mode & 0o777 == 0o644


def logs_of_element(ledger: Ledger, stage: str, job: str, element: int) -> str:
    return (ledger.folder / stage / "jobs" / f"{job}_{element}_0_log.out").read_text()
