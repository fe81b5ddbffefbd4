"""Every benchmark runs: each once, tiny. What it measures then says nothing; that it ends and compares does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
LIGHT = {
    "answer_matching.py": ("--pairs 50", "slowest hostile expression"),
    "consistency_calls.py": ("--rollouts 8 --median-s 0.005", "calls not made"),
    "convert_to_verl.py": ("--rows 50", "the rows of both tools are the same"),
    "near_duplicates.py": ("--rows 50 --ours", "(100.00% the same)"),
    "preference_sources.py": ("--rows 50 --sources tulu-3,vlfeedback", "the pairs of both tools are the same"),
    "proxy_pool.py": ("--scale 0.01 --rounds 1 --prompts 4 --only routing", "prefix hits"),
    "reward_arithmetic.py": ("--rollouts 20", "| short |"),
    "scoring.py": ("--rows 50", "policy official"),
}
HEAVY = {
    "early_rubric.py": ("--scale 0.01 --replicas 1 --rollouts 16", "16 rollouts"),
    "stable_reinforce.py": ("--rollouts 4 --tokens 16", "| 0.99 |"),
    "evaluation_speed.py": ("--examples 1", "2 judgements of 1 pairs in both orders"),
    "reward_serving.py": (
        "--scale 0.01 --rounds 1 --replicas 1 --hidden 128 --layers 2 --questions 1",
        "scores differ by at most",
    ),
    "scalar_scoring.py": ("--pairs 2", "of the tokens saved"),
    "process_scoring.py": ("--questions 1 --solutions 2 --steps 2", "the same verdict of"),
}
ELSEWHERE = {"status_scale.py": "tests/slurm/submission/test_benchmarks_on_slurm.py"} | {
    "submission_overhead.py": "tests/slurm/submission/test_benchmarks_on_slurm.py",
    "proxy_modes.py": "tests/e2e/test_proxy_modes_on_vllm.py",
}


def run(name: str, options: str, folder: Path) -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / name), *options.split()]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.needs("datasets")
@pytest.mark.parametrize(("name", "asked"), LIGHT.items(), ids=list(LIGHT))
def test_a_light_benchmark_runs(name: str, asked: tuple[str, str], tmp_path: Path) -> None:
    assert asked[1] in run(name, asked[0], tmp_path)


@pytest.mark.heavy
@pytest.mark.parametrize(("name", "asked"), HEAVY.items(), ids=list(HEAVY))
def test_a_heavy_benchmark_runs(name: str, asked: tuple[str, str], tmp_path: Path) -> None:
    assert asked[1] in run(name, asked[0], tmp_path)


def test_no_benchmark_is_left_out() -> None:
    there = {path.name for path in (ROOT / "benchmarks").glob("*.py")}
    assert there == LIGHT.keys() | HEAVY.keys() | ELSEWHERE.keys()
    for name, where in ELSEWHERE.items():
        assert name in (ROOT / where).read_text(), f"{where} does not run {name}"
