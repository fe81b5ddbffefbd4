"""Pairs without images go through every command, alone and beside pairs with images."""

from __future__ import annotations

import json
import random

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from data_tools.rows.preference import read_pairs
from jobs.cli.data.split import sets_of
from jobs.cli.main import main
from proxygrm.evaluate.rows.pairs import load_pairs
from proxygrm.teacher.critiques import append, critique_row
from support.rows.release_files import RLAIF_V, jsonl, parquet, rlaif_v

ROWS = 60
GOOD = "<rubric>r (100%)<justify>j</justify></rubric><eval>Response {0} fits.</eval><answer>{0}</answer>"
WORDS = ["the", "of", "a", "red", "bus", "tree", "house", "answer", "people", "city", "water", "light", "walk"]


def text(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words))


def skywork(path, rows=ROWS):
    rng = random.Random(1)
    made = []
    for _ in range(rows):
        asked = {"role": "user", "content": text(rng, 12)}
        sides = ({"role": "assistant", "content": text(rng, 20)} for _ in range(2))
        made.append({name: [asked, said] for name, said in zip(("chosen", "rejected"), sides, strict=True)})
    return jsonl(path, [row | {"source": "magpie"} for row in made])


@pytest.mark.parametrize("with_images", [False, True])
def test_text_only_pairs_pass_every_command(tmp_path, with_images):
    def run(*words: object) -> str:
        done = CliRunner().invoke(main, ["data", *(str(word) for word in words)])
        assert done.exit_code == 0, done.output
        return done.output

    pairs, clean = tmp_path / "text", tmp_path / "clean"
    run("ingest", "skywork", skywork(tmp_path / "a.jsonl"), "--out", pairs, "--workers", 1)
    count = ROWS
    if with_images:
        rng = random.Random(2)
        rows = [rlaif_v(i, question=text(rng, 12), chosen=text(rng, 20), rejected=text(rng, 20)) for i in range(20)]
        run("ingest", "rlaif-v", parquet(tmp_path / "b.parquet", rows, RLAIF_V), "--out", tmp_path / "b")
        pairs, count = tmp_path / "all", ROWS + 20
        run("join", tmp_path / "text", tmp_path / "b", "--out", pairs)
    size = ("--settings", jsonl_settings(tmp_path))  # the drawn images are 8 x 8
    run("filter", pairs, "--out", clean, "--against", tmp_path / "text", *size, "--workers", 1)
    assert len(read_pairs(clean)) == count - ROWS  # every text-only pair is in the "benchmark"
    run("filter", pairs, "--out", tmp_path / "kept", *size, "--workers", 1)
    assert len(read_pairs(tmp_path / "kept")) == count
    assert "no problems" in run("check", pairs)
    assert json.loads(run("stats", pairs, "--json"))["images"]["a_row"]["0"] == ROWS
    run("show", pairs, "--out", tmp_path / "look.html")
    judged = [(pair.id, pair.label if i % 3 else 3 - pair.label) for i, pair in enumerate(read_pairs(pairs))]
    append(tmp_path / "c.jsonl", [critique_row(id_, GOOD.format(verdict), "m") for id_, verdict in judged])
    for to, name in (("swift-grm", "grm.jsonl"), ("verl", "train.parquet"), ("bench", "bench.jsonl")):
        critiques = ("--critiques", tmp_path / "c.jsonl") if to == "swift-grm" else ()
        run("convert", to, pairs, "--out", tmp_path / name, *critiques, "--workers", 1)
        assert "no problems" in run("check", tmp_path / name)
    assert pq.ParquetFile(tmp_path / "train.parquet").metadata.num_rows == count
    rows = dict.fromkeys(sets_of("proxy_grm"), 0) | {"proxy_sft": 10, "grm_sft": 10, "grm_rl": 6}
    sizes = ",".join(f"{name}={count}" for name, count in rows.items())
    run("split", pairs, tmp_path / "c.jsonl", "--out", tmp_path / "sets", "--sizes", sizes)
    assert json.loads((tmp_path / "sets" / "report.json").read_text())["sizes"] == {
        name: count for name, count in rows.items() if count
    }
    assert len(load_pairs(pairs)) == count


def jsonl_settings(folder):
    file = folder / "small.toml"
    file.write_text("[quality]\nimage_side = [1, 9999]\n")
    return file
