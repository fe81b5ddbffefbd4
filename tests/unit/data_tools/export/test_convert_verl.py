from __future__ import annotations

import json
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st

from data_tools.export.convert import convert, convert_step
from data_tools.export.preference_blocks import preference_tables
from data_tools.export.prompt_columns import SPACE, clean_texts, grm_prompts, proxy_prompts
from data_tools.export.to_verl import VerlWriter
from data_tools.rows.line_blocks import line_blocks
from data_tools.rows.preference import ImageStore, PreferencePair, arrange, read_pairs, write_pairs
from data_tools.sources import preference_jsonl
from data_tools.steps.shards import Shard, carry_out
from proxygrm.core.errors import UserError
from proxygrm.core.files.user_text import check_encoding
from proxygrm.core.ids import BadId, has_id, id_text
from proxygrm.critique.prompts import grm_prompt, inert, proxy_prompt
from support.refusals import refused
from support.rows.convert_rows import NASTY, nasty_pair
from support.rows.plain_rows import verl_row
from support.rows.release_files import image_bytes, jsonl, write_images

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """400 pairs with all nasty texts in all positions, and 0 to 3 images each."""
    path = tmp_path_factory.mktemp("pairs dir") / "pairs ü"
    store = ImageStore(path)
    names = [store.add(image_bytes(shade)) for shade in range(5)]
    write_pairs(path, [nasty_pair(i, tuple(names[: i % 4])) for i in range(400)])
    return path


@pytest.mark.parametrize("mode", ["bytes", "path"])
@pytest.mark.parametrize("shards", [1, 3])
def test_every_row_from_a_pairs_folder_equals_the_plain_one(folder, tmp_path, mode, shards):
    step = convert_step("verl", folder, tmp_path / "t.parquet", images=mode, split="train")
    report = carry_out(step, shards, workers=1)
    rows = pq.read_table(tmp_path / "t.parquet").to_pylist()
    pairs = read_pairs(folder)
    assert rows == [verl_row(p, i, "train", p.image_paths(folder), mode) for i, p in enumerate(pairs)]
    assert (report["read"], report["kept"], report["bad"]) == (400, 400, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "t.parquet", "t.parquet.dropped.jsonl", "t.parquet.report.json",
    ]  # fmt: skip


TEXT = st.one_of(
    st.text(max_size=20),
    st.sampled_from(NASTY),
    st.lists(st.sampled_from(["<", ">", "image", "|", "/", "answer", "Rubric", " ", "\n", "x", "\x85"])).map("".join),
)


@given(st.lists(st.tuples(TEXT, TEXT, TEXT, TEXT, st.integers(0, 3)), max_size=8))
@settings(max_examples=120, deadline=None)
def test_prompts_of_columns_equal_those_of_the_plain_functions(rows):
    texts = [pa.array([row[i] for row in rows], pa.string()) for i in range(4)]
    counts = pa.array([row[4] for row in rows], pa.int32())
    assert grm_prompts(*texts[:3], counts).to_pylist() == [grm_prompt(*r[:3], images=r[4]) for r in rows]
    assert proxy_prompts(*texts, counts).to_pylist() == [proxy_prompt(*r[:4], images=r[4]) for r in rows]
    for contract in (True, False):
        assert clean_texts(texts[0], contract).to_pylist() == [inert(r[0], contract).strip() for r in rows]


def test_white_space_is_what_python_strips():
    assert set(SPACE) == {chr(i) for i in range(0x110000) if i < 0xD800 or i > 0xDFFF if not chr(i).strip()}


def test_an_invalid_label_a_missing_image_and_a_missing_rubric_are_refused_and_leave_no_file(folder, tmp_path):
    table = pa.Table.from_pylist(
        [{"id": "a", "source": "s", "question": "q", "response_1": "x", "response_2": "y", "label": 3, "images": []}],
        schema=pa.schema([*((n, pa.string()) for n in ("id", "source", "question", "response_1", "response_2")),
                          ("label", pa.int8()), ("images", pa.list_(pa.string()))]),
    )  # fmt: skip
    with pytest.raises(ValueError, match="labels"), VerlWriter(tmp_path / "a.parquet", "t") as writer:
        writer.write(table)
    lost = table.set_column(5, "label", pa.array([1], pa.int8()))
    lost = lost.set_column(6, "images", pa.array([["/nowhere/x.png"]]))
    with refused("image.unreadable", path="/nowhere/x.png"), VerlWriter(tmp_path / "a.parquet", "t") as writer:
        writer.write(lost)
    with pytest.raises(ValueError, match="rubrics"), VerlWriter(tmp_path / "a.parquet", "t", rubrics=True) as writer:
        writer.write(lost)
    assert list(tmp_path.iterdir()) == []


# --- straight from the generic JSONL


def no_json(word):
    raise ValueError(f"{word} is not JSON")


def plain_reading(path, name="mine"):
    """The same rows, read line by line with the module of the ingestion."""
    pairs, excluded = [], []
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode(), parse_constant=no_json)
            json.dumps(row, ensure_ascii=False).encode()
        except ValueError:
            excluded.append(number)
            continue
        read = preference_jsonl.read(row) if isinstance(row, dict) else None
        texts = [read.question, read.chosen, read.rejected] if hasattr(read, "chosen") else [None]
        if not all(isinstance(t, str) and t.strip() for t in texts) or texts[1].strip() == texts[2].strip():
            excluded.append(number)
            continue
        source = read.source or name
        try:
            row_id = id_text(read.id) if has_id(read.id) else number
        except BadId:
            excluded.append(number)
            continue
        paths = [path if isinstance(path, str) else "" for path in read.images]  # "": named but not given
        pairs.append(arrange(f"{source}:{row_id}", source, *texts, paths, ""))
    return pairs, excluded


def as_pairs(tables):
    rows = [row for table in tables for row in table.to_pylist()]
    for row in rows:
        row.pop("line")
    return [PreferencePair(**row | {"images": tuple(row["images"]), "license": ""}) for row in rows]


VALUE = st.one_of(TEXT, st.none(), st.integers(-3, 3), st.booleans(), st.floats(allow_nan=False, allow_infinity=False))
PATHS = st.one_of(
    st.none(), st.just(""), st.sampled_from(["a.png", "b/ü.png"]),
    st.lists(st.sampled_from(["a.png", "", "c.png"]), max_size=3),
)  # fmt: skip
ROW = st.one_of(
    st.fixed_dictionaries(
        {"id": TEXT, "question": TEXT, "chosen": TEXT, "rejected": TEXT, "images": PATHS},
        optional={"source": st.sampled_from(["My Set", "", "b"]), "video": st.sampled_from(["", "v.mp4"])},
    ),
    st.fixed_dictionaries(
        {"id": st.integers(0, 99), "prompt": TEXT, "response_1": TEXT, "response_2": TEXT,
         "label": st.sampled_from([1, 2]), "image": st.sampled_from(["a.png", "", None])},
    ),
    st.fixed_dictionaries(
        {}, optional={"id": VALUE, "question": VALUE, "prompt": VALUE, "chosen": VALUE, "rejected": VALUE,
                      "response_1": VALUE, "response_2": VALUE, "label": VALUE, "image": PATHS, "source": TEXT},
    ),
)  # fmt: skip
LINE = st.one_of(
    ROW.map(lambda row: json.dumps(row).encode()),
    ROW.map(lambda row: json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    st.sampled_from([b"", b"  ", b"{", b"[1]", b"3", b'{"id": NaN}', b"{}{}", b'{"chosen": "\\ud800"}', b"\xff"]),
)


@example([b'{"id": 0, "prompt": "0", "response_1": "0", "response_2": "NaN", "label": 1, "image": ""}'], True, b"\n", 1)
@given(st.lists(LINE, max_size=12), st.booleans(), st.sampled_from([b"\n", b"\r\n"]), st.integers(1, 4))
@settings(max_examples=120, deadline=None)
def test_blocks_give_the_same_rows_as_reading_line_by_line_for_any_shards(tmp_path_factory, lines, end, eol, shards):
    path = tmp_path_factory.mktemp("lines") / "mine.jsonl"
    path.write_bytes(eol.join(lines) + (eol if end else b""))
    size = path.stat().st_size
    excluded, rows = [], []
    for i in range(shards):
        span = range(i * size // shards, (i + 1) * size // shards)
        rows += as_pairs(preference_tables(path, span, lambda line, why: excluded.append(line)))
    expected_rows, expected_excluded = plain_reading(path)
    assert rows == expected_rows
    assert sorted(excluded) == expected_excluded


def test_a_few_odd_lines_among_thousands_do_not_change_the_others(tmp_path):
    rows = [{"id": str(i), "question": f"q{i}", "chosen": "good", "rejected": f"bad{i}", "image": "a.png"}
            for i in range(3000)]  # fmt: skip
    lines = [json.dumps(row).encode() for row in rows]
    lines[7], lines[1500] = b"{broken", json.dumps(rows[0] | {"id": 5, "images": ["a.png", "a.png"]}).encode()
    lines[2999] = lines[2999][:20]
    path = tmp_path / "mine.jsonl"
    path.write_bytes(b"\n".join(lines))
    reasons = {}
    tables = preference_tables(path, range(path.stat().st_size), lambda line, why: reasons.update({line: why.reason}))
    pairs = as_pairs(tables)
    assert reasons == {8: "not_json", 3000: "cut_off"}
    assert pairs == plain_reading(path)[0]
    assert pairs[1499].images == ("a.png", "a.png")


@given(st.binary(max_size=60), st.integers(1, 9), st.integers(1, 5))
def test_blocks_cover_every_line_once_with_its_number(tmp_path_factory, data, size, shards):
    path = tmp_path_factory.mktemp("b") / "x"
    try:
        check_encoding(data[:4], path)
    except UserError:
        reject()  # not text
    path.write_bytes(data)
    seen = []
    for i in range(shards):
        span = range(i * len(data) // shards, (i + 1) * len(data) // shards)
        seen += [line for block in line_blocks(path, span, size) for line in block.lines()]
    body = data.removeprefix(b"\xef\xbb\xbf")
    whole = [(n, line) for n, line in enumerate(body.split(b"\n"), 1) if line.strip()]
    assert seen == whole


@pytest.mark.parametrize("mode", ["bytes", "path"])
def test_a_jsonl_is_converted_and_every_bad_row_is_logged(tmp_path, mode):
    write_images(tmp_path, ["a.png", "sub/b.png"])
    (tmp_path / "c.png").write_bytes(b"no image")
    (tmp_path.parent / "secret.png").write_bytes(image_bytes(9))
    good = {"question": "q", "chosen": "a", "rejected": "b"}
    jsonl(tmp_path / "mine.jsonl", [
        good | {"id": "1", "image": "a.png"}, good | {"id": "2", "images": ["sub/b.png", "a.png"]},
        good | {"id": "2"}, good | {"id": "3", "image": "../secret.png"}, good | {"id": "4", "image": "gone.png"},
        good | {"id": "5", "image": "c.png"}, good | {"id": "6", "rejected": " a\n"}, good | {"id": "7", "chosen": ""},
        good | {"id": "8", "image": "sub/../a.png"}, good | {"id": "9", "image": str(tmp_path / "a.png")},
    ])  # fmt: skip
    for out, shards in (("one", 1), ("three", 3)):
        step = convert_step("verl", tmp_path / "mine.jsonl", tmp_path / out / "t.parquet", images=mode, max_bad=0.5)
        report = carry_out(step, shards, workers=1)
        assert report["bad"] == {
            "image_outside_root": 1, "missing_image": 1, "empty_response": 1, "unreadable_image": 1,
        }  # fmt: skip
        assert report["dropped"] == {"same_responses": 1}
        assert report["notes"] == {"no_image": 1, "repeated_id": 1}
    rows = pq.read_table(tmp_path / "one" / "t.parquet").to_pylist()
    assert rows == pq.read_table(tmp_path / "three" / "t.parquet").to_pylist()
    assert [row["extra_info"]["index"] for row in rows] == list(range(len(rows)))
    assert [row["extra_info"]["id"] for row in rows] == ["mine:1", "mine:2", "mine:2", "mine:8", "mine:9"]
    for i, row in enumerate(rows):
        extra = row["extra_info"]
        better, worse = ("a", "b") if extra["label"] == 1 else ("b", "a")
        pair = arrange(extra["id"], "mine", "q", "a", "b", (), "")
        assert (extra["response_1"], extra["response_2"], extra["label"]) == (better, worse, pair.label)
        assert row == verl_row(pair, i, "train", [Path(p) for p in extra["images"]], mode)
    dropped = [json.loads(line) for line in (tmp_path / "one" / "t.parquet.dropped.jsonl").read_text().splitlines()]
    assert {(row["row"], row["id"], row["reason"]) for row in dropped} >= {
        (4, "mine:3", "image_outside_root"), (7, "6", "same_responses"), (8, "7", "empty_response"),
    }  # fmt: skip


def test_too_many_bad_rows_no_rows_and_wrong_files_are_refused_and_leave_no_file(tmp_path, folder):
    good = {"question": "q", "chosen": "a", "rejected": "b"}
    jsonl(tmp_path / "m.jsonl", [good, {}, good])
    (tmp_path / "empty.jsonl").write_bytes(b"")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "pairs.parquet").write_bytes((folder / "pairs.parquet").read_bytes()[:900])
    out = tmp_path / "o" / "t.parquet"
    for source, to, code, values in (
        (tmp_path / "m.jsonl", "verl", "data.too-many-bad-rows", {"bad": 1, "read": 3}),
        (tmp_path / "empty.jsonl", "verl", "data.no-usable-rows", {"read": 0}),
        (tmp_path / "gone.jsonl", "verl", "file.not-a-file", {"path": tmp_path / "gone.jsonl"}),
        (tmp_path / "m.jsonl", "bench", "option.bad-out", {"path": out, "suffix": ".jsonl"}),
        (folder, "swift-grm", "option.bad-out", {"path": out, "suffix": ".jsonl"}),
        (folder / "pairs.parquet", "nothing", "option.bad-value", {"option": "to", "value": "nothing"}),
    ):
        with refused(code, **values):
            convert(to, source, out)
    for folder_without_pairs, reason in ((tmp_path / "torn", "parquet"), (tmp_path, "does not exist")):
        with pytest.raises(UserError, match=reason):
            convert("verl", folder_without_pairs, out)
    assert not out.exists()


def test_the_time_for_a_response_of_megabytes_grows_with_its_length(tmp_path):
    def seconds(characters):
        rows = [
            {"question": "q", "chosen": "x<" * (characters // 2), "rejected": "b"},
            {"question": "q", "chosen": "a", "rejected": "b"},
        ]
        source = jsonl(tmp_path / f"{characters}.jsonl", rows)
        started = time.process_time()
        report = convert("verl", source, tmp_path / f"{started}.parquet")
        assert report["kept"] == 2
        return time.process_time() - started

    best = {size: min(seconds(size) for _ in range(3)) for size in (2_500_000, 10_000_000)}
    assert best[10_000_000] < 8 * best[2_500_000] + 0.05


def test_an_interrupted_conversion_is_resumed_and_a_finished_one_is_not_repeated(folder, tmp_path):
    out = tmp_path / "t.parquet"
    step = convert_step("verl", folder, out)
    step.run_one(Shard(1, 3))
    part = next(path for path in step.parts.iterdir() if path.suffix == ".parquet")
    before = part.stat().st_mtime_ns
    step.run_one(Shard(1, 3))
    assert part.stat().st_mtime_ns == before
    with refused("data.shards-missing", missing=2, count=3):
        step.finish(3)
    carry_out(step, 3, workers=1)
    written = out.stat().st_mtime_ns
    carry_out(convert_step("verl", folder, out), 3, workers=1)
    assert out.stat().st_mtime_ns == written
    out.unlink()
    carry_out(convert_step("verl", folder, out), 2, workers=1)
    assert pq.read_metadata(out).num_rows == 400
