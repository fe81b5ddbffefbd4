"""The sbatch templates, submitted as a person does, on the real local scheduler; and where secrets end up: nowhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import eventually

from jobs.engine.run_folder.secrecy import refuse
from proxygrm.core.errors import UserError

pytestmark = pytest.mark.cluster
REPOSITORY = Path(__file__).parents[3]
TEMPLATES = REPOSITORY / "slurm" / "templates"
PLANTED = "planted-7f3a9c"
SECRETS = {
    "SWANLAB_API_KEY": f"{PLANTED}-swanlab",
    "HF_TOKEN": f"hf_{PLANTED}huggingface",
    "OPENAI_API_KEY": f"sk-{PLANTED}-openai",
    "WANDB_API_KEY": f"{PLANTED}-wandb",
    "AWS_SECRET_ACCESS_KEY": f"{PLANTED}-aws",
    "HTTPS_PROXY": f"http://user:{PLANTED}-proxy@proxy.invalid:3128",
}


LEFT_BY_AN_ALLOCATION = {
    **{"SLURM_MEM_PER_CPU": "2000", "SLURM_EXPORT_ENV": "NONE", "SLURM_CPU_BIND": "quiet,mask_cpu:0x1"},
    **{"SLURM_ARRAY_JOB_ID": "99", "SLURM_ARRAY_TASK_ID": "3", "SRUN_EXPORT_ENV": "NONE"},
}


@dataclass(frozen=True)
class Site:
    """A cluster, small inputs, and a run folder whose name needs quoting."""

    environment: dict[str, str]
    inputs: Path
    run: Path
    key: Path

    @property
    def options(self) -> list[str]:
        """Options of run-stage and of submit that make the demo's experiment smaller still."""
        sizes = {"proxy_sft": 20, "grm_sft": 20, "proxy_rl": 4, "proxy_rl_val": 4, "grm_rl": 10, "grm_rl_val": 4}
        values = {
            **{f"split.{name}": size for name, size in sizes.items()},
            "pairs": self.inputs / "pairs",
            "held_out": self.inputs / "held_out",
            "policy": self.inputs / "tiny",
            "proxy": self.inputs / "tiny",
            "split.short": "take",
            "grm_sft.max_steps": 3,
            "distill.api_key_file": self.key,
        }
        return ["--recipe", "proxy_grm:quick", *(word for k, v in values.items() for word in ("--set", f"{k}={v}"))]

    def call(self, *command: str, timeout_s: float = 180) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=self.environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=timeout_s
        )

    def proxygrm(self, *words: str) -> str:
        """What a command about the run prints; fails the test when it fails."""
        done = self.call(sys.executable, "-m", "jobs", *words, "--run", str(self.run), timeout_s=600)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def states(self) -> dict[str, dict[str, Any]]:
        return {row["stage"]: row for row in json.loads(self.proxygrm("status", "--json"))}

    def until_running(self, stage: str) -> None:
        eventually(lambda: self.states()[stage]["word"] == "running", 60, lambda: f"{stage}: {self.states()[stage]}")

    def sbatch(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Typed in a shell inside an allocation, in an element of an array."""
        left = [f"{name}={value}" for name, value in LEFT_BY_AN_ALLOCATION.items()]
        return self.call("env", *left, "sbatch", f"--output={self.run.parent}/logs/%x-%A-%a.out", *words)

    def finished(self, template: str, *sbatch: str, more: tuple[str, ...] = ()) -> str:
        """Submit a template and wait for its end; its output. Fails the test unless every element COMPLETED."""
        return self.ended_well(self.sent(template, *sbatch, more=more))

    def sent(self, template: str, *sbatch: str, more: tuple[str, ...] = ()) -> str:
        """Submit a template; the job's id."""
        done = self.sbatch("--parsable", *sbatch, str(TEMPLATES / template), *self.options, *more)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def ended_well(self, job: str) -> str:
        waited = self.call("srun", f"--dependency=afterany:{job}", "--quiet", "--time=1", "true", timeout_s=900)
        assert waited.returncode == 0, waited.stderr
        logs = sorted((self.run.parent / "logs").glob(f"*-{job}-*.out"))
        text = "\n".join(log.read_text(errors="replace") for log in logs)

        def states() -> set[str]:
            return set(self.call("sacct", "-X", "-n", "-P", "-j", job, "-o", "State").stdout.split())

        # Accounting hears of an end a moment later.
        eventually(lambda: not states() & {"PENDING", "RUNNING", "COMPLETING"}, 20, lambda: f"{states()}\n{text}")
        assert states() == {"COMPLETED"}, text
        return text


@pytest.fixture(scope="module")
def site(local_cluster, tmp_path_factory: pytest.TempPathFactory) -> Site:  # type: ignore[no-untyped-def]
    from data_tools.ingest.run import ingest
    from data_tools.sources.demo_pairs import write_demo_pairs
    from proxygrm.demo.corpus import demo_corpus
    from proxygrm.demo.model import build_tiny_model

    root = tmp_path_factory.mktemp("by hand")
    inputs, key = root / "inputs", root / "key"
    write_demo_pairs(inputs / "release", 160, 20, 0, ("colour",), 0.6)
    for name, target in (("train", "pairs"), ("held_out", "held_out")):
        ingest("rlaif-v", inputs / "release" / f"{name}.parquet", inputs / target)
    build_tiny_model(inputs / "tiny", demo_corpus(0, n=400, kinds=("colour",)), seed=0)
    key.touch(0o600)
    key.write_text(f"sk-{PLANTED}-teacher")
    (root / "logs").mkdir()
    environment = {
        **os.environ,
        **local_cluster.env,
        **SECRETS,
        "RUN": str(root / "it's a run"),
        "PROFILE": "local",
        "COLUMNS": "250",  # no line of a table is folded, however long a job's id
        "PROXYGRM_CLUSTER_DIR": str(local_cluster.folder),
        # As `proxygrm` is found in an environment that is active; the templates look into .venv first.
        "PATH": f"{Path(sys.executable).parent}:{local_cluster.env.get('PATH', os.environ['PATH'])}",
    }
    return Site(environment, inputs, root / "it's a run", key)


@pytest.mark.parametrize("template", sorted(path.name for path in TEMPLATES.glob("*.sbatch")))
@pytest.mark.parametrize("nodes", [(), ("--nodes=4",)], ids=["as it is", "four nodes"])
def test_slurm_accepts_every_template(site: Site, template: str, nodes: tuple[str, ...]) -> None:
    done = site.sbatch("--test-only", *nodes, str(TEMPLATES / template))
    assert done.returncode == 0, done.stderr
    assert re.search(r"to start at \S+ using \d+ processors", done.stderr)


def test_a_step_whose_input_is_not_done_says_what_is_missing(site: Site) -> None:
    done = site.sbatch("--wait", "--parsable", str(TEMPLATES / "evaluate.sbatch"), *site.options)
    assert done.returncode != 0
    (log,) = (site.run.parent / "logs").glob("evaluate-*.out")
    assert "which it needs, is not done: not done yet" in log.read_text()
    eventually(lambda: site.states()["evaluate"]["word"] != "running", 30, lambda: str(site.states()))  # completing
    found = site.states()["evaluate"]
    assert (found["word"], found["job_id"]) == ("failed", done.stdout.strip())
    assert "which it needs, is not done: not done yet" in found["detail"]
    said = site.proxygrm("why", "evaluate").splitlines()[1]
    assert said.startswith("evaluate failed: proxy_sft, which it needs, is not done")
    assert site.proxygrm("logs", "evaluate", "-n", "1").splitlines()[1:] == log.read_text().splitlines()[-1:]
    (hours,) = json.loads(site.proxygrm("cost", "--json"))["stages"]
    assert (hours["stage"], hours["jobs"], hours["attempts"]) == ("evaluate", 1, 1)


@pytest.mark.heavy
def test_the_chain_runs_by_hand_to_a_trained_model(site: Site) -> None:
    """distill, split and an SFT of three steps; an array larger than the shards is no harm."""
    said = site.finished("distill.sbatch", "--array=0-2")
    assert "distill has 2 shards, 0 to 1: nothing to do for element 2" in said
    site.finished("split.sbatch")
    other, job = (site.sent("sft.sbatch", f"--array={element}") for element in (0, 1))
    site.until_running("proxy_sft")  # it has hundreds of steps to go, until it is cancelled below
    sending = site.proxygrm("submit", "proxy_sft", *site.options)
    assert f"{other}_0 is running" in sending, "the chain waits for it"
    assert "submitted" not in sending
    said = site.ended_well(job)
    assert "preflight: 1 node fit to work" in said
    record = json.loads((site.run / "grm_sft" / "DONE.json").read_text())
    assert record["stage"] == "grm_sft"
    assert (site.run / "grm_sft" / "model" / "config.json").is_file()
    assert f": {other}; finished stages stay" in site.proxygrm("cancel")
    words = {name: row["word"] for name, row in site.states().items()}
    assert [words[name] for name in ("distill", "split", "proxy_sft", "grm_sft")] == [
        "done",
        "done",
        "cancelled",
        "done",
    ]
    again = site.finished("split.sbatch")
    assert "already done, nothing to do" in again


@pytest.mark.heavy
def test_no_secret_of_the_environment_or_of_a_key_file_is_in_anything_written(site: Site) -> None:
    """Runs through the templates (above) and through submit; every file of both, binary ones and pickles too."""
    seen = site.call("srun", "--quiet", "--time=1", "printenv", *SECRETS)
    assert seen.stdout.split() == list(SECRETS.values()), "jobs do inherit them"
    submitted = site.run.parent / "submitted"
    command = [sys.executable, "-m", "jobs", "submit", "split", "--run", str(submitted), "--watch", *site.options]
    done = site.call(*command, timeout_s=600)
    assert (submitted / "split" / "DONE.json").is_file(), done.stdout + done.stderr
    places = [site.run, submitted, site.run.parent / "logs"]
    files = [path for place in places for path in place.rglob("*") if path.is_file()]
    assert {"run.json", "submissions.json"} <= {path.name for path in files}
    assert any(path.suffix == ".pkl" for path in files)
    assert any(path.suffix == ".sh" for path in files)
    assert [str(path) for path in files if PLANTED.encode() in path.read_bytes()] == []
    assert PLANTED not in done.stdout + done.stderr


def test_a_secret_given_as_an_option_is_refused_and_not_repeated(site: Site) -> None:
    command = [sys.executable, "-m", "jobs", "plan", "--set", f"distill.teacher=https://me:{PLANTED}@host/v1"]
    done = site.call(*command)
    assert done.returncode == 2
    assert "a password in a URL" in done.stderr
    assert PLANTED not in done.stderr + done.stdout
    with pytest.raises(UserError):
        refuse(SECRETS["HTTPS_PROXY"], "the profile")
