"""A recipe file outside the package, as docs/recipes.md describes it: sent, resumed, looked at, ablated."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import LocalCluster

pytestmark = pytest.mark.cluster

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "two_stages.py"
SET = ("text=text.txt", "count.on.mem_gb=1", "rank.on.mem_gb=1")
RECIPE = ("--recipe", "words.py", *(word for assignment in SET for word in ("--set", assignment)))
Command = Callable[..., str]
SWEEP = """
from jobs.engine.recipe import PerCell, Sweep  # noqa: E402

RECIPE = Recipe(
    name="words", chain=chain, presets={"default": Config}, sweep=Sweep(per_cell={"rank": PerCell("ranks")})
)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Somebody's own folder: a recipe file, a text, an ablation of it."""
    mine = tmp_path / "my project"
    mine.mkdir()
    (mine / "words.py").write_text(EXAMPLE.read_text() + SWEEP)
    (mine / "text.txt").write_text("a rubric is a rubric is a Rubric\n")
    (mine / "few.toml").write_text('about = "How many words?"\n[grid]\n"rank.most" = [1, 2]\n')
    return mine


@pytest.fixture
def proxygrm(folder: Path, local_cluster: LocalCluster) -> Command:
    """The command, called in that folder; returns what it prints."""
    environment = {**os.environ, **local_cluster.env, "PROXYGRM_CLUSTER_DIR": str(local_cluster.folder)}
    environment["COLUMNS"] = "250"  # no line of a table is folded
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(EXAMPLE.parents[2]), os.environ.get("PYTHONPATH")]))

    def call(*words: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "jobs", *words]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return call


def test_it_is_planned_sent_resumed_and_ablated_like_a_shipped_one(folder: Path, proxygrm: Command) -> None:
    assert "words:default" in proxygrm("plan", *RECIPE, "--run", "runs/words")
    proxygrm("submit", *RECIPE, "--run", "runs/words", "--watch")
    words = folder / "runs" / "words" / "rank" / "words.json"
    assert json.loads(words.read_text())[:3] == [["a", 3], ["rubric", 3], ["is", 2]]
    assert "nothing to do" in proxygrm("submit", "--run", "runs/words")
    assert "done" in proxygrm("status", "--run", "runs/words")
    assert "rank" in proxygrm("cost", "--run", "runs/words")

    changed = proxygrm("plan", "--run", "runs/words", "--set", "rank.most=1")
    assert "most 10 -> 1" in changed
    proxygrm("ablate", "few.toml", "--run", "runs/words", "--watch")
    cells = {
        path.parent.parent.name: json.loads(path.read_text())
        for path in folder.glob("runs/words/cells/*/rank/words.json")
    }
    assert cells == {"most-1": [["a", 3]], "most-2": [["a", 3], ["rubric", 3]]}

    (folder / "no text").write_bytes(b"\xff\xfe\xff")
    bad = ("--run", "runs/bad", "--set", "text=no text", "--watch")
    assert "count failed: UnicodeDecodeError" in proxygrm("submit", *RECIPE, *bad, code=2)

    shutil.move(folder / "words.py", folder / "gone.py")
    assert "done" in proxygrm("status", "--run", "runs/words"), "by the copy in the run folder"
    assert "recipe.missing-file" in proxygrm("submit", "--run", "runs/words", code=2)


def test_a_second_run_links_what_the_first_has_done_and_clean_leaves_both_complete(
    folder: Path, proxygrm: Command
) -> None:
    def said(*words: str) -> str:
        return " ".join(proxygrm(*words).replace("│", " ").split())

    proxygrm("submit", *RECIPE, "--run", "runs/first", "--watch")
    second = (*RECIPE, "--run", "runs/second", "--reuse", "runs/first", "--set", "rank.most=1")
    assert "reuse reused from runs/first" in said("plan", *second)
    proxygrm("submit", *second, "--watch")
    counts, ranked = folder / "runs" / "second" / "count" / "counts.json", folder / "runs" / "second" / "rank"
    assert counts.readlink() == folder / "runs" / "first" / "count" / "counts.json"
    assert json.loads((ranked / "words.json").read_text()) == [["a", 3]]
    assert list(json.loads((folder / "runs" / "second" / "submissions.json").read_text())) == ["rank"]
    assert "reused from runs/first" in said("status", "--run", "runs/second")
    assert "count, reused from runs/first" in said("cost", "--run", "runs/second")

    proxygrm("submit", "--run", "runs/second", "--set", "rank.most=2", "--watch")
    assert list((folder / "runs" / "second").glob("rank.*"))
    proxygrm("clean", "--run", "runs/second", "--yes")
    assert not list((folder / "runs" / "second").glob("rank.*"))
    assert "count stays: used by" in said("clean", "--run", "runs/first", "--yes")
    for run in ("first", "second"):
        assert "nothing to do" in said("submit", "--run", f"runs/{run}")

    proxygrm("submit", "--run", "runs/first", "--redo", "count", "--watch")
    assert "reuse reused from runs/first" in said("plan", "--run", "runs/second"), "as it is now"
    shutil.rmtree(folder / "runs" / "first")
    assert "no longer has the work" in said("plan", "--run", "runs/second")
    proxygrm("submit", "--run", "runs/second", "--watch")
    assert not counts.is_symlink()
    assert json.loads(counts.read_text())["a"] == 3
