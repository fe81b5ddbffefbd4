"""Several checkpoints in one running engine, on real vLLM: each answers as it does in an engine of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.heavy

COMPARE = """
import json, shutil, sys
from pathlib import Path
import torch
from safetensors.torch import load_file, save_file
from proxygrm.demo.corpus import demo_corpus
from proxygrm.demo.model import build_tiny_model
from proxygrm.evaluate.judges import loaded
from proxygrm.evaluate.judges.engine import Request, open_engine
from proxygrm.evaluate.settings import EvaluateSettings

WEIGHTS = "model.safetensors"
folder = Path(sys.argv[1])
build_tiny_model(folder / "a", demo_corpus(0, n=200), seed=0)
for name in ("b", "terse"):
    shutil.copytree(folder / "a", folder / name)
torch.manual_seed(1)
weights = {key: tensor + 0.05 * torch.randn_like(tensor) for key, tensor in load_file(folder / "a" / WEIGHTS).items()}
save_file(weights, folder / "b" / WEIGHTS, {"format": "pt"})
template = folder / "terse" / "chat_template.jinja"
template.write_text("Briefly. " + template.read_text())
settings = EvaluateSettings(max_model_len=1024, device="cpu")
requests = [Request(str(n), f"Which colour is it, {n}?", (folder / "red.png",)) for n in range(6)]
starts, start = [], loaded.start
loaded.start = lambda model, arguments: (starts.append(model.name), start(model, arguments))[1]

def answers(name):
    with open_engine(folder / name, settings, 1) as engine:
        return {answer.key: answer.text for answer in engine.answers(requests, 16)}

alone = {name: answers(name) for name in ("a", "b", "terse")}
with loaded.one_engine():
    together = [(name, answers(name)) for name in ("a", "b", "a", "terse")]
print(json.dumps({"alone": alone, "together": together, "starts": starts}))
"""


def test_checkpoints_that_differ_in_weights_share_an_engine_and_answer_as_alone(tmp_path):
    Image.new("RGB", (56, 56), (220, 30, 30)).save(tmp_path / "red.png")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", COMPARE, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    alone = result["alone"]
    assert len({json.dumps(texts) for texts in alone.values()}) == 3  # weights and template both change the answers
    assert [name for name, _ in result["together"]] == ["a", "b", "a", "terse"]
    assert all(texts == alone[name] for name, texts in result["together"])
    assert result["starts"] == ["a", "b", "terse", "a", "terse"]  # alone, then one for a, b, a
