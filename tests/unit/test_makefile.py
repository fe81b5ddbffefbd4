"""The Makefile: what its targets call, and what they say where nothing is installed yet."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("words", "called"),
    [
        ("plan PROFILE=/sites/my-site.toml NODES=4", "plan --profile /sites/my-site.toml --nodes 4"),
        ("plan", "plan"),
        ("submit-rl", "submit grm_rl"),
        ("submit-rl NODES=4 RUN=runs/four", "submit --run runs/four --nodes 4 grm_rl"),
        ("ablation RUN=runs/demo", "ablate aggregation --run runs/demo"),
        ("doctor PROFILE=h100", "doctor --profile h100"),
        ("cancel PROFILE=my-site.toml", "cancel --run runs/my-site"),
        ("cancel", "cancel"),
        ("status", "status"),
        ("status RUN=runs/x", "status --run runs/x"),
        ("logs STAGE=grm_rl", "logs grm_rl"),
    ],
)
def test_a_target_calls_proxygrm_with_the_run_folder_that_it_would_take_itself(words: str, called: str) -> None:
    of_the_shell = ("PROFILE", "RUN", "NODES", "STAGE", "SPEC", "ARGS")
    environment = os.environ | dict.fromkeys(of_the_shell, "what another program has set")
    command = ["make", "-n", *words.split()]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert " ".join(done.stdout.splitlines()[-1].split()) == f"proxygrm {called}"


def test_a_target_says_what_to_do_where_nothing_is_installed(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    environment = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(["make", "status"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr.splitlines()[0] == "proxygrm is not installed here yet: make setup"
