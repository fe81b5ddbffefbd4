"""What a teacher has written is read by key, its texts staying on the disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxygrm.process.teacher_rows import AUDITS, CONTRADICTIONS, DESCRIPTIONS, JUDGEMENTS, TeacherRows, picture_key
from support.refusals import refused

STEP = {"step": "AB is 3.", "score": 1, "category": None, "visualdependency": "AB = 3"}
AUDIT = {"errors_and_hallucinations": [], "omissions": [], "p_score": 1.0}


def described(question: str, *images: str, text: str = "A circle.", **more: str) -> dict:
    return {"question": question, "image": list(images), "image_description": text, **more}


def folder(path: Path, *shards: list[dict]) -> Path:
    path.mkdir(exist_ok=True)
    for number, rows in enumerate(shards):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (path / f"shard-{number:03}.jsonl").write_text(text, encoding="utf-8")
    return path


def test_rows_of_all_shards_are_known_by_question_and_images(tmp_path):
    first, second = described("Was ist\n das?", "a", text="Ein Kreis – 圆"), described("What?", "b", "a")
    rows = TeacherRows(folder(tmp_path / "d", [first], [second]), DESCRIPTIONS)
    assert (len(rows), rows.model) == (2, "unnamed")
    assert rows.get(picture_key("Was ist das?", ["a"])) == "Ein Kreis – 圆"
    assert rows.get(picture_key("What?", ["b", "a"])) == second["image_description"]
    for other in (("What?", ["a", "b"]), ("What?", ["b"]), ("Who?", ["b", "a"])):
        assert picture_key(*other) not in rows
        assert rows.get(picture_key(*other)) is None
    one = TeacherRows(tmp_path / "d" / "shard-001.jsonl", CONTRADICTIONS)
    assert list(one) == [picture_key("What?", ["b", "a"])]


def test_judgements_and_audits_are_known_by_the_solution(tmp_path):
    judged = TeacherRows(folder(tmp_path / "j", [{"id": "s", "steps": [STEP], "model": "m"}]), JUDGEMENTS)
    ((text, judgement),) = judged.get("s") or []
    assert (text, judgement.dependency, judged.model) == ("AB is 3.", "AB = 3", "m")
    row = {"id": "s", "checklist": "- AB = 3", "against": "contradiction", "image_description": "x", "audit": AUDIT}
    audited = TeacherRows(folder(tmp_path / "a", [row]), AUDITS).get("s")
    assert audited
    assert (audited.against, audited.description, audited.audit) == ("contradiction", "x", AUDIT)


@pytest.mark.parametrize(
    ("rows", "kind", "code", "row"),
    [
        ([described("q", "a"), described("q", "a", text="Else.")], DESCRIPTIONS, "teacher.repeated-row", 2),
        ([described("q", "a", model="m"), described("q", "b", model="n")], DESCRIPTIONS, "teacher.mixed-models", 2),
        ([described("q", "a", model="m"), described("q", "b")], DESCRIPTIONS, "teacher.mixed-models", 2),
        ([described("q", "a", text=" ")], DESCRIPTIONS, "teacher.bad-row", 1),
        ([{"question": "q", "image_description": "x"}], DESCRIPTIONS, "teacher.bad-row", 1),
        ([{"id": "s", "steps": [STEP | {"score": 0}]}], JUDGEMENTS, "teacher.bad-row", 1),
        ([{"id": "s", "steps": []}], JUDGEMENTS, "teacher.bad-row", 1),
        ([{"id": "s", "checklist": "- x", "against": "it", "image_description": "x"}], AUDITS, "teacher.bad-row", 1),
        ([["not", "an", "object"]], JUDGEMENTS, "teacher.bad-row", 1),
    ],
)
def test_rows_that_are_not_of_the_kind_repeated_or_of_another_teacher_are_refused(tmp_path, rows, kind, code, row):
    source = folder(tmp_path / "rows", rows)
    with refused(code, path=source / "shard-000.jsonl", row=row):
        read = TeacherRows(source, kind)
        assert code == "teacher.bad-row"  # the others are noticed at once, these when they are read
        for key in read:
            read.get(key)


def test_a_lone_surrogate_of_which_no_training_file_can_be_written_is_refused_by_its_row(tmp_path):
    for text in (r"\ud800", r"x\udfff"):
        source = tmp_path / "d.jsonl"
        line = json.dumps(described("q", "a", text="TEXT"))
        source.write_text(line.replace("TEXT", text) + "\n", encoding="utf-8")
        rows = TeacherRows(source, DESCRIPTIONS)
        with refused("teacher.bad-row", path=source, row=1, cause="not_unicode"):
            rows.get(picture_key("q", ["a"]))


def test_a_row_that_is_cut_off_and_a_path_without_rows_are_refused(tmp_path):
    source = folder(tmp_path / "d", [described("q", "a"), described("q", "b")])
    file = source / "shard-000.jsonl"
    file.write_bytes(file.read_bytes()[:-9])
    with refused("file.bad-row", path=file, row=2):
        TeacherRows(source, DESCRIPTIONS)
    for empty in (tmp_path / "nowhere", folder(tmp_path / "none"), folder(tmp_path / "blank", [])):
        with refused("teacher.no-rows", path=empty):
            TeacherRows(empty, DESCRIPTIONS)
