"""Training rows of scalar reward models, and the pairs that are held off from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_tools.ingest.run import ingest
from data_tools.rows.preference import PreferencePair, read_pairs
from data_tools.sources.demo_pairs import write_demo_pairs
from data_tools.split.preferences import Sides, write_preferences
from support.refusals import refused
from support.rows.filter_pairs import folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """99 pairs with an image of their own, 20 about two questions without one, and one whose image is broken."""
    made = tmp_path_factory.mktemp("preferences")
    write_demo_pairs(made, train=100, held_out=2, seed=1)
    ingest("rlaif-v", made / "train.parquet", made / "drawn")
    drawn = read_pairs(made / "drawn")
    texts = [
        PreferencePair(f"né{number}", "texts", f"Question {number % 2}?", f"yes {number}", "no", 1, (), "")
        for number in range(20)
    ]
    images = {path.name: path.read_bytes() for path in (made / "drawn" / "images").iterdir()}
    target = folder(made / "pairs", [*texts, *drawn], images)
    (target / "images" / drawn[0].images[0]).write_bytes(b"no image")
    return target


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_no_image_and_no_question_is_on_both_sides(pairs: Path, tmp_path: Path) -> None:
    sides = write_preferences(pairs, tmp_path, 30)
    assert sides == Sides(train=89, validation=30)
    train, validation = rows(tmp_path / "train.jsonl"), rows(tmp_path / "validation.jsonl")
    assert (len(train), len(validation)) == (89, 30)

    def about(row: dict) -> str:
        return row["images"][0] if row["images"] else row["messages"][0]["content"]

    assert {about(row) for row in train}.isdisjoint(about(row) for row in validation)
    assert [pair.id for pair in read_pairs(tmp_path / "validation")] == [row["id"] for row in validation]
    by_id = {pair.id: pair for pair in read_pairs(pairs)}
    for row in train:
        pair = by_id[row["id"]]
        better, worse = (pair.response_1, pair.response_2)[:: 1 if pair.label == 1 else -1]
        assert (row["messages"][1]["content"], row["rejected_response"]) == (better, worse)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["pairs"] == 120
    assert sum(report["dropped"].values()) == 1
    assert sum(report["train"].values()) == 89


def test_the_shards_do_not_matter_and_the_seed_does(pairs: Path, tmp_path: Path) -> None:
    for name, seed, shards in (("a", 0, 1), ("b", 0, 3), ("c", 1, 1)):
        write_preferences(pairs, tmp_path / name, 30, seed, shards, workers=1)
    ids = {name: {row["id"] for row in rows(tmp_path / name / "validation.jsonl")} for name in "abc"}
    assert ids["a"] == ids["b"] != ids["c"]


def test_without_validation_all_rows_train(pairs: Path, tmp_path: Path) -> None:
    assert write_preferences(pairs, tmp_path, 0) == Sides(119, 0)
    assert not list(tmp_path.glob("validation*"))


@pytest.mark.parametrize("held_off", [119, 1000])
def test_a_side_without_pairs_is_refused_and_no_side_is_written(pairs: Path, tmp_path: Path, held_off: int) -> None:
    with refused("data.too-few-pairs", pairs=119, held_off=held_off):
        write_preferences(pairs, tmp_path, held_off)
    assert not (tmp_path / "train.jsonl").exists()
