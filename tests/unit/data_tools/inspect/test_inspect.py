from __future__ import annotations

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_tools.export.convert import convert
from data_tools.ingest.run import ingest
from data_tools.inspect.check import check
from data_tools.inspect.images import tokens
from data_tools.inspect.show import show
from data_tools.inspect.stats import stats
from data_tools.rows.preference import ImageStore, write_pairs
from jobs.cli.data import data
from proxygrm.core.errors import UserError
from proxygrm.teacher.critiques import append, critique_row
from support.refusals import refused
from support.rows.convert_rows import GOOD, nasty_pair
from support.rows.release_files import IMAGE, RLAIF_V, TEXT, image_bytes, jsonl, parquet, rlaif_v, write_images


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One of each kind of file that this project writes, from 40 nasty pairs."""
    path = tmp_path_factory.mktemp("look")
    store = ImageStore(path / "pairs")
    names = [store.add(image_bytes(shade)) for shade in range(3)]
    pairs = [nasty_pair(i * 3, tuple(names[: i % 3])) for i in range(40)]
    write_pairs(path / "pairs", pairs)
    append(path / "c.jsonl", [critique_row(p.id, GOOD.format("a <image>", p.label), "m") for p in pairs])
    convert("verl", path / "pairs", path / "bytes.parquet")
    convert("verl", path / "pairs", path / "path.parquet", images="path")
    convert("swift-grm", path / "pairs", path / "grm.jsonl", critiques=[path / "c.jsonl"])
    convert("swift-proxy", path / "pairs", path / "proxy.jsonl", critiques=[path / "c.jsonl"])
    convert("bench", path / "pairs", path / "bench.jsonl")
    return path


OURS = {
    "pairs": "pairs folder", "bytes.parquet": "verl parquet", "path.parquet": "verl parquet",
    "grm.jsonl": "ms-swift JSONL", "proxy.jsonl": "ms-swift JSONL", "c.jsonl": "critiques JSONL",
    "bench.jsonl": "benchmark JSONL",
}  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), OURS.items())
def test_every_kind_of_our_files_is_recognised_checked_counted_and_shown(folder, tmp_path, name, kind):
    result = check(folder / name, decode=True)
    assert (result.kind, result.rows, result.problems) == (kind, 40, {})
    counted = stats(folder / name)
    assert counted["rows"] == 40
    assert counted["quantiles"]["tokens per row (estimate)"]["1"] > 0
    assert show(folder / name, tmp_path / "page.html") == 12
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<section>") == 12
    assert "<image>" not in page  # texts are escaped
    assert "&lt;image&gt;" in page
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_releases_are_recognised_by_their_columns(tmp_path):
    ranking = pa.schema([("id", TEXT), ("query", TEXT), ("response", pa.list_(TEXT)), ("image", IMAGE),
                         ("human_ranking", pa.list_(pa.int64()))])  # fmt: skip
    cell = {"bytes": image_bytes(1), "path": None}
    row = {"id": "mmmu-1", "query": "q", "response": ["a", "b"], "image": cell, "human_ranking": [1, 0]}
    files = {
        "RLAIF-V parquet": parquet(tmp_path / "r.parquet", [rlaif_v(i) for i in range(3)], RLAIF_V),
        "VL-RewardBench": parquet(tmp_path / "v.parquet", [row], ranking),
    }
    for kind, path in files.items():
        result = check(path)
        assert (result.kind, result.ok, result.images) == (kind, True, result.rows)


TURNS = pa.list_(pa.struct([("role", TEXT), ("content", TEXT)]))
CHAT = pa.schema([("prompt", TEXT), ("chosen", TURNS), ("rejected", TURNS), ("source", TEXT), ("id", TEXT)])
CHAT_ROW = {
    "prompt": "q", "source": "s", "id": "1",
    "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}],
    "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "bad"}],
}  # fmt: skip
PAIR = {"prompt": "q", "chosen": "good", "rejected": "bad", "image": "a.png"}


def more(schema, **columns):
    for name, kind in columns.items():
        schema = schema.append(pa.field(name, kind))
    return schema


@pytest.mark.parametrize(("kind", "write"), [
    ("conversation pairs with their prompt (Tulu-3)", lambda folder: parquet(folder / "t.parquet", [CHAT_ROW], CHAT)),
    ("UltraFeedback, binarized", lambda folder: parquet(
        folder / "train_prefs-0.parquet", [CHAT_ROW | {"prompt_id": "p", "score_chosen": 8.0, "score_rejected": 2.0}],
        more(CHAT, prompt_id=TEXT, score_chosen=pa.float64(), score_rejected=pa.float64()),
    )),
    ("OLMo-2", lambda folder: parquet(
        folder / "o.parquet", [CHAT_ROW | {"chosen_model": "m", "rejected_model": "n"}],
        more(CHAT, chosen_model=TEXT, rejected_model=TEXT),
    )),
    ("conversation pairs (Skywork)", lambda folder: parquet(folder / "s.parquet", [CHAT_ROW], pa.schema(
        [field for field in CHAT if field.name != "prompt"]))),
    ("MM-RLHF JSONL", lambda folder: jsonl(folder / "dpo_pairs.jsonl", [PAIR])),
    ("OmniAlign-V-DPO JSONL", lambda folder: jsonl(folder / "chart.jsonl", [PAIR])),
    ("RewardBench", lambda folder: jsonl(folder / "filtered.jsonl", [
        PAIR | {"id": 3, "subset": "xstest-should-respond", "chosen_model": "m", "rejected_model": "n"}])),
])  # fmt: skip
def test_every_source_is_recognised_and_read_as_such(tmp_path, kind, write):
    write_images(tmp_path, ["a.png"])
    result = check(write(tmp_path))
    assert (result.kind, result.rows, result.problems) == (kind, 1, {})


def test_a_benchmark_of_nine_comparisons_a_prompt_is_recognised(tmp_path):
    row = {"id": 1, "prompt": "q", "chosen": ["a", "b", "c"], "rejected": ["d", "e", "f"], "domain": "chat"}
    path = tmp_path / "total_dataset.json"
    path.write_text(json.dumps([row]))
    result = check(path)
    assert (result.kind, result.rows, result.problems) == ("RM-Bench JSON", 9, {})


def test_the_images_of_mmpr_are_found_by_its_meta_json(tmp_path):
    write_images(tmp_path / "images" / "sub", ["a.png"])
    jsonl(tmp_path / "annotations" / "one.jsonl", [{"question": "q", "chosen": "a", "rejected": "b", "image": "a.png"}])
    entry = {"root": "MMPR-v1.2/images/sub", "annotation": "MMPR-v1.2/annotations/one.jsonl"}
    (tmp_path / "meta.json").write_text(json.dumps({"one": entry}))
    for path in (tmp_path, tmp_path / "annotations" / "one.jsonl"):
        result = check(path, images_root=tmp_path)
        assert (result.kind, result.rows, result.images, result.problems) == ("MMPR", 1, 1, {})


def test_videos_of_a_benchmark_are_folders_of_frames(tmp_path):
    write_images(tmp_path / "video" / "x", [f"{i}.png" for i in range(40)])
    row = {"id": "1", "prompt": "q", "chosen": "a", "rejected": "b", "chosen_reason": "", "video": "video/x.mp4"}
    result = check(jsonl(tmp_path / "m.jsonl", [row, row | {"video": "video/y.mp4"}]))
    assert (result.kind, result.images) == ("benchmark JSONL", 32)
    assert result.problems["missing_image"].count == 1


def test_every_problem_is_counted_and_its_first_rows_are_listed(tmp_path):
    write_images(tmp_path, ["a.png"])
    (tmp_path / "cut.png").write_bytes(image_bytes(300)[:20])
    good = {"question": "q", "chosen": "a", "rejected": "b", "image": "a.png"}
    rows = [good, {"id": 1}, good | {"image": "no.png"}, good | {"image": "../up.png"}, good | {"chosen": ["x"]},
            good | {"rejected": " "}, good | {"image": "cut.png"}, *[good | {"chosen": None}] * 9, good | {"id": "x"},
            good | {"id": "x", "rejected": "a "}, good | {"id": [7]}]  # fmt: skip
    path = jsonl(tmp_path / "mine.jsonl", rows)
    path.write_bytes(path.read_bytes() + b'\r\n\r\n{"id": NaN}\r\n{"question": "to')
    result = check(path, decode=True)
    assert result.kind == "preference JSONL"
    assert {reason: problem.count for reason, problem in result.problems.items()} == {
        "missing_field": 1, "missing_image": 1, "image_outside_root": 1, "not_text": 1, "empty_text": 1,
        "unreadable_image": 1, "missing_text": 9, "not_json": 1, "cut_off": 1, "bad_id": 1,
    }  # fmt: skip
    assert [row["row"] for row in result.problems["missing_text"].rows] == [8, 9, 10, 11, 12]
    assert result.bad_rows == 18
    assert result.remarks == {"repeated_id": 1, "same_responses": 1}
    assert check(path).problems.keys() == result.problems.keys()


def test_pairs_that_contradict_an_earlier_one_are_counted_and_listed(tmp_path):
    write_images(tmp_path, ["a.png", "b.png"])
    row = {"id": "0", "question": "q", "chosen": "a", "rejected": "b", "image": "a.png"}
    opposite = row | {"chosen": "b", "rejected": "a"}
    rows = [row, row | {"id": "same"}, opposite | {"id": "x"}, opposite | {"image": "b.png"},
            opposite | {"question": "r"},
            {"id": "y", "question": "q", "response_1": "a", "response_2": "b", "label": 2, "image": "a.png"},
            opposite | {"rejected": "b"}, opposite | {"image": "none.png"}]  # fmt: skip
    result = check(jsonl(tmp_path / "mine.jsonl", rows))
    assert result.remarks["contradictory_pair"] == 2
    named = [(row["row"], row["id"], row["detail"]) for row in result.contradictions]
    assert named == [(3, "x", "says the opposite of row 1"), (6, "y", "says the opposite of row 1")]
    output = CliRunner().invoke(data, ["check", str(tmp_path / "mine.jsonl")]).output
    assert "contradictory pair 2" in output
    assert "row 3 (x) says the opposite of row 1" in output


def test_contradictions_are_found_in_pairs_and_in_training_rows(tmp_path):
    rows = [{"id": str(at), "question": "q", "chosen": "ab"[at % 2], "rejected": "ba"[at % 2]} for at in range(2)]
    ingest("preference-jsonl", jsonl(tmp_path / "mine.jsonl", rows), tmp_path / "pairs")
    convert("verl", tmp_path / "pairs", tmp_path / "rl.parquet")
    for path in (tmp_path / "pairs", tmp_path / "rl.parquet"):
        result = check(path)
        assert (result.ok, result.rows, result.remarks["contradictory_pair"]) == (True, 2, 1)


def test_an_image_truncated_after_its_header_is_found_by_decoding_it(tmp_path):
    noise = Image.effect_noise((64, 64), 90)
    noise.save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:1500])
    path = jsonl(tmp_path / "m.jsonl", [{"question": "q", "chosen": "a", "rejected": "b", "image": "a.png"}])
    assert set(check(path).problems) == {"unreadable_image"}
    assert check(path, decode=False).ok
    show(path, tmp_path / "x.html")
    assert 'class="gone"' in (tmp_path / "x.html").read_text()


def test_problems_of_training_rows_are_found(folder, tmp_path):
    rows = pq.read_table(folder / "bytes.parquet").to_pylist()
    rows[1]["reward_model"]["ground_truth"] = str(3 - rows[1]["extra_info"]["label"])
    rows[2]["images"] = rows[2]["images"][:1]
    rows[5]["images"][0] = {"bytes": None, "path": "/x.png"}
    rows[8]["images"][0] = {"bytes": b"no image", "path": None}
    schema = pq.read_schema(folder / "bytes.parquet")
    result = check(parquet(tmp_path / "v.parquet", rows, schema))
    assert {reason: [row["row"] for row in problem.rows] for reason, problem in result.problems.items()} == {
        "labels_differ": [2], "image_tags_differ": [3], "image_verl_cannot_open": [6], "unreadable_image": [9],
    }  # fmt: skip
    lines = [json.loads(line) for line in (folder / "grm.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
    lines[0]["messages"].pop()
    lines[1]["images"] = []
    lines[2]["images"][0] = "/gone.png"
    lines[3]["messages"] = "x"
    result = check(jsonl(tmp_path / "s.jsonl", lines))
    assert {reason: [row["row"] for row in problem.rows] for reason, problem in result.problems.items()} == {
        "bad_roles": [1], "image_tags_differ": [2], "missing_image": [3], "bad_messages": [4],
    }  # fmt: skip
    append(tmp_path / "c.jsonl", [critique_row("a", "nothing", "m"), critique_row("a", GOOD.format("x", 1), "m")])
    result = check(tmp_path / "c.jsonl")
    assert set(result.problems) == {"text_outside_parts", "repeated_id"}


def test_unreadable_files_are_problems_and_missing_paths_are_errors(folder, tmp_path):
    (tmp_path / "empty.jsonl").write_bytes(b"")
    (tmp_path / "cut.parquet").write_bytes((folder / "bytes.parquet").read_bytes()[:5000])
    (tmp_path / "list.jsonl").write_text("[1]\n[2]\n")
    (tmp_path / "strange.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "nothing").mkdir()
    (tmp_path / "folder.jsonl").mkdir()
    whole = (folder / "pairs" / "pairs.parquet").read_bytes()
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "pairs.parquet").write_bytes(whole[: len(whole) // 2])
    for name in ("empty.jsonl", "cut.parquet", "list.jsonl", "strange.jsonl", "nothing", "folder.jsonl", "torn"):
        result = check(tmp_path / name)
        assert set(result.problems) == {"unreadable_file"}, name
        for function in (stats, lambda path: show(path, tmp_path / "x.html")):
            with pytest.raises(UserError):
                function(tmp_path / name)
    with refused("file.missing", path=tmp_path / "gone"):
        check(tmp_path / "gone")


def test_counts_are_right(tmp_path):
    write_images(tmp_path, ["a.png", "b.png"])
    rows = [{"id": i, "question": "q" * 8, "chosen": "c" * (i + 1), "rejected": "rrrr", "source": "ab"[i % 2],
             "images": ["a.png", "b.png"][: i % 3]} for i in range(100)]  # fmt: skip
    report = stats(jsonl(tmp_path / "m.jsonl", rows))
    assert report["sources"] == {"a": 50, "b": 50}
    assert report["images"]["a_row"] == {"0": 34, "1": 33, "2": 33}
    assert report["images"]["formats"] == {"png": 99}
    assert report["quantiles"]["chosen, characters"] == {
        "0": 1,
        "0.05": 6,
        "0.5": 51,
        "0.95": 96,
        "0.99": 100,
        "1": 100,
    }
    assert report["tokens_in_all"] == sum((12 + i + 1) // 4 + (i % 3) * 4 for i in range(100))


@given(st.integers(1, 4000), st.integers(1, 4000))
def test_tokens_of_an_image_are_within_bounds(width, height):
    assert 1 <= tokens(width, height) <= 1280
    if max(width, height) < 150 * min(width, height):
        assert tokens(width, height) >= 4
    assert tokens(560, 280) == 200
    assert tokens(4000, 3000) == 41 * 30


def run(*words):
    done = CliRunner().invoke(data, [str(word) for word in words], terminal_width=200)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def test_the_commands_print_json_and_exit_with_1_for_problems(folder, tmp_path):
    code, output = run("check", folder / "pairs", "--json")
    assert (code, json.loads(output)["ok"]) == (0, True)
    path = jsonl(
        tmp_path / "[bold]m.jsonl", [{"id": "[red]\u202e\x1b[2J", "prompt": "q", "chosen": "a", "rejected": ""}]
    )
    code, output = run("check", path)
    assert code == 1
    assert "empty text" in output
    assert "\x1b[2J" not in output
    assert "[bold]m.jsonl: benchmark JSONL" in output
    assert json.loads(run("check", path, "--json")[1])["problems"]["empty_text"]["count"] == 1
    code, output = run("stats", folder / "bytes.parquet")
    assert code == 0
    assert "tokens in all" in output
    assert json.loads(run("stats", folder / "c.jsonl", "--json")[1])["rows"] == 40
    code, output = run("show", folder / "bytes.parquet", "--rows", 3, "--first", 39, "--out", tmp_path / "p" / "x.html")
    assert (code, output) == (0, f"{tmp_path / 'p' / 'x.html'}: 2 rows\n")
    with refused("data.no-rows", path=folder / "bytes.parquet", first=41):
        run("show", folder / "bytes.parquet", "--first", 41, "--out", tmp_path / "x.html")
