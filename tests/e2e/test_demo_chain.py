"""`proxygrm demo --quick`: the whole chain on the real parts, a few steps of each.

One run, several tests: starting the parts is most of the time. On the way SLURM tells two of its trainings to stop.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs import recipes
from jobs.engine.downloads import size_of
from jobs.engine.facts import gather
from jobs.engine.plan import plan
from jobs.engine.request import Request
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.space.forecast import forecast
from slurm import local
from slurm.local.binaries import repository
from support.openings import Opening, Watch, rows_of_the_table

pytestmark = [pytest.mark.e2e, pytest.mark.heavy, pytest.mark.cluster]
BENCHMARKS = ("vl_rewardbench", "multimodal_rewardbench", "mm_rlhf_rewardbench")
STAGES = ("distill", "split", "proxy_sft", "grm_sft", "grm_rl", "evaluate", "transfer", "report")
STAGES += tuple(f"benchmarks_{name}" for name in BENCHMARKS)
STEPS, PROMPTS, GROUP = 2, 10, 8


@dataclass(frozen=True)
class Demo:
    folder: Path
    environment: dict[str, str]
    output: str
    opened: set[Opening]
    """Listening sockets, and files outside the run folder."""

    def again(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return proxygrm(self.environment, *arguments)

    def rows(self, path: str) -> list[dict]:
        return [json.loads(line) for line in (self.folder / path).read_text().splitlines()]


def proxygrm(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3600)


def tell_two_to_stop(run: Path, cluster: Path) -> None:
    """What SLURM does before a time limit and a preemption, in the middle of the SFT and of the RL."""
    begun: dict[str, Callable[[], object]] = {
        "grm_sft": lambda: "20/60" in (run / "grm_sft" / "latest.log").read_text(),
        "grm_rl": lambda: (run / "grm_rl" / "rollouts" / "step_00001.jsonl").exists(),
    }
    for stage, condition in begun.items():
        found: object = False
        while not found:
            time.sleep(0.5)
            with contextlib.suppress(FileNotFoundError):
                found = condition()
        job = json.loads((run / "submissions.json").read_text())[stage]["job_id"]
        command, its = ["scancel", "--signal=USR2", job], {**os.environ, **local.env(cluster)}
        subprocess.run(command, env=its, capture_output=True, check=True)  # what pytest has for output is no job's


def own_home(home: Path) -> Path:
    """One in which only the demo's jobs leave something; what vLLM knows of models stays from run to run, as else."""
    known = Path.home() / ".cache" / "vllm" / "modelinfos"
    known.mkdir(parents=True, exist_ok=True)
    (home / ".cache" / "vllm").mkdir(parents=True)
    (home / ".cache" / "vllm" / "modelinfos").symlink_to(known)
    return home


def names_of_folders(root: Path) -> dict[str, str]:
    """Where a job could leave a file, by the table's names. $TMPDIR counts as the /tmp it mostly is."""
    mine = {root / "run": "", root / "cluster": "CLUSTER", root / "home": "~", root: "", Path.home(): "~"}
    mine |= {repository() / ".local": ""}
    shared = {Path("/dev/shm"): "/dev/shm", Path(tempfile.gettempdir()): "/tmp"}
    return {str(folder): name for folder, name in {**mine, **shared}.items()}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A finished quick demo; its private cluster is left up until the last test has looked at it."""
    root = tmp_path_factory.mktemp("demo")
    home = own_home(root / "home")
    environment = {**os.environ, "PROXYGRM_CLUSTER_DIR": str(root / "cluster"), "HOME": str(home)}
    with Watch(root / "cluster", names_of_folders(root)) as watch:
        up = proxygrm(environment, "cluster", "up")
        assert up.returncode == 0, up.stderr
        interrupts = threading.Thread(target=tell_two_to_stop, args=(root / "run", root / "cluster"), daemon=True)
        interrupts.start()
        done = proxygrm(environment, "demo", "--quick", "--run", str(root / "run"))
    kept = {
        Opening("file", f"~/{path.relative_to(home)}")
        for path in home.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    try:
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        yield Demo(root / "run", environment, done.stdout, watch.found() | kept)
    finally:
        proxygrm(environment, "cluster", "down")


def test_every_stage_is_proven_done(demo: Demo) -> None:
    for stage in STAGES:
        records = list((demo.folder / stage).glob("DONE*.json"))
        assert records, stage
        for record in (json.loads(path.read_text()) for path in records):
            assert record["finished"] > record["started"]
            assert record["nodes"]


def test_a_second_submit_runs_nothing(demo: Demo) -> None:
    before = (demo.folder / "submissions.json").read_text()
    again = demo.again("submit", "--recipe", "proxy_grm:quick", "--run", str(demo.folder))
    assert again.returncode == 0, again.stderr
    assert "submitted" not in again.stdout
    assert (demo.folder / "submissions.json").read_text() == before


def test_a_training_that_is_told_to_stop_saves_is_requeued_and_goes_on_as_if_nothing_had_been(demo: Demo) -> None:
    for stage in ("grm_sft", "grm_rl"):
        assert json.loads((demo.folder / stage / "DONE.json").read_text())["attempts"] == 2
        log = (demo.folder / stage / "latest.log").read_text()
        assert re.search(r"told to stop\. The run will resume from a checkpoint of step \d+.* Requeued", log), stage
    swift = (demo.folder / "grm_sft" / "swift.log").read_text()
    (resumed,) = {int(step) for step in re.findall(r"resume_from_checkpoint[= ]\S*/checkpoint-(\d+)", swift)}
    loss = {row["step"]: row["loss"] for row in demo.rows("grm_sft/metrics.jsonl")}
    before, after = (max(s for s in loss if s <= resumed), min(s for s in loss if s > resumed))
    assert loss[after] < 1.5 * loss[before], "the weights of the checkpoint are those it goes on with"
    attempts = sorted((demo.folder / "grm_rl" / "verl_metrics").iterdir())
    steps = [[json.loads(line)["step"] for line in path.read_text().splitlines()] for path in attempts]
    assert steps == [[0, 1], [1, 2]], "each attempt validates what it starts from"


def test_trainings_keep_their_last_checkpoints_after_a_resume_too(demo: Demo) -> None:
    for checkpoints in (
        "proxy_sft/swift/checkpoint-*",
        "grm_sft/swift/checkpoint-*",
        "grm_rl/checkpoints/global_step_*",
    ):
        assert 1 <= len(list(demo.folder.glob(checkpoints))) <= 2, checkpoints


def test_the_forecast_is_an_upper_bound_of_what_the_chain_takes_within_a_small_factor(demo: Demo) -> None:
    resolved = recipes.resolve(Request(recipe="proxy_grm:quick"))
    new = Ledger(demo.folder.with_name("new"))
    found = forecast(plan(resolved.stages, gather(resolved.stages, new, ask_scheduler=False)), new.folder)
    expected = {one.stage: one.size for one in found.stages}
    taken = {stage: size_of(demo.folder / stage) for stage in STAGES}
    for stage, size in expected.items():
        assert size is not None
        assert taken[stage] <= size, stage
    assert found.size <= 2.5 * sum(taken.values())
    for stage in ("grm_sft", "grm_rl"):
        assert expected[stage] <= 1.5 * taken[stage], "resumed, so that they hold as many checkpoints as they may"


def test_both_splits_come_from_the_teacher_s_verdicts(demo: Demo) -> None:
    report = json.loads((demo.folder / "split" / "report.json").read_text())
    assert report["right"] > report["wrong"] > 0
    assert report["right"] + report["wrong"] + sum(report["dropped"].values()) == report["pairs"]


def test_rl_scored_every_rollout_with_the_real_proxy(demo: Demo) -> None:
    start, *metrics = demo.rows("grm_rl/metrics.jsonl")
    assert [row["step"] for row in metrics] == list(range(1, STEPS + 1))
    assert start["step"] == 0
    assert "reward/rollouts" not in start, "only validated"
    assert all(row["reward/rollouts"] == PROMPTS * GROUP for row in metrics)
    assert all(row["reward/proxy_coverage"] > 0.5 for row in metrics), "most rubrics should have reached the proxy"
    assert all(row["reward/judged_early"] > 0.5 for row in metrics), "the quick recipe has early_rubric on"
    nodes = json.loads((demo.folder / "grm_rl" / "DONE.json").read_text())["nodes"]
    assert len(nodes) == 2
    log = (demo.folder / "grm_rl" / "proxy" / "proxy-0.log").read_text()
    assert "APIServer" in log
    assert "'allowed_local_media_path': '/" in log  # images went by path
    assert all(row["proxy/calls"] >= row["proxy/scored"] > 0 < row["proxy/latency_p95_s"] for row in metrics)
    rollouts = PROMPTS * GROUP
    assert all(round(row["reward/unscored"] * rollouts) + row["reward/scored"] == rollouts for row in metrics)


def test_sft_and_evaluation_left_their_figures(demo: Demo) -> None:
    for stage in ("proxy_sft", "grm_sft"):
        assert demo.rows(f"{stage}/metrics.jsonl")[-1]["loss"] > 0
    summary = json.loads((demo.folder / "evaluate" / "summary.json").read_text())
    assert set(summary) == {"start", "sft", "rl"}
    assert all(model["pairs"] == 8 for model in summary.values())


def test_sft_and_rl_were_validated_and_their_best_checkpoint_kept(demo: Demo) -> None:
    rows = demo.rows("grm_rl/metrics.jsonl")
    scores = {row["step"]: row["validation/score"] for row in rows if "validation/score" in row}
    assert {0, STEPS} <= set(scores)
    note = json.loads((demo.folder / "grm_rl" / "best" / "best.json").read_text())
    assert note["value"] == scores[note["step"]] == max(score for step, score in scores.items() if step)
    for stage in ("proxy_sft", "grm_sft"):
        losses = {row["step"]: row["eval/loss"] for row in demo.rows(f"{stage}/metrics.jsonl") if "eval/loss" in row}
        note = json.loads((demo.folder / stage / "best" / "best.json").read_text())
        assert note["value"] == pytest.approx(min(losses.values()))


def test_the_drawn_benchmarks_were_judged_and_the_papers_table_printed_and_shown(demo: Demo) -> None:
    for name in BENCHMARKS:
        summary = json.loads((demo.folder / f"benchmarks_{name}" / "summary.json").read_text())
        assert set(summary) == {"start", "sft", "rl"}
        assert {(row["bench"], row["rows"], row["partial"]) for row in summary.values()} == {
            (name.replace("_", "-"), 8, True)
        }
        assert {row["refused"] for row in summary.values()} == {0}
    page = (demo.folder / "report" / "report.html").read_text()
    for text in (demo.output, page):
        assert "PARTIAL: 8 of" in text
        assert "R1-Reward" in text
    assert page.index("R1-Reward (200k pairs)") < page.index("Results on held-out pairs")


def test_swanlab_recorded_sft_rl_and_evaluation_offline(demo: Demo) -> None:
    for stage in ("proxy_sft", "grm_sft", "grm_rl", "evaluate"):
        assert list((demo.folder / stage / "swanlog").glob("run-*")), stage


def test_the_report_is_one_page_that_names_every_stage(demo: Demo) -> None:
    page = (demo.folder / "report" / "report.html").read_text()
    assert all(stage in page for stage in STAGES)
    assert 'src="http' not in page


def test_no_key_is_left_in_scripts_or_logs(demo: Demo) -> None:
    assert not (demo.folder / "grm_rl" / "proxy" / "endpoints.json").exists()
    assert list(demo.folder.glob("grm_rl/ray/*/head.json"))
    assert [*demo.folder.glob("grm_rl/ray/*/token"), *demo.folder.glob("grm_rl/ray/*/secret")] == []
    keys = re.compile(r"(?i)(api[_-]?key|auth[_-]?token|bearer)\W{1,6}[0-9a-z_-]{32,}")
    for path in demo.folder.glob("**/*"):
        if path.is_file() and path.suffix in {".log", ".out", ".sh"}:
            assert not keys.search(path.read_text(errors="replace")), path


def test_status_says_done_for_every_stage(demo: Demo) -> None:
    shown = demo.again("status", "--run", str(demo.folder)).stdout
    assert shown.count("done") == len(STAGES)


def test_the_table_in_security_md_names_every_socket_and_file_of_the_chain_and_nothing_that_is_not_there(
    demo: Demo,
) -> None:
    rows = [row for row in rows_of_the_table() if row.may_open]
    unlisted = sorted(one for one in demo.opened if not any(row.names(one) for row in rows))
    assert not unlisted, "\n".join(map(str, unlisted))
    unseen = [row.text for row in rows if row.always_opens and not any(row.names(one) for one in demo.opened)]
    assert unseen == []
    folders = {Path(one.where).parts[2] for one in demo.opened if one.where.startswith(("/tmp/pgjob-", "/tmp/pgray-"))}
    assert len(folders) > 5
    assert [name for name in folders if Path(tempfile.gettempdir(), name).exists() or Path("/tmp", name).exists()] == []
    programs = {program for one in demo.opened for program in one.programs}
    assert {"gcs_server", "raylet", "slurmctld"} <= programs, "the watch has seen Ray and SLURM"
