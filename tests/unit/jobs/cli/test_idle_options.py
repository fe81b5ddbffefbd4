"""An option, or a table of a settings file, that would have no effect is refused by its name."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from data_tools.ingest.run import ingest
from data_tools.rows.preference import read_pairs
from data_tools.sources.demo_pairs import write_demo_pairs
from jobs.cli.main import main
from support.refusals import code_of


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("idle")
    write_demo_pairs(folder, train=12, held_out=2, seed=1)
    ingest("rlaif-v", folder / "train.parquet", folder / "pairs")
    return folder / "pairs"


def refused(*words: object) -> str:
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 2, done.output
    assert len(done.output.strip().splitlines()) == 1
    assert code_of(done.output) in ("option.no-effect", "settings.no-effect")
    return done.output


@pytest.mark.parametrize(
    ("table", "option"),
    [("[difficulty]\nagreement = [0.0, 0.9]", "--critiques"), ("[decontamination]\nimages = false", "--against")],
)
def test_a_table_of_the_settings_file_needs_the_option_it_is_about(pairs, tmp_path, table, option):
    (tmp_path / "filters.toml").write_text(table)
    said = refused("data", "filter", pairs, "--out", tmp_path / "out", "--settings", tmp_path / "filters.toml")
    assert f"has no effect without {option}" in said
    assert str(tmp_path / "filters.toml") in said
    assert not (tmp_path / "out").exists()


def test_a_table_that_has_its_option_is_taken(pairs, tmp_path):
    (tmp_path / "filters.toml").write_text("[decontamination]\nimages = true\n")
    words = ["data", "filter", pairs, "--out", tmp_path / "out", "--settings", tmp_path / "filters.toml"]
    done = CliRunner().invoke(main, [*map(str, words), "--against", str(pairs), "--shards", "1"])
    assert done.exit_code == 0, done.output
    assert read_pairs(tmp_path / "out") == []


def test_a_filter_that_the_file_turns_off_is_not_turned_on_by_one_of_its_thresholds(pairs, tmp_path):
    (tmp_path / "filters.toml").write_text("similarity = false\n")
    words = ("data", "filter", pairs, "--out", tmp_path / "out", "--settings", tmp_path / "filters.toml")
    assert "--image-distance has no effect" in refused(*words, "--image-distance", 3)


@pytest.mark.parametrize(
    ("words", "option"),
    [
        ("data filter PAIRS --out OUT --near-duplicates off --image-distance 3", "--image-distance"),
        ("data filter PAIRS --out OUT --profile local", "--profile"),
        ("data filter PAIRS --out OUT --shard 1/2 --shards 2", "--shards"),
        ("data filter PAIRS --out OUT --shard 1/2 --submit", "--shard"),
        ("data convert bench PAIRS --out OUT/a.jsonl --images path", "--images"),
        ("data convert bench PAIRS --out OUT/a.jsonl --split test", "--split"),
        ("data convert verl PAIRS --out OUT/a.parquet --images-root .", "--images-root"),
        ("eval score --bench vl-rewardbench --audit --published overall=71.9 --votes 3", "--votes"),
        ("eval run --pairs PAIRS --judge http://127.0.0.1:9 --model m --out OUT --device cpu", "--device"),
        ("eval run --pairs PAIRS --judge SCORES --out OUT --temperature 0.5", "--temperature"),
        ("eval run --pairs PAIRS --judge SCORES --out OUT --model m", "--model"),
        ("eval run --pairs PAIRS --judge SCORES --out OUT --walltime-min 9", "--walltime-min"),
        ("eval run --pairs PAIRS --judge SCORES --out OUT --images-root .", "--images-root"),
        ("eval run --pairs PAIRS --judge SCORES --out OUT --copies 2 --shard 1/2", "--copies"),
        ("eval best-of-n a.jsonl b.jsonl --max-tokens 9", "--max-tokens"),
        ("eval best-of-n a.jsonl b.jsonl --timeout 9", "--timeout"),
        ("proxy front --endpoints a.json --served-model m", "--served-model"),
        ("proxy agreement a.jsonl --a model --served-model m", "--served-model"),
        ("ablate --only x", "--only"),
        ("ablate --table --throttle 2", "--throttle"),
        ("ablate seeds --dry-run --watch", "--watch"),
    ],
)
def test_an_option_that_has_no_effect_is_named(pairs, tmp_path, words, option):
    (tmp_path / "scores.jsonl").write_text('{"id": "x", "score_1": 1, "score_2": 2}\n')
    places = {"PAIRS": str(pairs), "OUT": str(tmp_path / "out"), "SCORES": str(tmp_path / "scores.jsonl")}
    filled = [places.get(word, word).replace("OUT/", f"{tmp_path}/out/") for word in words.split()]
    assert f"{option} has no effect" in refused(*filled)
    assert not (tmp_path / "out").exists()
