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
from data_tools.inspect.pictures import tokens
from data_tools.inspect.show import show
from data_tools.inspect.stats import stats
from data_tools.rows.preference import PictureStore, write_pairs
from jobs.cli.data import data
from proxygrm.core.errors import UserError
from proxygrm.teacher.critiques import append, critique_row
from support.rows.convert_rows import GOOD, nasty_pair
from support.rows.release_files import IMAGE, RLAIF_V, TEXT, jsonl, parquet, picture, pictures, rlaif_v


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One of everything that this project writes, from 40 nasty pairs."""
    path = tmp_path_factory.mktemp("look")
    store = PictureStore(path / "pairs")
    names = [store.add(picture(shade)) for shade in range(3)]
    pairs = [nasty_pair(i * 3, tuple(names[: i % 3])) for i in range(40)]
    write_pairs(path / "pairs", pairs)
    append(path / "c.jsonl", [critique_row(p.id, GOOD.format("a <image>", p.label), "m") for p in pairs])
    convert("verl", path / "pairs", path / "bytes.parquet")
    convert("verl", path / "pairs", path / "path.parquet", pictures="path")
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
def test_what_this_project_writes_is_known_in_order_counted_and_shown(folder, tmp_path, name, kind):
    found = check(folder / name, decode=True)
    assert (found.kind, found.rows, found.problems) == (kind, 40, {})
    counted = stats(folder / name)
    assert counted["rows"] == 40
    assert counted["quantiles"]["tokens a row (estimate)"]["1"] > 0
    assert show(folder / name, tmp_path / "page.html") == 12
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<section>") == 12
    assert "<image>" not in page  # people's words are escaped
    assert "&lt;image&gt;" in page
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_releases_are_known_by_their_columns(tmp_path):
    ranking = pa.schema([("id", TEXT), ("query", TEXT), ("response", pa.list_(TEXT)), ("image", IMAGE),
                         ("human_ranking", pa.list_(pa.int64()))])  # fmt: skip
    cell = {"bytes": picture(1), "path": None}
    row = {"id": "mmmu-1", "query": "q", "response": ["a", "b"], "image": cell, "human_ranking": [1, 0]}
    made = {
        "RLAIF-V parquet": parquet(tmp_path / "r.parquet", [rlaif_v(i) for i in range(3)], RLAIF_V),
        "VL-RewardBench": parquet(tmp_path / "v.parquet", [row], ranking),
    }
    for kind, path in made.items():
        found = check(path)
        assert (found.kind, found.ok, found.pictures) == (kind, True, found.rows)


def test_videos_of_a_benchmark_are_folders_of_frames(tmp_path):
    pictures(tmp_path / "video" / "x", [f"{i}.png" for i in range(40)])
    row = {"id": "1", "prompt": "q", "chosen": "a", "rejected": "b", "chosen_reason": "", "video": "video/x.mp4"}
    found = check(jsonl(tmp_path / "m.jsonl", [row, row | {"video": "video/y.mp4"}]))
    assert (found.kind, found.pictures) == ("benchmark JSONL", 32)
    assert found.problems["missing_picture"].count == 1


def test_every_fault_of_a_row_is_counted_and_its_first_rows_are_named(tmp_path):
    pictures(tmp_path, ["a.png"])
    (tmp_path / "cut.png").write_bytes(picture(300)[:20])
    good = {"question": "q", "chosen": "a", "rejected": "b", "image": "a.png"}
    rows = [good, {"id": 1}, good | {"image": "no.png"}, good | {"image": "../up.png"}, good | {"chosen": ["x"]},
            good | {"rejected": " "}, good | {"image": "cut.png"}, *[good | {"chosen": None}] * 9, good | {"id": "x"},
            good | {"id": "x", "rejected": "a "}, good | {"id": [7]}]  # fmt: skip
    path = jsonl(tmp_path / "mine.jsonl", rows)
    path.write_bytes(path.read_bytes() + b'\r\n\r\n{"id": NaN}\r\n{"question": "to')
    found = check(path, decode=True)
    assert found.kind == "preference JSONL"
    assert {reason: problem.count for reason, problem in found.problems.items()} == {
        "missing_field": 1, "missing_picture": 1, "picture_outside_root": 1, "not_text": 1, "empty_text": 1,
        "unreadable_picture": 1, "missing_text": 9, "not_json": 1, "cut_off": 1, "bad_id": 1,
    }  # fmt: skip
    assert [row["row"] for row in found.problems["missing_text"].rows] == [8, 9, 10, 11, 12]
    assert found.bad_rows == 18
    assert found.remarks == {"repeated_id": 1, "same_responses": 1}
    assert check(path).problems.keys() == found.problems.keys()


def test_pairs_that_say_the_opposite_of_an_earlier_one_are_counted_and_named(tmp_path):
    pictures(tmp_path, ["a.png", "b.png"])
    row = {"id": "0", "question": "q", "chosen": "a", "rejected": "b", "image": "a.png"}
    opposite = row | {"chosen": "b", "rejected": "a"}
    rows = [row, row | {"id": "same"}, opposite | {"id": "x"}, opposite | {"image": "b.png"},
            opposite | {"question": "r"},
            {"id": "y", "question": "q", "response_1": "a", "response_2": "b", "label": 2, "image": "a.png"},
            opposite | {"rejected": "b"}, opposite | {"image": "none.png"}]  # fmt: skip
    found = check(jsonl(tmp_path / "mine.jsonl", rows))
    assert found.remarks["contradictory_pair"] == 2
    named = [(row["row"], row["id"], row["detail"]) for row in found.contradictions]
    assert named == [(3, "x", "says the opposite of row 1"), (6, "y", "says the opposite of row 1")]
    said = CliRunner().invoke(data, ["check", str(tmp_path / "mine.jsonl")]).output
    assert "contradictory pair 2" in said
    assert "row 3 (x) says the opposite of row 1" in said


def test_contradictions_stay_in_sight_from_ingest_to_training_rows(tmp_path):
    rows = [{"id": str(at), "question": "q", "chosen": "ab"[at % 2], "rejected": "ba"[at % 2]} for at in range(2)]
    ingest("preference-jsonl", jsonl(tmp_path / "mine.jsonl", rows), tmp_path / "pairs")
    convert("verl", tmp_path / "pairs", tmp_path / "rl.parquet")
    for path in (tmp_path / "pairs", tmp_path / "rl.parquet"):
        found = check(path)
        assert (found.ok, found.rows, found.remarks["contradictory_pair"]) == (True, 2, 1)


def test_a_picture_cut_off_after_its_head_is_found_by_decoding_it(tmp_path):
    noise = Image.effect_noise((64, 64), 90)
    noise.save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:1500])
    path = jsonl(tmp_path / "m.jsonl", [{"question": "q", "chosen": "a", "rejected": "b", "image": "a.png"}])
    assert set(check(path).problems) == {"unreadable_picture"}
    assert check(path, decode=False).ok
    show(path, tmp_path / "x.html")
    assert 'class="gone"' in (tmp_path / "x.html").read_text()


def test_faults_of_training_rows_are_found(folder, tmp_path):
    rows = pq.read_table(folder / "bytes.parquet").to_pylist()
    rows[1]["reward_model"]["ground_truth"] = str(3 - rows[1]["extra_info"]["label"])
    rows[2]["images"] = rows[2]["images"][:1]
    rows[5]["images"][0] = {"bytes": None, "path": "/x.png"}
    rows[8]["images"][0] = {"bytes": b"no picture", "path": None}
    schema = pq.read_schema(folder / "bytes.parquet")
    found = check(parquet(tmp_path / "v.parquet", rows, schema))
    assert {reason: [row["row"] for row in problem.rows] for reason, problem in found.problems.items()} == {
        "labels_differ": [2], "image_tags_differ": [3], "picture_verl_cannot_open": [6], "unreadable_picture": [9],
    }  # fmt: skip
    lines = [json.loads(line) for line in (folder / "grm.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
    lines[0]["messages"].pop()
    lines[1]["images"] = []
    lines[2]["images"][0] = "/gone.png"
    lines[3]["messages"] = "x"
    found = check(jsonl(tmp_path / "s.jsonl", lines))
    assert {reason: [row["row"] for row in problem.rows] for reason, problem in found.problems.items()} == {
        "bad_roles": [1], "image_tags_differ": [2], "missing_picture": [3], "bad_messages": [4],
    }  # fmt: skip
    append(tmp_path / "c.jsonl", [critique_row("a", "nothing", "m"), critique_row("a", GOOD.format("x", 1), "m")])
    found = check(tmp_path / "c.jsonl")
    assert set(found.problems) == {"text_outside_parts", "repeated_id"}


def test_files_that_cannot_be_read_are_problems_and_paths_that_are_not_there_are_errors(folder, tmp_path):
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
        found = check(tmp_path / name)
        assert set(found.problems) == {"unreadable_file"}, name
        for look in (stats, lambda path: show(path, tmp_path / "x.html")):
            with pytest.raises(UserError):
                look(tmp_path / name)
    with pytest.raises(UserError, match="does not exist"):
        check(tmp_path / "gone")


def test_counts_are_right(tmp_path):
    pictures(tmp_path, ["a.png", "b.png"])
    rows = [{"id": i, "question": "q" * 8, "chosen": "c" * (i + 1), "rejected": "rrrr", "source": "ab"[i % 2],
             "images": ["a.png", "b.png"][: i % 3]} for i in range(100)]  # fmt: skip
    found = stats(jsonl(tmp_path / "m.jsonl", rows))
    assert found["sources"] == {"a": 50, "b": 50}
    assert found["pictures"]["a_row"] == {"0": 34, "1": 33, "2": 33}
    assert found["pictures"]["formats"] == {"png": 99}
    assert found["quantiles"]["chosen, characters"] == {"0": 1, "0.05": 6, "0.5": 51, "0.95": 96, "0.99": 100, "1": 100}
    assert found["tokens_in_all"] == sum((12 + i + 1) // 4 + (i % 3) * 4 for i in range(100))


@given(st.integers(1, 4000), st.integers(1, 4000))
def test_tokens_of_a_picture_stay_in_bounds_and_grow_with_it(width, height):
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


def test_the_commands_speak_json_and_say_by_their_exit_code_whether_all_is_well(folder, tmp_path):
    code, said = run("check", folder / "pairs", "--json")
    assert (code, json.loads(said)["ok"]) == (0, True)
    path = jsonl(
        tmp_path / "[bold]m.jsonl", [{"id": "[red]\u202e\x1b[2J", "prompt": "q", "chosen": "a", "rejected": ""}]
    )
    code, said = run("check", path)
    assert code == 1
    assert "empty text" in said
    assert "\x1b[2J" not in said
    assert "[bold]m.jsonl: benchmark JSONL" in said
    assert json.loads(run("check", path, "--json")[1])["problems"]["empty_text"]["count"] == 1
    code, said = run("stats", folder / "bytes.parquet")
    assert code == 0
    assert "tokens in all" in said
    assert json.loads(run("stats", folder / "c.jsonl", "--json")[1])["rows"] == 40
    code, said = run("show", folder / "bytes.parquet", "--rows", 3, "--first", 39, "--out", tmp_path / "p" / "x.html")
    assert (code, said) == (0, f"{tmp_path / 'p' / 'x.html'}: 2 rows\n")
    with pytest.raises(UserError, match="fewer than 41"):
        run("show", folder / "bytes.parquet", "--first", 41, "--out", tmp_path / "x.html")
