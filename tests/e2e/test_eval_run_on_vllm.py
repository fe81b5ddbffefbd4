"""`eval run` as users run it, on real vLLM: two copies side by side, sampled votes, and one shard judged again."""

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


def proxygrm(*words: object) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "jobs", "eval", *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def answers(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]


def test_copies_side_by_side_make_one_file_and_a_sampled_judgement_is_the_same_when_requested_again(tmp_path):
    from proxygrm.demo.corpus import demo_corpus
    from proxygrm.demo.model import build_tiny_model

    build_tiny_model(tmp_path / "model", demo_corpus(0, n=200), seed=0)
    Image.new("RGB", (56, 56), (220, 30, 30)).save(tmp_path / "red.png")
    pair = {"id": "twice", "prompt": "What colour?", "chosen": "Red.", "image": "red.png"}
    pairs = [pair | {"rejected": f"{i}."} for i in range(4)] + [pair | {"rejected": "word " * 2000}]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    out = tmp_path / "out"
    options = [
        "run",
        "--judge",
        tmp_path / "model",
        "--pairs",
        tmp_path / "pairs.jsonl",
        "--out",
        out,
        "--device",
        "cpu",
    ]
    options += ["--votes", 2, "--temperature", 0.9, "--max-tokens", 12, "--max-model-len", 1024]

    output = proxygrm(*options, "--copies", 2)
    assert "N = 5 of 5 pairs" in output
    assert "4 prompts refused" in output
    first = answers(out)
    assert len(first) == 20
    assert len({row["seed"] for row in first[:16]}) == 16
    assert all("maximum context length" in row["refused"] for row in first[16:])
    assert len({row["critique"] for row in first[:16]}) > 8  # each sample has its own seed

    shards = sorted((out / "raw").iterdir())
    assert [path.name for path in shards] == ["answers-00001-of-00002.jsonl", "answers-00002-of-00002.jsonl"]
    shards[0].unlink()
    (out / "run.json").unlink()
    proxygrm(*options, "--copies", 1)
    second = answers(out)
    assert [row | {"seconds": 0} for row in second] == [row | {"seconds": 0} for row in first]

    figures = json.loads(proxygrm("score", "--bench", "pairs", "--answers", out / "answers.jsonl", "--json"))
    assert (figures["n"], figures["orders"], figures["samples"], figures["judgements"]) == (5, 2, 2, 20)
