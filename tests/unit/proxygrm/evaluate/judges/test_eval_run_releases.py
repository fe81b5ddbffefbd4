"""The benchmarks as released, from the file to the scores; the judge is a scalar model whose scores are known."""

from __future__ import annotations

import json

import pyarrow as pa

from support.evaluate.answers import VL_IDS
from support.evaluate.runs import call, rows, run, write
from support.rows.release_files import IMAGE, TEXT, cell, parquet, pictures

VL = pa.schema(
    [("id", TEXT), ("query", TEXT), ("response", pa.list_(TEXT)), ("image", IMAGE),
     ("human_ranking", pa.list_(pa.int64()))]
)  # fmt: skip


def figures(out, bench, *more):
    answers = ("--answers", out / "answers.jsonl", "--json", *more)
    return json.loads(call("score", "--bench", bench, *answers))


def test_vl_rewardbench_parquet_is_whole_with_its_repeated_ids_and_official_categories(tmp_path):
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
    said = run(out, write(tmp_path / "s.jsonl", lines), "--bench", "vl-rewardbench", "--data", data)
    assert "N = 1,250 pairs, all of VL-RewardBench (first release)" in said
    told = figures(out, "vl-rewardbench")
    assert (told["n"], told["partial"], told["ties"], told["overall"]) == (1250, False, 125, 0.4)
    assert {name: c["n"] for name, c in told["categories"].items()} == {
        "general": 183, "hallucination": 749, "reasoning": 318,
    }  # fmt: skip
    assert told["policies"]["official"]["n"] == 1125
    found = rows(out)
    assert {row["category"] for row in found} == {"general", "hallucination", "reasoning"}
    assert all(len(row["images"]) == 1 and not row["image_missing"] for row in found)
    again = run(out, tmp_path / "s.jsonl", "--bench", "vl-rewardbench", "--data", data, "--limit", "20")
    assert "N = 20 pairs, but VL-RewardBench has 1,250 or 1,247: PARTIAL; --limit leaves out 1,230" in again


def test_multimodal_rewardbench_is_scored_with_its_halves(tmp_path):
    kinds = [("a1", "correctness"), ("math-1", "reasoning"), ("code-1", "reasoning"), ("Pairs-1", "safety"),
             ("hm-1", "safety"), ("k", "knowledge"), ("v", "vqa")]  # fmt: skip
    pictures(tmp_path, [f"{n}.png" for n in range(len(kinds))])
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
    told = figures(out, "multimodal-rewardbench", "--partial")
    assert {name: c["n"] for name, c in told["categories"].items()} == {
        "correctness": 1, "knowledge": 1, "reasoning": 2, "safety": 2, "vqa": 1,
    }  # fmt: skip
    assert told["splits"]["reasoning/math"]["accuracy"] == 0
    assert told["splits"]["safety/bias"]["n"] == 1
    assert told["overall"] == 6 / 7
