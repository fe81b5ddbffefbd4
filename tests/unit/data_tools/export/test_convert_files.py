"""Conversion to ms-swift and benchmark JSONL, the command line, and reading the results again."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from data_tools.export.convert import convert, convert_step
from data_tools.ingest.run import ingest
from data_tools.rows.preference import ImageStore, read_pairs, write_pairs
from data_tools.steps.shards import carry_out
from jobs.cli.data import data
from proxygrm.core.errors import UserError
from proxygrm.critique.contract import parse, rubric_for_proxy
from proxygrm.critique.prompts import grm_prompt, inert, proxy_prompt
from proxygrm.critique.targets import proxy_answer
from proxygrm.evaluate.rows.pairs import load_pairs
from proxygrm.scalar.conversation import shown
from proxygrm.teacher.critiques import append, critique_row
from support.refusals import refused
from support.rows.convert_rows import GOOD, nasty_pair
from support.rows.release_files import image_bytes, jsonl


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """60 nasty pairs with 0 to 2 images; the teacher is right, wrong, silent, broken or leaking in turn."""
    path = tmp_path_factory.mktemp("files")
    store = ImageStore(path / "pairs")
    names = [store.add(image_bytes(shade)) for shade in range(3)]
    pairs = [nasty_pair(i, tuple(names[: i % 3])) for i in range(60)]
    write_pairs(path / "pairs", pairs)
    rows = []
    for i, pair in enumerate(pairs):
        verdict, words = pair.label, f"{i} <image> counts, مرحبا"
        if i % 5 == 1:
            verdict = 3 - verdict
        if i % 5 == 4:
            words = f"Response {pair.label} is better"
        if i % 5 != 2:
            rows.append(critique_row(pair.id, GOOD.format(words, verdict) if i % 5 != 3 else "nothing", "m"))
    append(path / "b.jsonl", rows[::2])
    append(path / "a.jsonl", rows[1::2])
    return path


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("to", ["swift-grm", "swift-proxy"])
def test_ms_swift_rows_are_those_of_pairs_judged_right_and_the_others_are_logged(folder, tmp_path, to, shards):
    files = [folder / "b.jsonl", folder / "a.jsonl"]
    report = carry_out(convert_step(to, folder / "pairs", tmp_path / "x.jsonl", critiques=files), shards, workers=1)
    assert report["dropped"] == {
        "no_critique": 12, "rubric_names_winner": 12, "teacher_wrong": 12, "text_outside_parts": 12,
    }  # fmt: skip
    assert (report["read"], report["kept"]) == (60, 12)
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
    critiques = {row["id"]: row["critique"] for file in files for row in map(json.loads, file.open())}
    wanted = [pair for i, pair in enumerate(read_pairs(folder / "pairs")) if i % 5 == 0]
    for pair, row in zip(wanted, rows, strict=True):
        three, critique, n = (pair.question, pair.response_1, pair.response_2), critiques[pair.id], len(pair.images)
        prompt, answer = grm_prompt(*three, n), inert(critique, contract=False)
        if to == "swift-proxy":
            prompt, answer = proxy_prompt(*three, rubric_for_proxy(critique), n), proxy_answer(parse(critique))
            answer = inert(answer, contract=False)
        assert row == {
            "id": pair.id,
            "messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}],
            "images": [str(path) for path in pair.image_paths(folder / "pairs")],
        }
        assert prompt.count("<image>") == n
    dropped = [json.loads(line) for line in (tmp_path / "x.jsonl.dropped.jsonl").read_text().splitlines()]
    assert len(dropped) == 48
    assert (dropped[0]["id"], dropped[0]["row"], dropped[0]["reason"]) == ("s:1", 2, "teacher_wrong")


@pytest.mark.parametrize("shards", [1, 4])
def test_preference_rows_have_the_better_and_the_worse_response_as_the_scorer_shows_them(folder, tmp_path, shards):
    report = carry_out(convert_step("swift-rm", folder / "pairs", tmp_path / "x.jsonl"), shards, workers=1)
    assert (report["read"], report["kept"]) == (60, 60)
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
    for pair, row in zip(read_pairs(folder / "pairs"), rows, strict=True):
        responses = [shown(pair.response_1), shown(pair.response_2)][:: 1 if pair.label == 1 else -1]
        question = {"role": "user", "content": "<image>" * len(pair.images) + shown(pair.question)}
        assert row == {
            "id": pair.id,
            "messages": [question, {"role": "assistant", "content": responses[0]}],
            "rejected_response": responses[1],
            "images": [str(path) for path in pair.image_paths(folder / "pairs")],
        }


@pytest.mark.parametrize("shards", [1, 3])
def test_benchmark_rows_are_judged_and_ingested_as_the_pairs_they_came_from(folder, shards):
    out = folder / f"bench{shards}.jsonl"
    carry_out(convert_step("bench", folder / "pairs", out), shards, workers=1)
    pairs = read_pairs(folder / "pairs")
    for pair, loaded in zip(pairs, load_pairs(out), strict=True):
        for name in ("id", "question", "response_1", "response_2", "label"):
            assert getattr(loaded, name) == getattr(pair, name)
        assert [path.resolve() for path in loaded.images] == pair.image_paths(folder / "pairs")
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").split("\n")[:-1]]
    assert [("image" in row, "images" in row) for row in rows[:3]] == [(False, False), (True, False), (False, True)]
    assert rows[1]["image"].startswith("pairs/images/")
    ingest("preference-jsonl", out, folder / f"again{shards}")
    for pair, again in zip(pairs, read_pairs(folder / f"again{shards}"), strict=True):
        assert again.id.endswith(pair.id)
        assert (again.question, again.images, again.license) == (pair.question, pair.images, "mit")
        assert {again.response_1, again.response_2} == {pair.response_1, pair.response_2}


def test_pairs_and_jsonl_of_the_same_rows_become_the_same_verl_rows(folder, tmp_path):
    (folder / "a.png").write_bytes(image_bytes(7))
    rows = [
        {"id": str(i), "question": f" q{i} ", "chosen": "a <image>", "rejected": "b", "image": "a.png"}
        for i in range(50)
    ]
    jsonl(folder / "mine.jsonl", rows)
    ingest("preference-jsonl", folder / "mine.jsonl", tmp_path / "pairs")
    convert("verl", folder / "mine.jsonl", tmp_path / "1.parquet")
    convert("verl", tmp_path / "pairs", tmp_path / "2.parquet")
    one, two = (pq.read_table(tmp_path / name).to_pylist() for name in ("1.parquet", "2.parquet"))
    for row in one + two:
        del row["extra_info"]["image"], row["extra_info"]["images"]
    assert one == two


def test_only_ms_swift_uses_critiques_which_must_be_files_with_rows(folder, tmp_path):
    (tmp_path / "none.jsonl").write_text("")
    (tmp_path / "torn.jsonl").write_bytes((folder / "a.jsonl").read_bytes()[:-20])
    for to, critiques, code, values in (
        ("swift-grm", [], "option.missing", {"option": "--critiques"}),
        ("bench", [folder / "a.jsonl"], "option.no-effect", {"option": "--critiques", "to": "bench"}),
        ("swift-grm", [tmp_path], "file.not-a-file", {"path": tmp_path}),
        ("swift-grm", [tmp_path / "none.jsonl"], "critique.none", {"files": [str(tmp_path / "none.jsonl")]}),
    ):
        with refused(code, **values):
            convert(to, folder / "pairs", tmp_path / "o.jsonl", critiques=critiques)
    with pytest.raises(UserError, match="line 24"):
        convert("swift-proxy", folder / "pairs", tmp_path / "o.jsonl", critiques=[tmp_path / "torn.jsonl"])
    with refused("data.not-a-pairs-folder", path=tmp_path / "none.jsonl", to="bench"):
        convert("bench", tmp_path / "none.jsonl", tmp_path / "o.jsonl")
    assert not (tmp_path / "o.jsonl").exists()


def run(*words):
    done = CliRunner().invoke(data, [str(word) for word in words], terminal_width=200)
    if isinstance(done.exception, UserError):
        raise done.exception
    assert done.exception is None, done.output
    return done.output


def test_the_commands_write_the_files_and_print_the_counts(folder, tmp_path):
    output = run("convert", "verl", folder / "pairs", "--out", tmp_path / "t.parquet", "--shards", 2, "--workers", 1)
    assert "60 of 60 rows" in output
    assert "already done" in run("convert", "verl", folder / "pairs", "--out", tmp_path / "t.parquet")
    critiques = ["--critiques", folder / "a.jsonl", "--critiques", folder / "b.jsonl"]
    output = run("convert", "swift-grm", folder / "pairs", "--out", tmp_path / "s.jsonl", *critiques, "--workers", 1)
    (tmp_path / "critiques").mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / "critiques" / name).symlink_to(folder / name)
    run("convert", "swift-grm", folder / "pairs", "--out", tmp_path / "f.jsonl", "--critiques", tmp_path / "critiques")
    assert (tmp_path / "f.jsonl").read_bytes() == (tmp_path / "s.jsonl").read_bytes()
    assert "12 of 60 rows" in output
    sizes = "proxy_sft=2,proxy_sft_val=0,proxy_rl=2,proxy_rl_val=0,grm_sft=0,grm_sft_val=0,grm_rl=0,grm_rl_val=0"
    output = run("split", folder / "pairs", folder / "a.jsonl", folder / "b.jsonl", "--out", tmp_path / "sets",
                 "--sizes", sizes, "--short", "take")  # fmt: skip
    assert "proxy_rl" in output
    report = json.loads((tmp_path / "sets" / "report.json").read_text())
    assert list(report["sets"]) == ["proxy_sft", "proxy_rl"]
    with refused("option.bad-value", option="--sizes", value="sft=5"):
        run("split", folder / "pairs", folder / "a.jsonl", "--out", tmp_path / "sets", "--sizes", "sft=5")
