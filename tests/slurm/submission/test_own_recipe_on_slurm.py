"""A recipe file outside the package, as docs/recipes.md describes it: sent, resumed, looked at, ablated."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import LocalCluster

pytestmark = pytest.mark.cluster

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "two_stages.py"
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


def test_it_is_planned_sent_resumed_and_ablated_like_a_shipped_one(folder: Path, local_cluster: LocalCluster) -> None:
    environment = {**os.environ, **local_cluster.env, "PROXYGRM_CLUSTER_DIR": str(local_cluster.folder)}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(EXAMPLE.parents[2]), os.environ.get("PYTHONPATH")]))

    def proxygrm(*words: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "jobs", *words]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=180)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    recipe = (
        "--recipe",
        "words.py",
        "--set",
        "text=text.txt",
        "--set",
        "count.on.mem_gb=1",
        "--set",
        "rank.on.mem_gb=1",
    )
    assert "words:default" in proxygrm("plan", *recipe, "--run", "runs/words")
    proxygrm("submit", *recipe, "--run", "runs/words", "--watch")
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

    shutil.move(folder / "words.py", folder / "gone.py")
    assert "done" in proxygrm("status", "--run", "runs/words"), "by the copy in the run folder"
    assert "recipe.missing-file" in proxygrm("submit", "--run", "runs/words", code=2)
