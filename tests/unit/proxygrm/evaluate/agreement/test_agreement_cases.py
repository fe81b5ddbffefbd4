"""Which rows become cases for a proxy, and how the others are counted."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from proxygrm.evaluate.agreement.cases import read_cases
from support.evaluate.rollouts import SEEN, row, written
from support.refusals import refused


def test_rows_that_are_not_a_case_are_counted_by_reason(tmp_path):
    good = row(1)
    rows = [
        good,
        row(2, critique="<rubric>never closed"),
        row(3, critique=SEEN.format("Response 1 is better (100%)")),
        row(4, label=3),
        row(5, critique=None),
        {"id": "p6", "label": 1, "critique": good["critique"]},
        row(7, images=[3]),
    ]
    file = written(tmp_path / "rows.jsonl", rows)
    file.write_text(file.read_text() + '\n[]\n"text"\n{"torn": ')
    found = read_cases([file])
    assert [case.id for case in found.cases] == ["p1"]
    assert (found.read, found.taken) == (10, 10)
    assert found.left_out == {
        "nothing_to_judge": 2,
        "bad_label": 1,
        "no_critique": 1,
        "pair_unknown": 1,
        "images_are_no_paths": 1,
        "not_json": 3,
    }


def test_synonymous_fields_and_a_bare_rubric_are_accepted_and_the_rest_of_a_critique_is_not_shown(tmp_path):
    mere = {**row(1), "critique": None, "rubric": "<rubric>Names 1</rubric>", "image": "a b.png"}
    other = {**row(2), "response": row(2)["critique"], "ground_truth": 2}
    del other["critique"], other["label"]
    first, second = read_cases([written(tmp_path / "rows.jsonl", [mere, other])]).cases
    assert first.images == (str(tmp_path / "a b.png"),)
    assert (first.rubric, second.rubric) == ("<rubric>\nNames 1\n</rubric>", "<rubric>\nNames 2\n</rubric>")
    assert (first.label, second.label) == (1, 2)


def verl_parquet(path, *pairs):
    path.parent.mkdir(parents=True, exist_ok=True)
    keys = ("id", "question", "response_1", "response_2", "label")
    extra = [dict(zip(keys, pair, strict=True), images=["/x/p.png"]) for pair in pairs]
    pq.write_table(pa.table({"extra_info": extra}), path)
    return path


def test_rollouts_of_a_run_find_their_pairs_in_its_training_file(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    verl_parquet(tmp_path / "sets/train.parquet", ("p1", "Colour?", "Red.", "Blue.", 2))
    verl_parquet(tmp_path / "sets.0123/train.parquet", ("p1", "Size?", "Big.", "Small.", 2))  # superseded
    pq.write_table(pa.table({"rows": [1]}), tmp_path / "sets/others.parquet")
    short = {"id": "p1", "critique": row(1)["critique"]}
    rollouts = tmp_path / "grm_rl/rollouts"
    written(rollouts / "step_00001.jsonl", [{**short, "label": "2"}, {**short, "label": "1"}])
    written(rollouts / "step_00002.jsonl", [{**short, "label": "2", "id": "elsewhere"}])
    found = read_cases([rollouts])
    assert [(case.question, case.images, case.label) for case in found.cases] == [("Colour?", ("/x/p.png",), 2)]
    assert found.left_out == {"label_mismatch": 1, "pair_unknown": 1}
    teachers = written(rollouts / "critiques.jsonl", [short, {**short, "id": "elsewhere"}, {**short, "label": None}])
    found = read_cases([teachers])
    assert ([case.label for case in found.cases], found.left_out) == ([2], {"pair_unknown": 1, "no_label": 1})
    teachers.unlink()
    other = verl_parquet(tmp_path / "other.parquet", ("elsewhere", "Size?", "Big.", "Small.", 2))
    assert [case.question for case in read_cases([rollouts], other).cases] == ["Size?"]


def test_a_limit_takes_rows_from_all_of_the_input(tmp_path):
    file = written(tmp_path / "rows.jsonl", [row(number) for number in range(100)])
    found = read_cases([file], limit=4)
    assert [case.id for case in found.cases] == ["p0", "p25", "p50", "p75"]
    assert (found.read, found.taken) == (100, 4)


@pytest.mark.parametrize(
    ("make", "code", "values"),
    [
        (lambda p: p / "gone", "proxy.no-rollouts", {}),
        (lambda p: p, "proxy.no-rollouts", {}),
        (lambda p: written(p / "empty.jsonl", []), "proxy.nothing-to-judge", {"left_out": {}}),
        (
            lambda p: written(p / "short.jsonl", [{"id": "x", "label": 1, "critique": SEEN}]),
            "proxy.nothing-to-judge",
            {"left_out": {"pair_unknown": 1}},
        ),
    ],
)
def test_input_without_cases_is_refused(tmp_path, make, code, values):
    with refused(code, **values):
        read_cases([make(tmp_path)])


def test_a_file_of_pairs_that_is_not_one_is_refused(tmp_path):
    file = written(tmp_path / "rows.jsonl", [{"id": "x", "label": 1, "critique": SEEN}])
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 torn")
    for pairs in ("torn.parquet", "gone.parquet"):
        with refused("proxy.not-training-file", path=tmp_path / pairs):
            read_cases([file], tmp_path / pairs)
