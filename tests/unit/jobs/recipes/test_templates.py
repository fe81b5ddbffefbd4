"""The sbatch templates as text: what shellcheck, SLURM's syntax and the chain have to say about them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from jobs.recipes.proxy_grm import chain, paper

TEMPLATES = sorted((Path(__file__).parents[4] / "slurm" / "templates").glob("*.sbatch"))
NAMES = [path.stem for path in TEMPLATES]


def directives(path: Path) -> dict[str, str]:
    """--name=value of every #SBATCH line, comments behind them dropped as sbatch does."""
    lines = [line for line in path.read_text().splitlines() if line.startswith("#SBATCH ")]
    words = [line.removeprefix("#SBATCH ").split("#")[0].strip() for line in lines]
    assert all(re.fullmatch(r"--[a-z-]+(=\S+)?", word) for word in words), words
    return {name: value for name, _, value in (word.removeprefix("--").partition("=") for word in words)}


def test_there_is_one_for_each_part_of_the_chain_that_needs_a_cluster() -> None:
    assert NAMES == ["distill", "evaluate", "proxy", "rl", "sft", "split"]


@pytest.mark.parametrize("path", TEMPLATES, ids=NAMES)
def test_shellcheck_has_nothing_to_say(path: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed here; `make lint` insists on it")
    done = subprocess.run(["shellcheck", str(path)], capture_output=True, text=True, check=False)
    assert done.stdout == ""


@pytest.mark.parametrize("path", TEMPLATES, ids=NAMES)
def test_each_opens_with_what_it_does_and_how_to_start_it(path: Path) -> None:
    head = path.read_text().split("#SBATCH")[0]
    assert f"#   sbatch {'--nodes=4 ' * (path.stem == 'rl')}slurm/templates/{path.name}\n" in head
    assert len(head.splitlines()) >= 6


@pytest.mark.parametrize("path", TEMPLATES, ids=NAMES)
def test_every_directive_stands_before_the_first_command(path: Path) -> None:
    """sbatch reads no directive after the first line that is a command."""
    lines = path.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert all(not line.startswith("#SBATCH") for line in lines[first:])


@pytest.mark.parametrize("path", [p for p in TEMPLATES if p.stem != "proxy"], ids=[n for n in NAMES if n != "proxy"])
def test_what_a_template_asks_for_is_what_the_paper_s_preset_asks_for(path: Path) -> None:
    stages = {stage.name: stage for stage in chain(paper())}
    text = path.read_text()
    named = {"sft": ["proxy_sft", "grm_sft"], "rl": ["grm_rl"], "evaluate": ["evaluate", "transfer"]}.get(
        path.stem, [path.stem]
    )
    asked = directives(path)
    for name in named:
        stage = stages[name]
        assert name in text
        assert int(asked.get("nodes", 1)) == stage.on.nodes
        assert int(asked.get("gpus-per-node", 0)) == stage.on.gpus_per_node
        assert int(asked["cpus-per-task"]) == stage.on.cpus_per_task
        hours, minutes, _ = map(int, asked["time"].split(":"))
        assert hours * 60 + minutes == stage.on.timeout_min
        assert asked["mem"] in ("0", f"{stage.on.mem_gb}G")
        elements = len(named) if path.stem == "sft" else stage.array
        assert asked.get("array", "") == (f"0-{elements - 1}" if elements > 1 else "")
    assert asked["ntasks-per-node"] == "1"
    assert "requeue" in asked
    assert ("signal" in asked) == (path.stem != "split")
