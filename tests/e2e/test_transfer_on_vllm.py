"""The chain's transfer stage on real vLLM with a tiny untrained judge: missing verdicts are reported, not claimed."""

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

STAGE = """
import json, sys
from pathlib import Path
from jobs.stages.measuring import transfer
from slurm.sbatch import Resources
from jobs.engine.stage import Stage, StageRun
from proxygrm.evaluate.settings import EvaluateSettings
from proxygrm.evaluate.rows.pairs import load_pairs
from proxygrm.evaluate.rows.ordered_pair import judged_row, ordered_pairs
from proxygrm.demo.corpus import demo_corpus
from proxygrm.demo.model import build_tiny_model

folder = Path(sys.argv[1])
build_tiny_model(folder / "judge", demo_corpus(0, n=200), seed=0)
ordered_list = ordered_pairs(load_pairs(folder / "pairs.jsonl"))
answer = {"tokens": 1, "truncated": False, "problem": None}
(folder / "evaluate").mkdir()
for tag in ("start", "sft", "rl"):
    rows = []
    for ordered in ordered_list:
        text = f"<rubric>Names {ordered.pair.id} (100%)<justify>j</justify></rubric><eval>e</eval><answer>1</answer>"
        rows.append(judged_row(ordered, answer | {"text": text if tag != "start" else "red"}))
    (folder / "evaluate" / f"{tag}.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows))

(folder / "evaluate" / "summary.json").write_text(json.dumps(dict.fromkeys(("start", "sft", "rl"), {})))
config = transfer.Settings(proxy_max_tokens=8, max_model_len=1024, device="cpu")
stage = Stage("transfer", transfer.measure, (), Resources(), config=config)
inputs = {"judge": folder / "judge", "judged": folder / "evaluate" / "summary.json"}

class Killed(BaseException): ...

def kill_after_five(done, total, note):
    if done == 5:
        raise Killed

try:
    transfer.measure(StageRun(stage, folder, None, inputs, kill_after_five))
except Killed:
    pass
kept = (folder / "transfer" / "raw" / "proxy.jsonl").read_text().splitlines()
transfer.measure(StageRun(stage, folder, None, inputs, lambda done, total, note: None))
after = (folder / "transfer" / "raw" / "proxy.jsonl").read_text().splitlines()
(folder / "seen.json").write_text(json.dumps([len(kept) - 1, len(after) - 1, after[:len(kept)] == kept]))
"""


def test_the_stage_resumes_counts_every_condition_and_notes_that_the_judge_was_seen_in_training(tmp_path):
    Image.new("RGB", (56, 56), (220, 30, 30)).save(tmp_path / "red.png")
    pair = {"prompt": "What colour?", "chosen": "Red.", "rejected": "Blue."}
    pairs = [pair | {"id": f"p{at}", "prompt": f"What colour is {at}?", "image": "red.png"} for at in range(3)]
    pairs.append(pair | {"id": "long", "prompt": "word " * 3000})
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", STAGE, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]

    kept, requested, same = json.loads((tmp_path / "seen.json").read_text())
    assert (kept, requested, same) == (5, 24, True)  # none, own and another pair's of 8 sights, for sft and rl at once
    figures = json.loads((tmp_path / "transfer" / "transfer.json").read_text())
    assert "not a transfer claim" in figures["judges"]["proxy"]["note"]
    assert [(cell["grm"], cell["judge"]) for cell in figures["cells"]] == [("sft", "proxy"), ("rl", "proxy")]
    for cell in figures["cells"]:
        none, own, other, base = (cell["conditions"][name] for name in ("none", "own", "other", "base"))
        assert none["judgements"] == own["judgements"] == other["judgements"] == 8
        assert none["refused"] == own["refused"] == other["refused"] == 2
        assert base["not_sent"] == {"no_rubric": 8}
        assert none["unparsed"] + none["refused"] == 8  # a judge that was never trained gives no verdict
        assert cell["gains"]["none"]["difference"] == 0
        assert cell["gains"]["none"]["clear"]["pairs"] == 0
        assert any(note.startswith("no rubric: 8 of 8 judgements have no verdict") for note in cell["notes"])
    lines = [json.loads(line) for line in (tmp_path / "transfer" / "proxy.jsonl").read_text().splitlines()]
    assert len(lines) == 8 * 4 * 2
