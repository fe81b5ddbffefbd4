"""The RL job of docs/examples, as a user has it: own prompts, own reward, own server, on two nodes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import LocalCluster

pytestmark = [pytest.mark.cluster, pytest.mark.heavy]

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "rl_with_server.py"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Somebody's own folder: the recipe, questions with images, a model."""
    from PIL import Image, ImageDraw

    from proxygrm.demo.corpus import demo_corpus
    from proxygrm.demo.model import build_tiny_model

    mine = tmp_path / "my dots"
    (mine / "images").mkdir(parents=True)
    shutil.copy(EXAMPLE, mine / "dots.py")
    rows = [{"question": "How many dots?", "image": f"{dots}.png", "answer": str(dots)} for dots in range(24)]
    for dots in range(24):
        image = Image.new("RGB", (56, 56), "white")
        draw = ImageDraw.Draw(image)
        for dot in range(dots):
            draw.point((2 + dot % 10 * 5, 2 + dot // 10 * 5), "black")
        image.save(mine / "images" / f"{dots}.png")
    (mine / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    build_tiny_model(mine / "tiny-qwen2.5-vl", demo_corpus(0, n=50))
    return mine


def test_a_recipe_with_a_server_of_its_own_trains_on_two_nodes(folder: Path, local_cluster: LocalCluster) -> None:
    environment = {
        **os.environ,
        **local_cluster.env,
        "PROXYGRM_CLUSTER_DIR": str(local_cluster.folder),
        "COLUMNS": "200",
    }
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(EXAMPLE.parents[2]), os.environ.get("PYTHONPATH")]))

    def proxygrm(*words: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "jobs", *words]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1200)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    recipe = ("--recipe", "dots.py:demo")
    refused = proxygrm("plan", *recipe, "--set", "train.services_nodes=2", code=2)
    assert "2 checker nodes of 2 nodes leave none to train" in refused
    proxygrm("submit", *recipe, "--run", "runs/dots", "--set", "prepare.on.mem_gb=1", "--watch")
    train = folder / "runs" / "dots" / "train"
    assert (train / "DONE.json").is_file(), (train / "latest.log").read_text()
    rollouts = [json.loads(line) for line in (train / "rollouts" / "step_00001.jsonl").read_text().splitlines()]
    assert len(rollouts) == 80
    for row in rollouts:
        numbers = re.findall(r"-?\d+", row["response"])
        right = numbers[-1:] == [row["label"]]
        expected = 1.0 if right else 0.1 if numbers else 0.0
        assert (row["unscored"], row["score"], row["numbers"]) == (0, expected, {"right": float(right)})
    (plan,) = [json.loads(path.read_text()) for path in train.glob("ray/*/plan.json")]
    trainer, server = plan["nodes"]
    assert (trainer["services"], server["services"]) == ({}, {"checker": [0]})
    options = json.loads((train / "reward_options.json").read_text())
    (url,) = options["services"]["checker"]
    assert url.startswith(f"http://{server['address']}:")
    assert options["service_keys"] == {"checker": str(train / "services" / "checker" / "key")}
    assert not (train / "services" / "checker" / "key").exists()
    log = (train / "services" / "checker" / "checker-0.log").read_text()
    validated = 2 * 8  # the held-out questions, before training and at the end
    assert log.count('"POST /check HTTP/1.1" 200') == len(rollouts) + validated

    assert "nothing to do" in proxygrm("submit", "--run", "runs/dots")
    changed = proxygrm("plan", "--run", "runs/dots", "--nodes", "3", "--set", "train.services_nodes=2")
    assert "services.checker.nodes 1 -> 2" in changed
    shutil.move(folder / "dots.py", folder / "gone.py")
    assert "done" in proxygrm("status", "--run", "runs/dots"), "by the copy in the run folder"
