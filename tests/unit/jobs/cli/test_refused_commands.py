"""A command that is refused leaves nothing that looks like a result, or stands in the way of one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from data_tools.ingest.run import ingest
from data_tools.rows.preference import read_pairs
from jobs import recipes
from jobs.cli.main import main
from jobs.engine import request as requests
from jobs.engine.request import Request
from jobs.engine.run_folder.ledger import Ledger
from jobs.recipes.proxy_grm import Sets
from proxygrm.teacher.critiques import append, critique_row
from support.refusals import code_of

GOOD = "<rubric>{} (100%)<justify>j</justify></rubric><eval>Response 1 fits.</eval><answer>{}</answer>"


def rows(folder: Path, good: int, bad: int = 0, name: str = "rows") -> Path:
    """Preference JSONL with an image of its own for each row; bad rows have one and no answer."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for n in range(good + bad):
        Image.new("RGB", (40, 40), (n, 90, 50 + sum(map(ord, name)) % 200)).save(folder / f"{name}-{n}.png")
        lines.append({
            "id": f"{n}", "question": f"what number is {n} of {name}?", "images": [f"{name}-{n}.png"],
            "chosen": f"the number {n} indeed" if n < good else "", "rejected": f"perhaps it is {n + 1}",
        })  # fmt: skip
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def refused(*words: object) -> str:
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 2, done.output
    return done.output


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_refused_ingest_leaves_the_account_of_the_bad_rows_alone(tmp_path):
    out = tmp_path / "out"
    said = refused("data", "ingest", "preference-jsonl", rows(tmp_path / "in", 3, 2), "--out", out, "--shards", 2)
    assert "2 of 5 rows are bad" in said
    assert [path.name for path in out.iterdir()] == ["ingest_dropped.refused.jsonl"]


def test_no_page_and_no_export_replaces_what_it_shows(tmp_path):
    source, pairs, answers = rows(tmp_path / "in", 2), tmp_path / "pairs", tmp_path / "answers.jsonl"
    ingest("preference-jsonl", source, pairs)
    answers.write_text('{"id": "a"}\n')
    files = [source, pairs / "pairs.parquet", answers]
    before = [path.read_bytes() for path in files]
    bench = ("--bench", "vl-rewardbench")
    for words in (
        ("data", "show", source, "--out", source),
        ("data", "stats", source, "--out", source),
        ("data", "show", pairs, "--out", pairs / "pairs.parquet"),
        ("eval", "report", *bench, f"a={answers}", "--out", answers),
        ("eval", "export", *bench, "--answers", answers, "--layout", "lmms-eval", "--out", answers),
    ):
        assert code_of(refused(*words)) == "option.out-is-input"
    assert [path.read_bytes() for path in files] == before
    for _ in range(2):  # a page within the folder is written again
        done = CliRunner().invoke(main, ["data", "show", str(pairs), "--out", str(pairs / "page.html")])
        assert done.exit_code == 0, done.output


def test_an_ingest_of_no_usable_row_leaves_no_folder(tmp_path):
    out = tmp_path / "out"
    source = rows(tmp_path / "in", 0, 2)
    said = refused("data", "ingest", "preference-jsonl", source, "--out", out, "--max-bad", 1, "--shards", 1)
    assert code_of(said) == "data.no-usable-rows"
    assert not out.exists()


def test_a_refused_ingest_keeps_the_pairs_that_were_there_and_their_images(tmp_path):
    out = tmp_path / "out"
    ingest("preference-jsonl", rows(tmp_path / "a", 3, name="old"), out)
    before = left(out)
    refused("data", "ingest", "preference-jsonl", rows(tmp_path / "b", 2, 2, name="new"), "--out", out, "--shards", 1)
    assert left(out) == sorted([*before, "ingest_dropped.refused.jsonl"])
    ingest("preference-jsonl", rows(tmp_path / "c", 3, name="newer"), out)
    assert "ingest_dropped.refused.jsonl" not in left(out)


def test_images_of_rows_that_left_are_not_in_the_pairs_folder(tmp_path):
    ingest("preference-jsonl", rows(tmp_path / "in", 3, 2), tmp_path / "out", max_bad=0.5)
    assert len(list((tmp_path / "out" / "images").iterdir())) == 3


def test_a_refused_filter_leaves_no_pairs_and_no_images(tmp_path):
    ingest("preference-jsonl", rows(tmp_path / "in", 4), tmp_path / "pairs")
    for image in list((tmp_path / "pairs" / "images").iterdir())[:2]:
        image.write_bytes(b"no image")
    out = tmp_path / "out"
    assert "2 of 4 rows are bad" in refused("data", "filter", tmp_path / "pairs", "--out", out, "--shards", 2)
    assert left(out) == ["filter_dropped.refused.jsonl"]


def test_a_filter_or_a_join_that_misses_a_image_leaves_no_folder(tmp_path):
    for name in ("a", "b"):
        ingest("preference-jsonl", rows(tmp_path / "in", 3, name=name), tmp_path / name)
    sorted((tmp_path / "b" / "images").iterdir())[-1].unlink()
    filtered, joined = tmp_path / "filtered", tmp_path / "joined"
    options = ("--no-quality", "--near-duplicates", "0.99", "--image-distance", "0", "--shards", "1")
    assert "is not in" in refused("data", "filter", tmp_path / "b", "--out", filtered, *options)
    assert "is not in" in refused("data", "join", tmp_path / "a", tmp_path / "b", "--out", joined)
    assert not filtered.exists()
    assert not joined.exists()


def test_a_refused_conversion_leaves_no_file_for_the_trainer(tmp_path):
    source = rows(tmp_path / "in", 3, 2)
    out = tmp_path / "out" / "train.parquet"
    assert "rows are bad" in refused("data", "convert", "verl", source, "--out", out, "--shards", 2)
    assert left(tmp_path / "out") == ["train.parquet.dropped.refused.jsonl"]


def test_a_split_that_ends_in_the_middle_leaves_no_sets_and_an_earlier_split_as_it_was(tmp_path):
    ingest("preference-jsonl", rows(tmp_path / "in", 40), tmp_path / "pairs")
    critiques = taught(tmp_path / "pairs", tmp_path / "critiques.jsonl")
    sizes = dict.fromkeys(Sets().sets, 0) | {"proxy_rl": 8, "grm_sft": 8}
    sizes_given = ",".join(f"{name}={rows}" for name, rows in sizes.items())
    words = ("data", "split", tmp_path / "pairs", critiques, "--sizes", sizes_given)
    out = tmp_path / "sets"
    good = CliRunner().invoke(main, [*map(str, words), "--out", str(out)])
    assert good.exit_code == 0, good.output
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for image in (tmp_path / "pairs" / "images").iterdir():
        image.unlink()
    refused(*words, "--out", out, "--seed", 1)
    refused(*words, "--out", tmp_path / "fresh")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert not (tmp_path / "fresh").exists()


def taught(pairs: Path, file: Path) -> Path:
    append(file, [critique_row(pair.id, GOOD.format("what is asked", pair.label), "m") for pair in read_pairs(pairs)])
    return file


def test_too_few_pairs_are_refused_with_the_options_that_help(tmp_path):
    ingest("preference-jsonl", rows(tmp_path / "in", 12), tmp_path / "pairs")
    critiques = taught(tmp_path / "pairs", tmp_path / "critiques.jsonl")
    said = refused("data", "split", tmp_path / "pairs", critiques, "--out", tmp_path / "sets")
    for option in ("--short take", "--sizes"):
        assert option in said
    assert not (tmp_path / "sets").exists()


def test_an_eval_run_over_data_that_is_refused_leaves_the_account_of_the_bad_rows_alone(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    data = rows(tmp_path / "in", 3)
    refused("eval", "run", "--bench", "vl-rewardbench", "--data", data, "--judge", model, "--out", tmp_path / "out")
    assert left(tmp_path / "out") == ["pairs/ingest_dropped.refused.jsonl"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_report_that_cannot_be_written_leaves_no_part_of_it(tmp_path):
    requests.save(recipes.resolve(Request(profile="local")), Ledger(tmp_path / "run"))
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "cannot write" in refused("report", "--run", tmp_path / "run", "--out", tmp_path / "locked" / "page.html")
    assert list((tmp_path / "locked").iterdir()) == []


def test_a_refused_conversion_or_split_leaves_no_settled_images(tmp_path):
    source = rows(tmp_path / "in", 3, 2)
    for file in (tmp_path / "in").glob("*.png"):
        Image.new("LA", (40, 40), (int(file.stem[-1]), 0)).save(file)
    out = tmp_path / "out"
    refused("data", "convert", "verl", source, "--out", out / "x.parquet", "--shards", 2)
    assert left(out) == ["x.parquet.dropped.refused.jsonl"]
    assert not (out / "x.parquet.images").exists()
    ingest("preference-jsonl", source, tmp_path / "pairs", max_bad=0.5)
    pairs = read_pairs(tmp_path / "pairs")
    for pair in pairs:  # put there by hand, not settled
        Image.new("LA", (40, 40), (9, 0)).save(tmp_path / "pairs" / "images" / pair.images[0])
    append(tmp_path / "c.jsonl", [critique_row(pair.id, GOOD.format("a", pair.label), "m") for pair in pairs])
    refused("data", "split", tmp_path / "pairs", tmp_path / "c.jsonl", "--out", tmp_path / "sets")
    assert not (tmp_path / "sets").exists()


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999"])
@pytest.mark.parametrize(
    "command",
    [
        "eval score --bench visualprocessbench --answers rows.jsonl --threshold",
        "eval run --bench visualprocessbench --data test.jsonl --out out --judge model --threshold",
        "eval run --bench visualprocessbench --data test.jsonl --out out --judge model --temperature",
        "process sample --input rows.jsonl --output out.jsonl --policy model --top-p",
        "process score --input rows.jsonl --output out.jsonl --judge model --timeout",
        "process aggregate --input rows.jsonl --output out.jsonl --max-bad",
    ],
)
def test_a_number_that_is_not_finite_is_refused_by_its_option(command, number):
    option = command.split()[-1]
    assert f"Invalid value for '{option}': " in refused(*command.split(), number)
