"""The engine, the stages' own code and the commands know no chain: its names stand in the recipe alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from jobs.recipes import RECIPES, find

ROOT = Path(__file__).parents[3]
FOLDERS = ("slurm", "data_tools", "proxygrm", "jobs/engine", "jobs/stages", "jobs/cli")


def stage_names(recipe: str) -> set[str]:
    """Of every stage that a preset, or another choice of it, can have: those with a title and those in a chain."""
    found, _ = find(recipe)
    chains = [found.stages(make()) for make in found.presets.values()]
    return {stage.name for chain in chains for stage in chain} | set(found.report.stages)


def uses_of(name: str, text: str) -> Iterator[str]:
    """Lines that name the stage. A name that is also an English word counts where it is a path, a setting, or the key
    of something: evaluate/summary.json, evaluate.shards=4, runs["evaluate"]."""
    word = re.escape(name)
    pattern = (
        rf"\b{word}\b"
        if "_" in name
        else rf"""(?<![\w.]){word}/\w|--set {word}\.|(?<![\w.]){word}\.\w+=|\[["']{word}["']\]"""
    )
    for line in text.splitlines() if name in text else ():
        if not re.match(r"\s*(from|import) ", line) and re.search(pattern, line):
            yield line.strip()


@cache
def shared_code() -> list[tuple[str, str]]:
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    return [(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")) for path in files]


@pytest.mark.parametrize("recipe", RECIPES)
def test_no_stage_of_a_recipe_is_named_in_the_code_that_all_recipes_share(recipe: str) -> None:
    names = stage_names(recipe)
    assert len(names) >= 3
    found = [
        f"{path}: {name}: {line}" for path, text in shared_code() for name in names for line in uses_of(name, text)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("name", "line", "is_use"),
    [
        ("grm_rl", 'titles["grm_rl"]', True),
        ("grm_rl", "# the rollouts of grm_rl", True),
        ("grm_rl", "grm_rl_other = 1", False),
        ("evaluate", 'folder / "evaluate/summary.json"', True),
        ("split", '"fewer: --set split.short=take"', True),
        ("split", 'rows["split"]', True),
        ("split", "text.split(maxsplit=1)", False),
        ("report", "report.title = 1", False),
        ("evaluate", "from proxygrm.evaluate.run import Run", False),
    ],
)
def test_what_counts_as_a_name(name: str, line: str, is_use: bool) -> None:
    assert bool(list(uses_of(name, line))) == is_use
