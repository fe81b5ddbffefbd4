"""Explanations from records and logs: each known failure in a log as programs write it, and none invented."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.engine import state
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.stage import Artifact, Stage, StageRun
from jobs.engine.state import StageState, Word
from jobs.engine.watch.explain import Case, Explanation, Text, explain, nothing_wrong
from jobs.engine.watch.known_failures import FAILURES, WAITS
from jobs.engine.watch.why import explain_run
from slurm import scheduler
from slurm.sbatch import Resources
from slurm.scheduler import Attempt, Tres

LOGS = {
    "files that others could change": """
refused to load /scratch/lab/runs/h100/grm_rl/jobs/7_submitted.pkl (-rw-rw-r-- ann:lab): this job runs it as code, and \
another user owns it or may write to it; see what is in it, chmod go-w it or remove it, and submit again
""",
    "disk full": """
Traceback (most recent call last):
  File "/site/torch/serialization.py", line 967, in save
    _save(obj, opened_zipfile, pickle_module, pickle_protocol, _disable_byteorder_record)
OSError: [Errno 28] No space left on device: '/scratch/lab/runs/h100/grm_rl/checkpoints/global_step_50/actor/model_3.pt'
""",
    "GPU out of memory": """
(WorkerDict pid=811222, ip=10.4.1.7) INFO 03-02 11:20:01 [worker.py:227] Memory profiling takes 4.27 seconds
ray.exceptions.RayTaskError(OutOfMemoryError): ray::WorkerDict.actor_rollout_update_actor() (pid=811222, ip=10.4.1.7)
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.32 GiB. GPU 3 has a total capacity of 79.11 GiB of \
which 1.12 GiB is free. Including non-PyTorch memory, this process has 77.97 GiB memory in use.
[rank3]:[W302 11:20:09 ProcessGroupNCCL.cpp:1496] Warning: WARNING: destroy_process_group() was not called
NCCL error: remote process exited or there was a network error
""",
    "host out of memory": """
slurmstepd: error: Detected 1 oom_kill event in StepId=412233.0. Some of the step tasks have been OOM Killed.
srun: error: gpu-17: task 0: Out Of Memory
""",
    "shared memory full": """
RuntimeError: DataLoader worker (pid 4121) is killed by signal: Bus error. It is possible that dataloader's workers \
are out of shared memory. Please try to raise your shared memory limit.
""",
    "missing module": """
Traceback (most recent call last):
  File "/home/me/suite/proxygrm/rl/train.py", line 12, in <module>
ModuleNotFoundError: No module named 'verl.trainer'
""",
    "missing library": """
ImportError: libcudart.so.13: cannot open shared object file: No such file or directory
""",
    "damaged checkpoint": """
proxygrm.core.errors.UserError: the checkpoint at /runs/a b/grm_sft/model is damaged: model.safetensors has 812 \
bytes, its header says 15320000000
""",
    "no usable GPU": """
RuntimeError: No CUDA GPUs are available
""",
    "no network": """
OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in the cached files.
""",
    "port in use": """
  File "/usr/lib/python3.11/socketserver.py", line 472, in server_bind
OSError: [Errno 98] Address already in use
""",
    "proxy crash loop": """
proxygrm.core.errors.UserError: proxy replica proxy-1 on gpu-9 failed after 3 restarts: ended with code 1: \
RuntimeError: Engine core initialization failed
""",
    "service crash loop": """
proxygrm.core.errors.UserError: search replica search-0 on gpu-2 failed after 1 restarts: ended with exit code 1: \
FileNotFoundError: index.faiss (log: /shared/runs/a/rl/services/search/search-0.log)
""",
    "file system trouble": """
OSError: [Errno 116] Stale file handle: '/shared/runs/a/rollouts'
""",
    "too many open files": """
OSError: [Errno 24] Too many open files: '/shared/images/ü 1.png'
""",
    "Ray node lost": """
[11:20:31] 31/200 score +0.41
slurm.ray.cluster.Lost: node gpu-12: Ray lost it
""",
    "NCCL or Gloo": """
[rank5]:[E302 03:11:09.1 ProcessGroupNCCL.cpp:632] [Rank 5] Watchdog caught collective operation timeout: \
WorkNCCL(SeqNum=8121, OpType=ALLGATHER, NumelIn=1, Timeout(ms)=600000) ran for 600012 milliseconds before timing out.
""",
    "time limit": """
slurmstepd: error: *** STEP 7712.0 ON gpu-1 CANCELLED AT 2026-03-02T11:20:01 DUE TO TIME LIMIT ***
""",
    "permission": """
PermissionError: [Errno 13] Permission denied: '/shared/other lab/pairs'
""",
    "crash": """
Fatal Python error: Segmentation fault
""",
}
NOISE = """submitit INFO (2026-03-02 11:00:00,001) - Starting with JobEnvironment(job_id=9, hostname=gpu-1)
[11:00:09] 0/200 starting workers
WARNING 03-02 11:00:11 [cuda.py:88] max_num_seqs=256 port=0 retries=3 no error so far
"""


def case(word: Word, log: str = "", reason: str = "", last: Attempt | None = None, detail: str = "") -> Case:
    texts = [Text("grm_rl/jobs/9_0_log.out", 1, (NOISE + log).splitlines())] if log else []
    return Case(StageState("grm_rl", word, detail, "9"), reason=reason, last=last, texts=texts)


def attempt(state: str, exit_code: str = "1:0") -> Attempt:
    return Attempt("9", state, exit_code, 1.0, 2.0, 1, 60, Tres(), Tres(), "gpu-1")


def test_every_known_failure_has_a_realistic_log_here() -> None:
    assert list(LOGS) == [known.name for known in FAILURES]


@pytest.mark.parametrize("name", LOGS)
def test_a_known_failure_is_named_with_its_own_line(name: str) -> None:
    found = explain(case("failed", LOGS[name], last=attempt("FAILED")))
    assert found.cause == name
    assert found.sentence.startswith("grm_rl failed: ")
    assert found.do
    text = (NOISE + LOGS[name]).splitlines()
    for line in found.lines:
        assert text[line.line - 1].strip() == line.text


def test_the_cause_is_told_before_what_follows_from_it() -> None:
    log = LOGS["NCCL or Gloo"] + LOGS["Ray node lost"] + LOGS["GPU out of memory"]
    assert explain(case("failed", log)).cause == "GPU out of memory"


def test_the_sentence_names_what_the_line_names() -> None:
    assert "Python in the job has no verl.trainer" in explain(case("failed", LOGS["missing module"])).sentence
    assert "proxy-1 on gpu-9" in explain(case("failed", LOGS["proxy crash loop"])).sentence


def test_an_unknown_failure_is_not_guessed_at_but_its_log_is_shown() -> None:
    log = "ValueError: the moon is in the wrong house: 'ü \"quoted\"'\n\n"
    found = explain(case("failed", log, last=attempt("FAILED", "1:0")))
    assert found.cause == ""
    assert found.lines == ()
    assert "no known pattern" in found.sentence
    assert "exit code 1:0" in found.sentence
    assert found.log_end[-1].text == log.strip()


def test_harmless_lines_are_no_cause() -> None:
    for line in (
        "    except MemoryError:",
        "INFO Using NCCL 2.27 with timeout 600 s; nccl_debug=WARN",
        "mkdir: cannot create directory '/root/.cache': Permission denied",
        "reward/error_rate 0.0, oom_margin 0.1, disk_quota_gb 500",
        "Ray runtime started on node gpu-1",
        "[W] port 8000 probe ok, address 10.0.0.1 in use by proxy-0",
    ):
        assert explain(case("failed", line + "\n")).cause == "", line


def test_an_error_of_ours_is_told_as_the_job_wrote_it_whatever_else_the_log_shows() -> None:
    said = "split made 0 rows for grm_rl; lower split.hard (on gpu-1)"
    log = "OSError: [Errno 98] Address already in use\nsplit made 0 rows for grm_rl; lower split.hard\n"
    found = explain(case("failed", log, reason=said))
    assert found.sentence == f"grm_rl failed: {said}"
    assert found.lines[0].text == "split made 0 rows for grm_rl; lower split.hard"


def test_an_error_that_only_passes_on_a_death_gives_way_to_what_the_dead_said() -> None:
    said = "-m verl.trainer.main_ppo ended with exit code 1: see trainer.log (on gpu-1)"
    assert explain(case("failed", LOGS["GPU out of memory"], reason=said)).cause == "GPU out of memory"
    assert explain(case("failed", "it is dark\n", reason=said)).sentence.endswith(said)


def test_without_any_log_slurm_alone_is_quoted() -> None:
    assert "its time limit of 60 min passed" in explain(case("timed out", last=attempt("TIMEOUT"))).sentence
    assert explain(case("node failed", last=attempt("NODE_FAIL"))).sentence == "grm_rl lost its node gpu-1"
    assert "memory was used up" in explain(case("failed", last=attempt("OUT_OF_MEMORY", "0:125"))).sentence
    for code in ("0:9", "9:0", "137:0"):
        assert "SIGKILL" in explain(case("failed", last=attempt("FAILED", code))).sentence
    killed = "srun: error: gpu-1: task 0: Killed\nsrun: Force Terminated StepId=4.0\n"
    found = explain(case("failed", killed, last=attempt("FAILED", "1:0")))
    assert found.cause == "killed"
    assert found.lines[0].text == "srun: error: gpu-1: task 0: Killed"
    after_another = "srun: error: gpu-2: task 1: Exited with exit code 3\n" + killed
    assert explain(case("failed", after_another, last=attempt("FAILED", "3:0"))).cause == ""
    assert "scancel" in explain(case("cancelled", last=attempt("CANCELLED"))).sentence


def test_a_requeue_says_what_ended_the_attempt() -> None:
    detail = "2 times, BeginTime"
    preempted = explain(case("requeued", detail=detail, last=attempt("PREEMPTED")))
    assert "a job of higher priority took its place on gpu-1" in preempted.sentence
    told = explain(
        case(
            "requeued", "grm_rl: told to stop. A checkpoint of step 7 is there to go on from. Requeued\n", detail=detail
        )
    )
    assert "time limit or preemption" in told.sentence
    assert told.lines[0].text.startswith("grm_rl: told to stop")
    assert "no record gives the reason" in explain(case("requeued", "nothing\n", detail=detail)).sentence


@pytest.mark.parametrize("reason", [wait.reason for wait in WAITS])
def test_every_known_reason_to_wait_has_a_sentence(reason: str) -> None:
    found = explain(case("pending", detail=reason))
    assert found.cause == reason
    assert f"({reason})" in found.sentence


def test_reasons_of_the_same_beginning_are_told_apart_and_unknown_ones_quoted() -> None:
    assert "failed" in explain(case("pending", detail="DependencyNeverSatisfied")).sentence
    assert "limit of the QOS" in explain(case("pending", detail="QOSMaxGRESPerUser")).sentence
    assert "scontrol release 9" in explain(case("pending", detail="JobHeldUser")).do
    odd = explain(case("pending", detail="SomethingNew"))
    assert (odd.cause, odd.sentence) == ("", "grm_rl waits, SLURM's reason is SomethingNew")


def test_a_cell_of_an_ablation_is_sent_again_by_ablate() -> None:
    for word in ("timed out", "not submitted", "unknown"):
        assert "proxygrm submit" in explain(Case(StageState("grm_rl", word))).do
        assert "proxygrm ablate SPEC" in explain(Case(StageState("cells/a/grm_rl", word))).do
    missing = [StageState("split", "done"), StageState("cells/a/grm_rl", "not submitted")]
    assert nothing_wrong(missing).do == "proxygrm ablate SPEC"


def test_the_reason_of_an_array_stands_behind_its_counts() -> None:
    state = StageState("distill", "pending", "3 pending, 1 done; JobHeldUser", "9", counts={"pending": 3, "done": 1})
    assert explain(Case(state)).cause == "JobHeldUser"


def test_a_wait_for_a_stage_that_failed_points_there() -> None:
    failed = StageState("grm_sft", "failed", "no room (on n1)")
    found = explain(Case(StageState("grm_rl", "cancelled"), upstream=[failed, StageState("split", "done")]))
    assert found.sentence == "grm_rl was cancelled because grm_sft, which it needs, failed"
    assert found.do == "proxygrm why grm_sft"


def nothing(run: StageRun) -> None: ...


def held_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **words: StageState) -> Explanation:
    """What is said of a chain a -> b -> c whose stages are in these states."""
    stages: list[Stage] = []
    for name in words:
        needs = {"x": stages[-1] / "x"} if stages else {}
        stages.append(Stage(name, nothing, (Artifact("x"),), Resources(), needs=needs))
    ledger = Ledger(tmp_path / "run")
    ledger.record_submissions(dict.fromkeys(words, ("7", "f")))
    monkeypatch.setattr(state, "each", lambda stages, ledger, away: words)
    monkeypatch.setattr(scheduler, "attempts", lambda ids, since: [])
    return explain_run(stages, ledger)


def test_without_a_stage_the_first_that_failed_is_told_then_what_the_first_in_the_queue_waits_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def say(*rows: tuple[Word, str]) -> Explanation:
        states = {name: StageState(name, *row, "9") for name, row in zip("abcd", rows, strict=False)}
        return held_up(monkeypatch, tmp_path, **states)

    lost = say(("done", ""), ("pending", "Priority"), ("timed out", ""), ("cancelled", ""))
    assert lost.sentence == "c timed out: its time limit passed"
    assert say(("done", ""), ("unknown", "SLURM says X")).word == "unknown"
    queued = say(("running", "rows on n1"), ("waiting", "for a"), ("waiting", "for b"))
    assert queued.sentence == "b waits for a, which is running rows on n1"
    assert say(("pending", "JobHeldUser"), ("waiting", "for a")).cause == "JobHeldUser"
    well = say(("done", ""), ("running", "on n1"), ("not submitted", ""))
    assert (well.sentence, well.do) == ("nothing is wrong: 1 running, 1 not submitted, 1 done", "")
    assert say(("done", ""), ("done", "")).sentence == "nothing is wrong: 2 done"
    edited = say(("done", ""), ("not submitted", "its configuration changed"))
    assert edited.sentence == "nothing is wrong: 1 not submitted, 1 done (b: its configuration changed)"
    assert edited.do == "proxygrm submit"
