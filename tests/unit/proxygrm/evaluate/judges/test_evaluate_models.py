"""The real vLLM with a tiny model, in a process of its own: interrupted, resumed, and its rubrics judged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[5]

JUDGE = """
import json, sys
from pathlib import Path
from proxygrm.evaluate.settings import EvaluateSettings
from proxygrm.evaluate.models import Evaluation, judge_models, merge_models
from proxygrm.evaluate.rows.pairs import load_pairs
from proxygrm.evaluate.judges.base import made_by
from proxygrm.evaluate.rows.row_file import RowFile
from proxygrm.evaluate.rows.ordered_pair import ordered_pairs
from proxygrm.demo.corpus import demo_corpus
from proxygrm.demo.model import build_tiny_model

folder = Path(sys.argv[1])
model, out = folder / "model", folder / "out"
build_tiny_model(model, demo_corpus(0), seed=0)
settings = EvaluateSettings(
    max_tokens=12, proxy_max_tokens=8, max_model_len=1024, max_num_seqs=4, device="cpu", missing_images="blank"
)
pairs = load_pairs(folder / "pairs.jsonl")

# An untrained model writes no rubric, so one model's answers are given; only the proxy is asked about them.
good = "<rubric>1. Names red (100%)<justify>j</justify></rubric><eval>e</eval><answer>1</answer>"
answers = out / "answers"
taught = answers / "models" / "taught" / "raw" / "answers-00001-of-00001.jsonl"
with RowFile(taught, made_by(model, "grm", settings, settings.max_tokens)) as file:
    for ordered in ordered_pairs(pairs):
        file.append({"key": ordered.key, "text": good, "tokens": 30, "truncated": False, "problem": None})

class Killed(BaseException): ...

def kill_after_three(done, total, note):
    if done == 3:
        raise Killed

try:
    only_start = Evaluation({"start": model}, None, folder / "pairs.jsonl", answers, settings)
    judge_models(only_start, progress=kill_after_three)
except Killed:
    start = answers / "models" / "start" / "raw" / "answers-00001-of-00001.jsonl"
    kept = len(start.read_text().splitlines()) - 1
counts = []
both = Evaluation({"start": model, "taught": model}, model, folder / "pairs.jsonl", answers, settings)
judge_models(both, progress=lambda done, total, note: counts.append((done, total)))
merge_models(both, out)
(folder / "seen.json").write_text(json.dumps({"kept": kept, "counts": counts}))
"""


@pytest.mark.heavy
def test_pairs_are_judged_in_both_orders_resumed_and_their_rubrics_given_to_the_proxy(tmp_path):
    Image.new("RGB", (56, 56), (220, 30, 30)).save(tmp_path / "red.png")
    rows = [
        {"id": "twice", "prompt": "What colour?", "chosen": "Red.", "rejected": f"{i}.", "image": "red.png"}
        for i in range(4)
    ]
    rows.append({"id": "long", "prompt": "word " * 9000, "chosen": "a", "rejected": "b", "image": "gone.png"})
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", JUDGE, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]

    seen = json.loads((tmp_path / "seen.json").read_text())
    assert seen["kept"] == 3
    assert seen["counts"][-1] == [40, 40]
    out = tmp_path / "out"
    (raw,) = (out / "answers" / "models" / "start" / "raw").glob("*.jsonl")
    parts = [json.loads(line) for line in raw.read_text().splitlines()[1:]]
    assert len(parts) == len({row["key"] for row in parts}) == 10
    start = [json.loads(line) for line in (out / "start.jsonl").read_text().splitlines()]
    assert [(r["id"], r["copy"], r["order"]) for r in start[:4]] == [
        ("twice", 0, "as_is"),
        ("twice", 0, "swapped"),
        ("twice", 1, "as_is"),
        ("twice", 1, "swapped"),
    ]
    assert all(r["tokens"] for r in start[:8])
    assert all("maximum context length" in r["refused"] for r in start[8:])
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["start"]["refused"], summary["start"]["image_missing"]) == (2, 2)
    assert (summary["taught"]["accuracy"], summary["taught"]["both_orders_accuracy"]) == (0.5, 0.0)
    assert (summary["taught"]["proxy_asked"], summary["taught"]["says_1"]) == (10, 1.0)
    scores = summary["taught"]
    assert (scores["n"], scores["overall"], scores["consistency"], scores["partial"]) == (5, 0.5, 0.0, False)
    assert (scores["position_bias"], scores["unparsed_share"], summary["start"]["unparsed_share"]) == (0.5, 0.0, 1.0)
    assert scores["categories"]["all"]["n"] == 5
    assert list((out / "swanlog").glob("run-*/*.swanlab"))
