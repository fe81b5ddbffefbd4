"""Released ids of every type through every reader; none passes through a float."""

from __future__ import annotations

import json
import uuid
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_tools.export.convert import convert
from data_tools.ingest.run import ingest
from data_tools.inspect.check import check
from data_tools.rows.preference import read_pairs
from proxygrm.core.errors import UserError
from proxygrm.core.ids import BadId, has_id, id_text, loads
from proxygrm.evaluate.best_of_n.ranking import read_prompts
from proxygrm.evaluate.judges.scalar import ScalarJudge
from proxygrm.evaluate.rows.answers import read_answers
from proxygrm.evaluate.rows.pairs import load_pairs
from proxygrm.evaluate.scores.expected import ids_of
from support.evaluate.runs import call

BIG = 2**53 + 1
ANY = uuid.UUID("12345678-1234-5678-1234-567812345678")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("007", "007"), (" 7 ", " 7 "), ("1e3", "1e3"), ("None", "None"), (7, "7"), (-0, "0"), (BIG, str(BIG)),
        (2**64 + 1, str(2**64 + 1)), (10**30, "1" + "0" * 30), (7.0, "7"), (-3.0, "-3"), (0.1, "0.1"), (1.5, "1.5"),
        (float(2**53 - 1), str(2**53 - 1)), (ANY, str(ANY)), (ANY.bytes, str(ANY)), (b"007", "007"),
        (b"\xff\x00", "ff00"), (Decimal("1.50"), "1.50"),
    ],
)  # fmt: skip
def test_an_id_is_the_text_it_was_released_as(value, text):
    assert id_text(value) == text


@pytest.mark.parametrize("value", [True, False, float(2**53), 1e30, float("inf"), [1], {"$oid": "a"}, (1,)])
def test_a_number_that_has_lost_digits_and_a_value_that_is_not_an_id_are_refused(value):
    with pytest.raises(BadId, match="id is"):
        id_text(value)


def test_null_nan_and_empty_texts_are_not_ids_but_zero_is():
    assert [has_id(v) for v in (None, float("nan"), "", b"", 0, 0.0, "0", " ")] == [False] * 4 + [True] * 4


def test_integers_beyond_64_bits_keep_their_digits():
    assert loads(b'{"id": 36893488147419103233}')["id"] == 36893488147419103233
    assert loads(b'{"id": 7.0, "x": 1}') == {"id": 7.0, "x": 1}


RELEASED = [7, "007", "7.0", BIG, BIG - 1, 2**64 + 1, 2**64 + 3, 1.5, "ünï #2"]
WANTED = ["7", "007", "7.0", str(BIG), str(BIG - 1), str(2**64 + 1), str(2**64 + 3), "1.5", "ünï #2"]


def rows(ids, **more):
    return [{"id": i, "question": f"Q{n}?", "chosen": f"yes {n}", "rejected": "no", **more} for n, i in enumerate(ids)]


def lines(path, found):
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_ingestion_keeps_every_id_apart_from_json(tmp_path, suffix):
    file = tmp_path / f"mine{suffix}"
    if suffix == ".jsonl":
        lines(file, rows(RELEASED))
    else:
        file.write_text(json.dumps(rows(RELEASED)))
    report = ingest("preference-jsonl", file, tmp_path / "pairs")
    assert [pair.id for pair in read_pairs(tmp_path / "pairs")] == [f"mine:{i}" for i in WANTED]
    assert report["notes"].get("repeated_id", 0) == 0


def test_ids_of_two_types_with_the_same_text_are_reported(tmp_path):
    report = ingest("preference-jsonl", lines(tmp_path / "m.jsonl", rows([7, "7", 7.0])), tmp_path / "pairs")
    assert [pair.id for pair in read_pairs(tmp_path / "pairs")] == ["m:7", "m:7#2", "m:7#3"]
    assert report["notes"]["repeated_id"] == 2


def test_rows_with_invalid_ids_are_bad_and_named(tmp_path):
    odd = [True, {"$oid": "a"}, [1], 1e30]
    report = ingest("preference-jsonl", lines(tmp_path / "m.jsonl", rows(["a", *odd])), tmp_path / "pairs", max_bad=1.0)
    assert (report["kept"], report["bad"]) == (1, {"bad_id": 4})
    problems = check(tmp_path / "m.jsonl").problems
    assert list(problems) == ["bad_id"]
    assert [row["row"] for row in problems["bad_id"].rows] == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        (pa.array([BIG, None, 2], pa.int64()), [str(BIG), "2", "2"]),
        (pa.array([2**64 - 1, 2**64 - 2, 0], pa.uint64()), [str(2**64 - 1), str(2**64 - 2), "0"]),
        (pa.array([1.0, None, 3.0], pa.float64()), ["1", "2", "3"]),  # what pandas makes of [1, null, 3]
        (pa.array(["007", "7", "07"]).dictionary_encode(), ["007", "7", "07"]),
        (pa.array([ANY.bytes, b"\xff" * 16, b"\x00" * 16], pa.binary(16)), [str(ANY), str(uuid.UUID(int=2**128 - 1)),
                                                                            str(uuid.UUID(int=0))]),
        (pa.array([Decimal("1.10"), Decimal("1.11"), Decimal("2.00")]), ["1.10", "1.11", "2.00"]),
    ],
)  # fmt: skip
def test_ingestion_keeps_every_id_from_parquet(tmp_path, column, wanted):
    texts = {name: pa.array([f"{name} {n}" for n in range(3)]) for name in ("question", "chosen", "rejected")}
    pq.write_table(pa.table({"id": column, **texts}), tmp_path / "m.parquet")
    assert check(tmp_path / "m.parquet").problems == {}
    ingest("preference-jsonl", tmp_path / "m.parquet", tmp_path / "pairs")
    ids = [pair.id.removeprefix("m:") for pair in read_pairs(tmp_path / "pairs")]
    assert [i.partition("#")[0] for i in ids] == wanted
    assert len(set(ids)) == 3


def test_conversion_evaluation_and_ingestion_know_a_row_by_the_same_id(tmp_path):
    file = lines(tmp_path / "mine.jsonl", rows(RELEASED))
    assert [pair.id for pair in load_pairs(file)] == WANTED
    assert ids_of(file) == WANTED
    convert("verl", file, tmp_path / "rows.parquet")
    extra = pq.read_table(tmp_path / "rows.parquet")["extra_info"].to_pylist()
    assert [row["id"] for row in extra] == [f"mine:{i}" for i in WANTED]
    scores = lines(tmp_path / "s.jsonl", [{"id": i, "score_1": 1, "score_2": 0} for i in RELEASED])
    assert len(ScalarJudge(scores, load_pairs(file))._scores) == len(RELEASED)
    answers = lines(tmp_path / "a.jsonl", [{"id": i, "rewards": [1, 0]} for i in RELEASED])
    assert [judgement.key[0] for judgement in read_answers([answers], False)[0]] == WANTED
    candidates = lines(tmp_path / "c.jsonl", [{"id": i, "candidates": ["a", "b"]} for i in RELEASED])
    assert list(read_prompts(candidates)) == WANTED


def test_judgements_are_scored_against_their_own_file_for_any_ids(tmp_path):
    odd = ["x#2", "x", "#2", "mine:z#2", "mine:z", "a\nb", "\u202e", *RELEASED]
    mine = lines(tmp_path / "mine.jsonl", rows(odd))
    ingest("preference-jsonl", mine, tmp_path / "pairs")
    convert("bench", tmp_path / "pairs", tmp_path / "bench.jsonl")
    for file in (mine, tmp_path / "pairs", tmp_path / "bench.jsonl"):
        pairs = load_pairs(file)
        scores = lines(tmp_path / "s.jsonl", [{"id": pair.id, "score_1": 1, "score_2": 0} for pair in pairs])
        out = tmp_path / f"out {file.name}"
        call("run", "--pairs", file, "--judge", scores, "--out", out)
        output = call("score", "--bench", "pairs", "--answers", out / "answers.jsonl", "--pairs", file)
        assert f"N = {len(odd)} of {len(odd)} expected" in " ".join(output.split())


@pytest.mark.parametrize("bad", [True, 1e30, {"a": 1}])
def test_every_reader_refuses_an_invalid_id_in_one_line(tmp_path, bad):
    file = lines(tmp_path / "f.jsonl", rows([bad], candidates=["a", "b"], rewards=[1, 0], score_1=1, score_2=0))
    pairs = load_pairs(lines(tmp_path / "p.jsonl", rows(["a"])))
    for read in (load_pairs, ids_of, read_prompts, lambda path: read_answers([path], False),
                 lambda path: ScalarJudge(path, pairs)):  # fmt: skip
        with pytest.raises(UserError, match="id is") as error:
            read(file)
        assert "\n" not in str(error.value)
