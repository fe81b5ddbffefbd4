"""Result files of other suites that are damaged, in another encoding, or not quite tables: one line, and right rows."""

from __future__ import annotations

import json
import zipfile

import pytest

from proxygrm.evaluate.layouts.documents import open_foreign, write_table
from proxygrm.evaluate.scores.score import read, score
from support.evaluate.foreign import CASES, kit_row, lmms_row
from support.refusals import refused

BENCH = "vl-rewardbench"
SHEET = "xl/worksheets/sheet1.xml"


def kit(path, **changes):
    rows = [kit_row(n, pair, True, id=pair["id"], **changes) for n, pair in enumerate(CASES)]
    write_table(path, rows)
    return path


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def rewritten(path, part, change):
    """The .xlsx with another content of one part."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, change(content) if name == part else content)


def flagged(path, at_local, at_central, value):
    """The .xlsx with another byte in each header of its parts."""
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", at_local), (b"PK\x01\x02", at_central)):
        at = data.find(mark)
        while at >= 0:
            data[at + offset] = value
            at = data.find(mark, at + 1)
    path.write_bytes(data)


def scrambled(path):
    with zipfile.ZipFile(path) as archive:
        part = archive.getinfo(SHEET)
    data = bytearray(path.read_bytes())
    start = part.header_offset + 30 + len(SHEET) + 5
    data[start : start + 60] = bytes(byte ^ 0xFF for byte in data[start : start + 60])
    path.write_bytes(data)


DAMAGED = {
    "no sheet": lambda path: rewritten(path, "xl/workbook.xml", lambda text: text.replace(b"<sheet ", b"<leaf ")),
    "a column beyond the last": lambda path: rewritten(
        path, SHEET, lambda text: text.replace(b"<c t=", b'<c r="ZZZZZZ1" t=', 1)
    ),
    "scrambled": scrambled,
    "encrypted": lambda path: flagged(path, 6, 8, 1),
    "compressed in another way": lambda path: flagged(path, 8, 10, 99),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_workbook_is_one_line(tmp_path, damage):
    path = kit(tmp_path / "a.xlsx")
    damage(path)
    with refused("file.damaged", path=path):
        read(BENCH, [path], partial=True)


OTHER_FILES = {
    "a.csv": b"\x1f\x8b\x08\x00",
    "a.tsv": "index\tresponse\n".encode("utf-16"),
    "a.jsonl": lines(lmms_row(0, CASES[0], True)).encode("utf-16-le"),
    "a.xls": b"\xd0\xcf\x11\xe0\xa1\xb1",
}


@pytest.mark.parametrize("name", OTHER_FILES)
def test_a_file_that_is_no_text_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(OTHER_FILES[name])
    with refused("file.not-text", path=tmp_path / name):
        read(BENCH, [tmp_path / name], partial=True)


def test_an_array_that_is_cut_off_is_damaged(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([lmms_row(n, pair, True) for n, pair in enumerate(CASES)])[:-30])
    with refused("file.damaged", path=path):
        read(BENCH, [path], partial=True)


@pytest.mark.parametrize("suffix", ["csv", "xlsx"])
def test_rows_without_a_value_are_none(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    first, second, *_ = [kit_row(n, pair, True, id=pair["id"]) for n, pair in enumerate(CASES)]
    write_table(path, [first, dict.fromkeys(first), second, dict.fromkeys(first)])
    document = open_foreign(path)
    assert document is not None
    assert document.numbers == [2, 4]
    assert score(read(BENCH, [path], partial=True))["n"] == 2


def test_a_column_that_a_table_has_twice_is_refused(tmp_path):
    path = kit(tmp_path / "a.csv", again=0)
    path.write_text(path.read_text().replace("again", "score", 1))
    with refused("eval.repeated-columns", columns=["score"]):
        read(BENCH, [path], partial=True)


def test_a_row_with_more_cells_than_columns_is_not_read_in_part(tmp_path):
    path = kit(tmp_path / "a.csv")
    path.write_text(path.read_text().rstrip("\n") + ",more\n")
    reasons = {"it has more cells than the table has columns": [len(CASES) + 1]}
    with refused("eval.unusable-rows", reasons=reasons):
        read(BENCH, [path])


def test_blank_lines_count_in_the_numbers_of_rows(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n\n" + lines(lmms_row(0, CASES[0], True)) + "\n" + lines({"vlreward_score": None}))
    with refused("eval.unusable-rows", reasons={"no `vlreward_score`": [5]}):
        read(BENCH, [path])


CONTRADICTIONS = [
    (True, 3, "`verdict` is none of 1, 2, tie and null"),
    (True, True, "`verdict` is none of 1, 2, tie and null"),
    (True, 2, "`verdict` contradicts `score`"),
    (False, 1, "`verdict` contradicts `score`"),
    (True, "tie", "`verdict` contradicts `score`"),
    (True, None, "`verdict` contradicts `score`"),
]


@pytest.mark.parametrize(("right", "verdict", "reason"), CONTRADICTIONS)
def test_a_verdict_that_contradicts_the_score_is_refused(tmp_path, right, verdict, reason):
    path = tmp_path / "a.jsonl"
    path.write_text(lines(lmms_row(0, CASES[0], right, verdict=verdict)))
    with refused("eval.unusable-rows", reasons={reason: [1]}):
        read(BENCH, [path])


def test_rows_without_the_judges_text_are_not_unparsed_verdicts(tmp_path):
    row = lmms_row(0, CASES[0], True)
    del row["filtered_resps"]
    path = tmp_path / "a.jsonl"
    path.write_text(lines(row))
    with refused("eval.unusable-rows", reasons={"no text of the judge (filtered_resps or resps)": [1]}):
        read(BENCH, [path])


def rewardbench(**columns):
    return {"subset": ["hep-go"] * 3, "id": [1, 2, 3], "results": [1, 0, 1]} | columns


def rm_bench(id_):
    scores = {"score_chosen": [3, 4, 5], "score_rejected": [0, 1, 2]}
    return {"id": id_, "domain": "chat", "prompt": "p", "chosen": ["a"] * 3, "rejected": ["b"] * 3} | scores


def test_columns_without_rows_are_no_answers(tmp_path):
    path = tmp_path / "m.json"
    path.write_text(json.dumps(rewardbench(subset=[], id=[], results=[])))
    with refused("eval.no-answers", path=path):
        read("rewardbench", [path], partial=True)


@pytest.mark.parametrize(
    ("bench", "content"),
    [("rewardbench", rewardbench(id=[1, 2, 1])), ("rm-bench", [rm_bench(1), rm_bench(2), rm_bench(1)])],
)
def test_ids_that_repeat_are_said(tmp_path, bench, content):
    path = tmp_path / "m.json"
    path.write_text(json.dumps(content))
    notes = score(read(bench, [path], partial=True))["notes"]
    assert any(note.startswith("ids of earlier rows in row 3,") for note in notes)
