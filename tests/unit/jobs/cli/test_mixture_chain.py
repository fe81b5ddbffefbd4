"""Four releases, two with images and two without, become one training file by commands only."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
from click.testing import CliRunner

from jobs.cli.main import main
from support.rows.filter_pairs import prose
from support.rows.release_files import RLAIF_V, jsonl, parquet, rlaif_v, write_images

SPEC = """
against = ["bench"]
[sources.rlaif-v]
pairs = "rlaif-v"
[sources.mmpr]
pairs = "mmpr"
cap = 10
[sources.skywork]
pairs = "skywork"
[sources.shp]
pairs = "shp"
per_question = 2
[similarity]
image_distance = 0
"""


def texts(name: str, i: int) -> tuple[str, str, str]:
    question, good, bad = (prose(random.Random(f"{name} {part} {i}").randrange(10**9)) for part in "qab")
    return question, good, bad


def releases(folder: Path) -> dict[str, Path]:
    """Rows 0 to 3 of Skywork are rows of RLAIF-V without the image; SHP has five pairs a post."""
    seen, text = [texts("seen", i) for i in range(20)], [texts("text", i) for i in range(20)]
    rows = [rlaif_v(i, question=q, chosen=a, rejected=b) for i, (q, a, b) in enumerate(seen)]
    parquet(folder / "rlaif-v" / "a.parquet", rows, RLAIF_V)
    write_images(folder / "mmpr", [f"{i}.png" for i in range(20)])
    names = ("question", "chosen", "rejected")
    jsonl(folder / "mmpr" / "a.jsonl", [
        dict(zip(names, texts("mmpr", i), strict=True)) | {"image": f"{i}.png"} for i in range(20)
    ])  # fmt: skip
    chats = []
    for question, good, bad in text + text[:3]:
        asked = {"role": "user", "content": question}
        sides = {side: [asked, {"role": "assistant", "content": said}]
                 for side, said in (("chosen", good), ("rejected", bad))}  # fmt: skip
        chats.append(sides | {"source": "magpie"})
    jsonl(folder / "skywork" / "a.jsonl", chats)
    jsonl(folder / "shp" / "askx" / "train.json", [
        {"post_id": f"p{i // 5}", "domain": "askx_train", "history": texts("shp", i // 5)[0], "labels": i % 2,
         "human_ref_A": texts("shp", i)[1], "human_ref_B": texts("shp", i)[2], "c_root_id_A": f"a{i}",
         "c_root_id_B": f"b{i}"}
        for i in range(20)
    ])  # fmt: skip
    bench = [{"id": str(i), "question": q, "chosen": a, "rejected": b} for i, (q, a, b) in enumerate(text[:4])]
    jsonl(folder / "bench" / "bench.jsonl", bench)
    sources = {"rlaif-v": "rlaif-v", "mmpr": "mmpr", "skywork": "skywork", "shp": "shp", "bench": "preference-jsonl"}
    return {f"{name} {source}": folder / name for name, source in sources.items()}


def test_four_sources_become_one_training_file(tmp_path):
    def run(*words: object) -> str:
        done = CliRunner().invoke(main, ["data", *(str(word) for word in words)])
        assert done.exit_code == 0, done.output
        return done.output

    for name, path in releases(tmp_path / "in").items():
        name, source = name.split()
        run("ingest", source, path, "--out", tmp_path / "data" / name, "--workers", 1)
    (tmp_path / "mix.toml").write_text(SPEC)
    run("mix", tmp_path / "mix.toml", "--root", tmp_path / "data", "--out", tmp_path / "mixed", "--workers", 1)
    report = json.loads((tmp_path / "mixed" / "mix.json").read_text())
    assert {name: (each["kept"], each["lost"]) for name, each in report["sources"].items()} == {
        "rlaif-v": (20, {}), "mmpr": (10, {"over_cap": 10}), "skywork": (16, {"benchmark_pair": 4}),
        "shp": (8, {"over_question": 12}),
    }  # fmt: skip
    assert "no problems" in run("check", tmp_path / "mixed")
    run("convert", "verl", tmp_path / "mixed", "--out", tmp_path / "train.parquet", "--workers", 1)
    rows = pq.read_table(tmp_path / "train.parquet").to_pylist()
    assert len(rows) == report["kept"] == 54
    assert sum(not row["images"] for row in rows) == 24
    assert {row["prompt"][0]["content"].count("<image>") == len(row["images"]) for row in rows} == {True}
