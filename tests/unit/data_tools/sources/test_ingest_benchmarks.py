"""The benchmarks' sources, from files built column by column in the layout of their releases."""

from __future__ import annotations

import json
from dataclasses import asdict

import pyarrow as pa
import pytest

from data_tools.export.convert import convert
from data_tools.ingest.run import ingest
from data_tools.rows.preference import image_hash, read_pairs
from proxygrm.evaluate.rows.pairs import load_pairs
from support.refusals import refused
from support.rows.release_files import (  # fmt: skip
    IMAGE,
    TEXT,
    better_and_worse,
    cell,
    image_bytes,
    jsonl,
    parquet,
    write_images,
)

# --- benchmarks


def test_vl_rewardbench_parquet(tmp_path):
    schema = pa.schema([("id", TEXT), ("query", TEXT), ("response", pa.list_(TEXT)), ("image", IMAGE),
                        ("human_ranking", pa.list_(pa.int64())), ("models", pa.list_(TEXT)), ("judge", TEXT),
                        ("rationale", TEXT), ("query_source", TEXT), ("ground_truth", TEXT)])  # fmt: skip
    ids = ["RLAIF-V-1", "RLHF-V-2", "hallucination_pair-3", "mathverse_4", "mmmu_pro_5", "wildvision-battle-6"]
    rows = [
        {
            "id": id_,
            "query": f"q{i}",
            "response": ["left", "right"],
            "human_ranking": [i % 2, 1 - i % 2],
            "image": cell(i),
        }
        for i, id_ in enumerate(ids)
    ]
    rows += [rows[0] | {"query": "again"}, rows[0], rows[0] | {"human_ranking": [0, 0]}, rows[0] | {"response": ["a"]}]
    report = ingest("vl-rewardbench", parquet(tmp_path / "x.parquet", rows, schema), tmp_path / "out", max_bad=0.2)
    assert report["bad"] == {"no_label": 1, "not_two_responses": 1}
    assert report["notes"] == {"duplicate": 1, "repeated_id": 2}  # every row of a benchmark counts
    pairs = read_pairs(tmp_path / "out")
    assert [p.category for p in pairs] == ["hallucination"] * 3 + ["reasoning"] * 2 + ["general"] + [
        "hallucination"
    ] * 2
    assert [p.id for p in pairs][-2:] == ["vl_rewardbench:RLAIF-V-1#2", "vl_rewardbench:RLAIF-V-1#3"]
    sides = [("left", "right"), ("right", "left")]
    assert list(better_and_worse(tmp_path / "out").values()) == [*sides, *sides, *sides, sides[0], sides[0]]
    assert image_hash(pairs[0].images[0]) == image_hash(pairs[6].images[0])


def bench_row(i, **changes):
    return {"id": f"RLAIF-V-{i}", "prompt": "What?", "chosen": "good", "rejected": "bad", "image": f"img/{i}.png",
            "chosen_reason": "", "rejected_reason": ""} | changes  # fmt: skip


def test_vl_rewardbench_jsonl(tmp_path):
    write_images(tmp_path / "img", [f"{i}.png" for i in range(20)])
    path = jsonl(tmp_path / "my bench.jsonl", [bench_row(i) for i in range(20)])
    report = ingest("vl-rewardbench", path, tmp_path / "out")
    assert (report["read"], report["kept"], report["images"]) == (20, 20, 20)
    assert set(better_and_worse(tmp_path / "out").values()) == {("good", "bad")}
    assert {p.category for p in read_pairs(tmp_path / "out")} == {"hallucination"}


@pytest.mark.parametrize("name", ["json", "jsonl", "parquet"])
def test_multimodal_rewardbench(tmp_path, name):
    def row(id_, category, better="Output1"):
        return {"ID": id_, "Image": "img/0.png", "Text": f"q {id_}", "Output1": "one", "Output2": "two",
                "Better": better, "Category": category}  # fmt: skip

    rows = [
        row("correctness-1", "correctness"), row("x", "preference", "Output2"), row("k", "knowledge"),
        row("MATH-1", "reasoning"), row("livecode-1", "reasoning"), row("Pairs-1", "safety"), row("hm-1", "safety"),
        row("v", "vqa"), row("w", "vqa", "output1"),
    ]  # fmt: skip
    write_images(tmp_path / "img", ["0.png"])
    path = tmp_path / f"all_data.{name}"
    if name == "parquet":
        parquet(path, rows, pa.schema([(column, TEXT) for column in rows[0]]))
    elif name == "jsonl":
        jsonl(path, rows)
    else:
        path.write_text(json.dumps(rows))
    report = ingest("multimodal-rewardbench", path, tmp_path / "out", max_bad=0.2)
    assert report["bad"] == {"no_label": 1}
    assert [p.category for p in read_pairs(tmp_path / "out")] == [
        "correctness", "preference", "knowledge", "reasoning/math", "reasoning/coding", "safety/bias",
        "safety/toxicity", "vqa",
    ]  # fmt: skip
    assert better_and_worse(tmp_path / "out")["multimodal_rewardbench:x"] == ("two", "one")


def test_mm_rlhf_rewardbench_with_images_and_frames(tmp_path):
    root = tmp_path / "data"
    write_images(root, ["mcq/long_video.png", "short/0.png"])
    write_images(root / "video" / "a", [f"frame_{i}.png" for i in range(100)])
    write_images(root / "video" / "b", ["1.png", "2.png", "10.png", "notes.txt"])
    rows = [
        bench_row(0, id="1_2", image="mcq/long_video.png"), bench_row(1, id="1_2", image="mcq/long_video.png", chosen="other"),  # noqa: E501
        bench_row(2, id="s", image="./short/0.png"), bench_row(3, id="v", image=None, video="video/a.mp4"),
        bench_row(4, id="w", image=None, video="video/b"), bench_row(5, id="n", image=None),
    ]  # fmt: skip
    path = jsonl(root / "mm_reward_bench.jsonl", rows)
    with refused("image.missing", path=path, count=1, root=root):
        ingest("mm-rlhf-rewardbench", path, tmp_path / "out", max_bad=0.2)
    report = ingest("mm-rlhf-rewardbench", path, tmp_path / "out", missing_images="drop", max_bad=0.2)
    assert report["bad"] == {"missing_image": 1}
    pairs = read_pairs(tmp_path / "out")
    assert [p.category for p in pairs] == ["mcq", "mcq", "short", "video", "video"]
    assert [p.group for p in pairs] == ["1_2", "1_2", "s", "v", "w"]
    assert [len(p.images) for p in pairs] == [1, 1, 1, 32, 3]
    stored = [path.read_bytes() for path in pairs[3].image_paths(tmp_path / "out")]
    assert (stored[0], stored[-1]) == (image_bytes(0), image_bytes(99))
    assert [path.read_bytes() for path in pairs[4].image_paths(tmp_path / "out")] == [image_bytes(i) for i in (0, 1, 2)]
    rows[3]["video"] = "video/none.mp4"
    with refused("image.missing", count=2, first="video/none.mp4 has no folder of frames"):
        ingest("mm-rlhf-rewardbench", jsonl(path, rows), tmp_path / "out2")
    report = ingest("mm-rlhf-rewardbench", path, tmp_path / "out2", missing_images="blank", max_bad=0.2)
    assert report["notes"]["blank_image"] == 1


@pytest.mark.parametrize("name", ["vl-rewardbench", "mm-rlhf-rewardbench"])
def test_a_converted_benchmark_has_its_original_ids_and_can_be_ingested_again(tmp_path, name):
    write_images(tmp_path / "mcq", ["0.png", "1.png"])
    write_images(tmp_path / "video" / "a", ["1.png", "2.png"])
    write_images(tmp_path / "img", [f"{i}.png" for i in range(5)])
    rows = [bench_row(1), bench_row(1, prompt="Who?"), bench_row(2, id="mmmu_1"), bench_row(3, id="wild-4")]
    if name == "mm-rlhf-rewardbench":
        rows = [
            bench_row(0, id="x", image="mcq/0.png"), bench_row(1, id="x", image="mcq/0.png", prompt="Who?"),
            bench_row(2, id="v", image=None, video="video/a.mp4"),
        ]  # fmt: skip
    ingest(name, jsonl(tmp_path / "bench.jsonl", rows), tmp_path / "one")
    convert("bench", tmp_path / "one", tmp_path / "again.jsonl")
    again = [json.loads(line) for line in (tmp_path / "again.jsonl").read_text().splitlines()]
    assert [row["id"] for row in again] == [row["id"] for row in rows]
    ingest(name, tmp_path / "again.jsonl", tmp_path / "two")
    one, two = read_pairs(tmp_path / "one"), read_pairs(tmp_path / "two")
    assert [asdict(pair) | {"license": ""} for pair in one] == [asdict(pair) | {"license": ""} for pair in two]
    judged = load_pairs(tmp_path / "again.jsonl")
    assert [(p.category, p.group, len(p.images)) for p in judged] == [(p.category, p.group, len(p.images)) for p in one]


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("vl-rewardbench", {"image": "mcq/0.png"}, "of_mm_rlhf_rewardbench"),
        ("vl-rewardbench", {"video": "video/a.mp4"}, "of_mm_rlhf_rewardbench"),
        ("vl-rewardbench", {"image": None, "subset": "hep-go"}, "of_rewardbench"),
        ("mm-rlhf-rewardbench", {"image": "img/0.png"}, "no_category"),
    ],
)
def test_a_row_of_another_benchmark_is_bad(tmp_path, name, changes, reason):
    write_images(tmp_path / "img", ["0.png"])
    write_images(tmp_path / "mcq", ["0.png"])
    with refused("data.too-many-bad-rows", bad=1, read=1, reasons={reason: 1}):
        ingest(name, jsonl(tmp_path / "bench.jsonl", [bench_row(0, **changes)]), tmp_path / "out")
