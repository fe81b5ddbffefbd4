"""The benchmarks as released, from the file to the scores; the judge is a scalar model with known scores."""

from __future__ import annotations

import json

import pyarrow as pa

from support.evaluate.answers import VL_IDS
from support.evaluate.runs import call, rows, run, write
from support.rows.release_files import IMAGE, TEXT, cell, parquet, write_images

VL = pa.schema(
    [("id", TEXT), ("query", TEXT), ("response", pa.list_(TEXT)), ("image", IMAGE),
     ("human_ranking", pa.list_(pa.int64()))]
)  # fmt: skip


def figures(out, bench, *more):
    answers = ("--answers", out / "answers.jsonl", "--json", *more)
    return json.loads(call("score", "--bench", bench, *answers))


def test_vl_rewardbench_parquet_is_complete_with_its_repeated_ids_and_official_categories(tmp_path):
    row = {"response": ["a", "b"]}
    released = [
        row | {"id": name, "query": f"q{n}", "image": cell(n % 9), "human_ranking": [n % 2, 1 - n % 2]}
        for n, name in enumerate(VL_IDS)
    ]
    data = parquet(tmp_path / "test.parquet", released, VL)
    # `a` is better in even rows: this judge says so everywhere, and is undecided in every tenth row.
    lines = [
        {"id": name, "rewards": [0, 0] if n % 10 == 0 else [1, 0] if n % 2 == 0 else [0, 1]}
        for n, name in enumerate(VL_IDS)
    ]
    out = tmp_path / "out"
    output = run(out, write(tmp_path / "s.jsonl", lines), "--bench", "vl-rewardbench", "--data", data)
    assert "N = 1,250 pairs, all of VL-RewardBench (first release)" in output
    scores_of = figures(out, "vl-rewardbench")
    assert (scores_of["n"], scores_of["partial"], scores_of["ties"], scores_of["overall"]) == (1250, False, 125, 0.4)
    assert {name: c["n"] for name, c in scores_of["categories"].items()} == {
        "general": 183, "hallucination": 749, "reasoning": 318,
    }  # fmt: skip
    assert scores_of["policies"]["official"]["n"] == 1125
    judged = rows(out)
    assert {row["category"] for row in judged} == {"general", "hallucination", "reasoning"}
    assert all(len(row["images"]) == 1 and not row["image_missing"] for row in judged)
    again = run(out, tmp_path / "s.jsonl", "--bench", "vl-rewardbench", "--data", data, "--limit", "20")
    assert "N = 20 pairs, but VL-RewardBench has 1,250 or 1,247: PARTIAL; --limit leaves out 1,230" in again


def test_multimodal_rewardbench_is_scored_with_its_halves(tmp_path):
    kinds = [("a1", "correctness"), ("math-1", "reasoning"), ("code-1", "reasoning"), ("Pairs-1", "safety"),
             ("hm-1", "safety"), ("k", "knowledge"), ("v", "vqa")]  # fmt: skip
    write_images(tmp_path, [f"{n}.png" for n in range(len(kinds))])
    released = [
        {"ID": name, "Image": f"{n}.png", "Text": f"t{n}", "Output1": "x", "Output2": "y", "Category": kind,
         "Better": f"Output{1 + n % 2}"}
        for n, (name, kind) in enumerate(kinds)
    ]  # fmt: skip
    (tmp_path / "all_data.json").write_text(json.dumps(released))
    scores = write(tmp_path / "s.jsonl", [{"id": name, "rewards": [1, n == 1]} for n, (name, _) in enumerate(kinds)])
    scores.write_text(scores.read_text().replace("true", "1").replace("false", "0"))
    out = tmp_path / "out"
    run(out, scores, "--bench", "multimodal-rewardbench", "--data", tmp_path / "all_data.json")
    scores_of = figures(out, "multimodal-rewardbench", "--partial")
    assert {name: c["n"] for name, c in scores_of["categories"].items()} == {
        "correctness": 1, "knowledge": 1, "reasoning": 2, "safety": 2, "vqa": 1,
    }  # fmt: skip
    assert scores_of["splits"]["reasoning/math"]["accuracy"] == 0
    assert scores_of["splits"]["safety/bias"]["n"] == 1
    assert scores_of["overall"] == 6 / 7
