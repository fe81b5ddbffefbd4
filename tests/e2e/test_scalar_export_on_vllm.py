"""An exported scalar reward model, served and scored by the script in its folder: vLLM embeds, numpy is the head."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from proxygrm.serving.access.held_port import free_port
from proxygrm.serving.replicas.command import CPU_ENVIRONMENT
from support.model_cards import card
from support.scalar_models import make_scalar

pytestmark = pytest.mark.heavy
RESPONSES = ("It is red.", "It is blue, or so I believe.")
START_S = 600


def wait_for(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    pytest.fail(log.read_text()[-3000:])


def test_vllm_and_the_head_in_numpy_give_the_scores_of_the_suite(tmp_path: Path) -> None:
    from proxygrm.demo.corpus import demo_corpus
    from proxygrm.demo.model import build_tiny_model
    from proxygrm.report.model_card import card_text
    from proxygrm.scalar.conversation import Item
    from proxygrm.scalar.export import export_model
    from proxygrm.scalar.scorer import Scorer

    build_tiny_model(tmp_path / "tiny", demo_corpus(0, n=50))
    model = make_scalar(tmp_path / "tiny", tmp_path / "scalar", layers=3, activation="tanh", normalised=True)
    folder = export_model(model, tmp_path / "export", card_text(card("tiny")))
    image = Image.new("RGB", (84, 56), "red")
    image.save(tmp_path / "red.png")
    items = [Item("seen", "Which colour?", RESPONSES, (image,)), Item("text", "Two and two?", ("four", "five " * 9))]
    expected = {score.key: list(score.scores) for score in Scorer(model).scores(items)}

    port = free_port("127.0.0.1")
    script, url, log = folder / "score_with_vllm.py", f"http://127.0.0.1:{port}", tmp_path / "log"
    options = [
        "--port",
        port,
        "--host",
        "127.0.0.1",
        "--dtype",
        "float32",
        "--enforce-eager",
        "--max-model-len",
        1024,
        "--skip-mm-profiling",
        "--block-size",
        32,
        "--limit-mm-per-prompt",
        '{"image": 1, "video": 0}',
    ]
    environment = os.environ | CPU_ENVIRONMENT | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    serve = [sys.executable, "-I", str(script), "serve", str(folder), *map(str, options)]
    with log.open("wb") as output:
        server = subprocess.Popen(serve, env=environment, stdout=output, stderr=output, cwd=tmp_path)
    try:
        wait_for(server, url, log)
        for item in items:
            shown = str(tmp_path / "red.png") if item.images else ""
            words = [
                sys.executable,
                "-I",
                str(script),
                "score",
                str(folder),
                url,
                shown,
                item.question,
                *item.responses,
            ]
            done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
            assert [float(line) for line in done.stdout.split()] == pytest.approx(expected[item.key], abs=1e-4)
    finally:
        server.terminate()
        server.wait(120)
