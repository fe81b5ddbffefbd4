"""The Makefile: what its targets call, and what they say where nothing is installed yet."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


def make(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """A target, with a proxygrm that prints its words, one a line."""
    shutil.copy(ROOT / "Makefile", folder)
    program = folder / ".venv" / "bin" / "proxygrm"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    program.chmod(0o755)
    of_the_shell = ("PROFILE", "RUN", "NODES", "STAGE", "SPEC", "RECIPE", "ARGS")
    environment = os.environ | dict.fromkeys(of_the_shell, "what another program has set")
    return subprocess.run(["make", *words], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def words_of(words: list[str], folder: Path) -> list[str]:
    done = make(words, folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


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
def test_a_target_calls_proxygrm_with_the_run_folder_that_it_would_take_itself(
    words: str, called: str, tmp_path: Path
) -> None:
    assert words_of(words.split(), tmp_path) == called.split()


@pytest.mark.parametrize(
    "text",
    ["4; touch made", "a b", "$(shell touch made)", "$(touch made)", "`touch made`", 'it\'s "one"', "a#b", "$$x", "\\"],
)
def test_a_variable_is_one_word_whatever_stands_in_it(text: str, tmp_path: Path) -> None:
    for variable in ("RUN", "NODES", "PROFILE", "STAGE", "SPEC"):
        target = {"STAGE": "logs", "SPEC": "ablation"}.get(variable, "plan")
        assert words_of([target, f"{variable}={text}"], tmp_path)[-1] == text
    assert words_of(["status", f"PROFILE=/my sites/{text}.toml"], tmp_path)[-1] == f"runs/{text}"
    assert not list(tmp_path.rglob("made"))


def test_args_are_words_for_the_shell_and_nothing_to_make(tmp_path: Path) -> None:
    assert words_of(["plan", "ARGS=--set 'a=b c' --hold $(shell touch made) "], tmp_path)[:4] == [
        *("plan", "--set", "a=b c", "--hold"),
    ]
    assert not list(tmp_path.rglob("made"))


@pytest.mark.parametrize("variable", ["PROFILE", "RUN", "NODES", "STAGE", "SPEC", "RECIPE", "ARGS"])
def test_a_line_break_in_a_variable_is_refused_by_its_name(variable: str, tmp_path: Path) -> None:
    done = make(["plan", f"{variable}=a\ntouch made"], tmp_path)
    assert done.returncode == 2
    assert f"{variable} has a line break in it" in done.stderr
    assert not list(tmp_path.rglob("made"))


def test_a_target_says_what_to_do_where_nothing_is_installed(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    environment = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(["make", "status"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr.splitlines()[0] == "proxygrm is not installed here yet: make setup"


def test_replicate_draws_the_inputs_of_each_ablation_before_it_sends_it(tmp_path: Path) -> None:
    words = " ".join(words_of(["replicate", "-o", "setup", "ARGS=--throttle 2"], tmp_path))
    first, second = words.split("ablate ")[1:]
    assert first.startswith("replicate --recipe proxy_grm:demo --run runs/replicate --set evaluate.judge=runs/demo-")
    assert first.endswith("--watch --throttle 2 demo --recipe policy-rl --prepare-only ")
    assert second == "seeds --recipe policy-rl:demo --run runs/replicate-policy --watch --throttle 2"


def test_a_recipe_is_an_option_of_the_targets_that_plan_and_send(tmp_path: Path) -> None:
    for target in ("plan", "submit-chain", "ablation", "demo"):
        words = words_of([target, "RECIPE=my recipes/a'b.py:small", "-o", "setup"], tmp_path)
        assert words[words.index("--recipe") + 1] == "my recipes/a'b.py:small"
