"""What is given as a benchmark: that benchmark as released or as pairs, and nothing else."""

from __future__ import annotations

import json
import shutil

import pyarrow.parquet as pq
import pytest

from data_tools.ingest.benchmark import blank_name, check_benchmark, ingest_benchmark, pairs_of_benchmark
from data_tools.ingest.run import ingest
from data_tools.sources.demo_benchmarks import FRAMES, WRITERS, write_demo_benchmarks
from proxygrm.evaluate.benchmarks import RELEASED
from proxygrm.evaluate.rows.pairs import load_pairs
from support.refusals import refused

NAMES = {name: name.replace("_", "-") for name in WRITERS}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    write_demo_benchmarks(folder, 14, seed=0)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_drawn_benchmark_is_read_as_the_released_one(drawn, tmp_path, name):
    bench = NAMES[name]
    check_benchmark(bench, "refuse", drawn / name)
    pairs = pairs_of_benchmark(bench, drawn / name, tmp_path / "pairs", "refuse")
    check_benchmark(bench, "refuse", pairs)
    assert pairs_of_benchmark(bench, pairs, tmp_path / "unused", "refuse") == pairs
    read = load_pairs(pairs)
    assert len(read) == 14
    assert {pair.source for pair in read} == {name}
    assert {pair.label for pair in read} == {1, 2}
    videos = [pair for pair in read if pair.category == "video"]
    assert {len(pair.images) for pair in read} == ({1, FRAMES} if videos else {1})
    assert bool(videos) == (name == "mm_rlhf_rewardbench")
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize("bench", [bench.name for bench in RELEASED])
def test_another_benchmark_is_named(drawn, tmp_path, bench):
    for name, other in NAMES.items():
        if other != bench:
            with refused("bench.other-benchmark", bench=bench, other=other):
                check_benchmark(bench, "refuse", drawn / name)


def test_pairs_of_something_else_are_refused(drawn, tmp_path):
    ingest("mm-rlhf-rewardbench", drawn / "mm_rlhf_rewardbench", tmp_path / "pairs")
    with refused("bench.not-this-one", bench="vl-rewardbench", sources=["mm_rlhf_rewardbench"]):
        check_benchmark("vl-rewardbench", "refuse", tmp_path / "pairs")


def test_a_benchmark_that_is_not_there_or_has_no_such_file_is_refused(tmp_path):
    with refused("file.missing"):
        check_benchmark("vl-rewardbench", "refuse", tmp_path / "gone")
    (tmp_path / "README.md").write_text("x")
    with refused("data.no-files"):
        check_benchmark("vl-rewardbench", "refuse", tmp_path)


def test_missing_images_are_refused_unless_they_may_be_missing(drawn, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(drawn / "multimodal_rewardbench", data)
    (data / "images" / "demo" / "3.png").unlink()
    with refused("image.missing", count=1):
        check_benchmark("multimodal-rewardbench", "refuse", data)
    for missing, kept in (("drop", 13), ("blank", 14)):
        check_benchmark("multimodal-rewardbench", missing, data)
        pairs = load_pairs(pairs_of_benchmark("multimodal-rewardbench", data, tmp_path / missing / "pairs", missing))
        assert len(pairs) == kept
        blank = [pair for pair in pairs if pair.images[0].name == blank_name()]
        assert len(blank) == (missing == "blank")


def test_a_pairs_folder_that_lost_images_or_rows_is_refused_before_it_is_judged(drawn, tmp_path):
    pairs = pairs_of_benchmark("vl-rewardbench", drawn / "vl_rewardbench", tmp_path / "pairs", "refuse")
    next((pairs / "images").iterdir()).unlink()
    with refused("image.missing", path=pairs, count=1):
        check_benchmark("vl-rewardbench", "refuse", pairs)
    check_benchmark("vl-rewardbench", "blank", pairs)
    shutil.rmtree(pairs / "images")
    with refused("image.missing", path=pairs):
        check_benchmark("vl-rewardbench", "refuse", pairs)
    table = pq.read_table(pairs / "pairs.parquet")
    pq.write_table(table.slice(0, 0), pairs / "pairs.parquet")
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "rows.jsonl").write_text("\n")
    for path in (pairs, tmp_path / "release"):
        with refused("bench.no-rows", path=path):
            check_benchmark("vl-rewardbench", "refuse", path)


def test_a_broken_row_is_refused_with_its_number_before_and_at_ingestion(drawn, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(drawn / "mm_rlhf_rewardbench", data)
    file = data / "mm_reward_bench.jsonl"
    lines = file.read_text().splitlines()
    lines[4] = json.dumps(json.loads(lines[4]) | {"chosen": None})
    file.write_text("\n".join(lines) + "\n")
    with refused("bench.not-this-one", row=5, reason="empty_response"):
        check_benchmark("mm-rlhf-rewardbench", "refuse", data)
    with refused("data.too-many-bad-rows"):
        ingest_benchmark("mm-rlhf-rewardbench", data, tmp_path / "out" / "pairs", "refuse")
    with refused("data.bad-rows", bad={"empty_response": 1}):
        ingest_benchmark("mm-rlhf-rewardbench", data, tmp_path / "out" / "pairs", "drop")


def test_what_is_drawn_shares_no_facts_with_the_demos_training_pairs_and_is_the_same_each_time(drawn, tmp_path):
    from proxygrm.demo.scenes import separate

    write_demo_benchmarks(tmp_path, 14, seed=0)
    files = sorted(path.relative_to(drawn) for path in drawn.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert all((drawn / file).read_bytes() == (tmp_path / file).read_bytes() for file in files)
    rows = json.loads((drawn / "multimodal_rewardbench" / "all_data.json").read_text())
    trained = {(one.question, one.right, one.wrong) for one in separate("colour", 0)[0]}
    for row in rows:
        better, worse = (row["Output1"], row["Output2"])[:: 1 if row["Better"] == "Output1" else -1]
        assert (row["Text"], better, worse) not in trained
