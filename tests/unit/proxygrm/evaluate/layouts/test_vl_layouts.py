"""VL-RewardBench's results by lmms-eval and VLMEvalKit: read, looked up in the pairs, refused."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from data_tools.ingest.run import ingest
from proxygrm.evaluate.layouts.documents import write_table
from proxygrm.evaluate.scores.compare import compare_pairs
from proxygrm.evaluate.scores.expected import ids_of
from proxygrm.evaluate.scores.score import read, score
from support.evaluate.foreign import (
    CASES,
    ODD,
    judged_text,
    kit_row,
    lmms_row,
    pairs_file,
    shown_label,
    vl_pair,
    vl_release,
)
from support.evaluate.runs import call, write
from support.refusals import refused
from support.rows.release_files import IMAGE, TEXT, cell, parquet

BENCH = "vl-rewardbench"


def figures(path, **options):
    return score(read(BENCH, [path], partial=True, **options))


def kit(path, rows):
    write_table(path, rows)
    return path


def test_a_complete_run_of_lmms_eval_is_scored_with_its_orders(tmp_path):
    released = vl_release()
    rights = [n % 4 != 0 for n in range(len(released))]
    rows = [lmms_row(n, pair, right) for n, (pair, right) in enumerate(zip(released, rights, strict=True))]
    page = call("score", "--bench", "vl_rewardbench", "--answers", write(tmp_path / "s.jsonl", rows))
    assert "layout: lmms-eval (certain" in page
    found = score(read(BENCH, [tmp_path / "s.jsonl"]))
    assert (found["n"], found["partial"], found["layouts"]) == (1250, False, ["lmms-eval"])
    assert found["overall"] == pytest.approx(sum(rights) / 1250)
    assert found["categories"]["hallucination"]["n"] == 749
    first = sum(shown_label(pair) == 1 for pair in released)
    assert found["position"]["better_first"] == pytest.approx(first / 1250)
    assert found["policies"]["recorded"]["overall"] == found["overall"]
    assert not any("contradict" in note or "lack" in note for note in found["notes"])


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("pair", CASES, ids=["even", "odd", "even, second better", "odd, second better"])
def test_the_order_follows_from_the_lengths(tmp_path, pair, right):
    label = {0: 1, 1: 2, 2: 2, 3: 1}[CASES.index(pair)]
    for answers in (
        read(BENCH, [write(tmp_path / "s.jsonl", [lmms_row(0, pair, right)])], partial=True),
        read(
            BENCH,
            [kit(tmp_path / "s.tsv", [kit_row(0, pair, right)])],
            partial=True,
            pairs=pairs_file(tmp_path / "p.jsonl", CASES),
        ),
    ):
        (found,) = answers.arranged.pairs
        (judgement,) = found.judgements
        assert judgement.swapped is (label == 2)
        assert judgement.verdict == (label if right else 3 - label)
        assert judgement.recorded is right
        assert found.facts.id == pair["id"]


def test_without_the_released_row_the_order_is_looked_up_in_the_pairs(tmp_path):
    twins = [vl_pair(5, "mmmu_x"), vl_pair(6, "mmmu_x", ODD)]  # ids repeat in the release
    rows = write(tmp_path / "s.jsonl", [lmms_row(n, pair, True, with_doc=False) for n, pair in enumerate(twins[::-1])])
    unknown = figures(rows)
    assert (unknown["n"], unknown["overall"], unknown["position"]["says_1"]) == (2, 1, None)
    assert any("with --pairs" in note for note in unknown["notes"])
    assert not any("`reverse`" in note for note in unknown["notes"])
    pairs = pairs_file(tmp_path / "p.jsonl", twins)
    known = read(BENCH, [rows], partial=True, pairs=pairs)
    orders = {pair.judgements[0].row: pair.judgements[0].swapped for pair in known.arranged.pairs}
    assert orders == {1: True, 2: False}  # the texts in the prompt decide, not the position
    with refused("eval.unusable-rows", reasons={"no pair of --pairs has this id": [1, 2]}):
        read(BENCH, [rows], partial=True, pairs=pairs_file(tmp_path / "other.jsonl", CASES))


def test_several_files_are_votes_whatever_their_layouts(tmp_path):
    files = [
        write(tmp_path / "1.jsonl", [lmms_row(n, pair, n != 0) for n, pair in enumerate(CASES)]),
        kit(tmp_path / "2.tsv", [kit_row(n, pair, n != 1, id=pair["id"]) for n, pair in enumerate(CASES)]),
        write(tmp_path / "3.jsonl", [lmms_row(n, pair, n > 1) for n, pair in enumerate(CASES)]),
    ]
    found = score(read(BENCH, files, partial=True))
    assert (found["n"], found["samples"], found["orders"], found["overall"]) == (4, 3, 1, 0.5)
    assert found["votes"]["1"]["overall"] == 0.75
    assert found["layouts"] == ["lmms-eval", "vlmevalkit"]


def test_the_order_is_looked_up_in_an_ingested_release(tmp_path):
    schema = pa.schema([("id", TEXT), ("query", TEXT), ("response", pa.list_(TEXT)), ("image", IMAGE),
                        ("human_ranking", pa.list_(pa.int64()))])  # fmt: skip
    released = [*CASES, vl_pair(4, "mmmu_0", ODD)]  # an id for the second time
    data = parquet(tmp_path / "x.parquet", [pair | {"image": cell(n)} for n, pair in enumerate(released)], schema)
    ingest(BENCH, data, tmp_path / "pairs")
    rows = [lmms_row(n, pair, True, with_doc=False) for n, pair in enumerate(released)]
    del rows[0]["input"], rows[4]["input"]  # then the first row of an id is its first pair
    answers = write(tmp_path / "s.jsonl", rows)
    found = read(BENCH, [answers], expected=ids_of(tmp_path / "pairs"), pairs=tmp_path / "pairs")
    orders = {pair.judgements[0].row: pair.judgements[0].swapped for pair in found.arranged.pairs}
    assert orders == {n: shown_label(pair) == 2 for n, pair in enumerate(released, 1)}
    kit_file = kit(tmp_path / "k.xlsx", [kit_row(n, pair, True) for n, pair in enumerate(released)])
    by_texts = read(BENCH, [kit_file], expected=ids_of(tmp_path / "pairs"), pairs=tmp_path / "pairs")
    assert sorted(p.key for p in by_texts.arranged.pairs) == sorted(p.key for p in found.arranged.pairs)


def test_the_older_file_with_logs_is_read(tmp_path):
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"args": {}, "logs": [lmms_row(n, pair, n > 0) for n, pair in enumerate(CASES)]}))
    assert (figures(path)["n"], figures(path)["overall"]) == (4, 0.75)


@pytest.mark.parametrize("suffix", ["xlsx", "tsv", "csv", "json"])
def test_vlmevalkits_tables_find_their_pairs_by_their_texts(tmp_path, suffix):
    path = tmp_path / f"m_VL-RewardBench_gpt.{suffix}"
    rows = [kit_row(n, pair, n % 2 == 0, prediction=f'a "b"\t\n{judged_text(pair, n % 2 == 0)}\x0b_x0041_')
            for n, pair in enumerate(CASES)]  # fmt: skip
    if suffix == "json":
        path.write_text(json.dumps(rows))
    else:
        kit(path, rows)
    with refused("eval.layout-needs-pairs", layout="VLMEvalKit"):
        figures(path)
    found = figures(path, pairs=pairs_file(tmp_path / "p.jsonl", CASES))
    assert (found["n"], found["overall"], found["layouts"]) == (4, 0.5, ["vlmevalkit"])
    assert found["categories"]["reasoning"]["n"] == 4
    assert not any("contradict" in note for note in found["notes"])


def test_vlmevalkits_ids_are_used_where_it_has_them(tmp_path):
    path = kit(tmp_path / "t.tsv", [kit_row(n, pair, True, id=pair["id"]) for n, pair in enumerate(CASES)])
    assert figures(path)["n"] == 4


def test_texts_are_audited_against_the_scores(tmp_path):
    rows = [
        lmms_row(0, CASES[0], True, filtered_resps=["I cannot tell."]),  # upstream takes a coin
        lmms_row(1, CASES[1], True, filtered_resps=["The 2nd, clearly."]),
        lmms_row(2, CASES[2], True, filtered_resps=["Therefore, Answer 1 is slightly better"]),
        lmms_row(3, CASES[3], True),
    ]
    found = figures(write(tmp_path / "s.jsonl", rows))
    assert (found["overall"], found["unparsed"], found["policies"]["recorded"]["overall"]) == (0.75, 1, 1)
    notes = " ".join(found["notes"])
    assert "1 texts have neither a 1 nor a 2" in notes
    assert '1 texts lack "Answer N is better"' in notes
    assert "1 texts end with a verdict that contradicts their score" in notes


def test_own_and_foreign_answers_to_the_same_pairs_are_compared(tmp_path):
    foreign = write(tmp_path / "s.jsonl", [lmms_row(n, pair, n > 0) for n, pair in enumerate(CASES)])
    own = []
    for pair in CASES:
        better = pair["human_ranking"].index(0)
        own.append({
            "id": f"vl_rewardbench:{pair['id']}", "source": "vl_rewardbench", "label": 1, "verdict": 1,
            "question": pair["query"], "response_1": pair["response"][better],
            "response_2": pair["response"][1 - better],
        })  # fmt: skip
    runs = {
        "theirs": read(BENCH, [foreign], partial=True),
        "ours": read(BENCH, [write(tmp_path / "o.jsonl", own)], partial=True),
    }
    (row,) = compare_pairs(runs, [("theirs", "ours")])
    assert (row["pairs"], row["only_run"], row["only_baseline"]) == (4, 1, 0)
    page = tmp_path / "r.html"
    call("report", "--bench", BENCH, f"theirs={foreign}", f"ours={tmp_path / 'o.jsonl'}", "--partial", "--out", page)
    assert "theirs" in page.read_text()


BAD = [
    ({"vlreward_score": None}, "no `vlreward_score`"),
    ({"vlreward_score": {"question_id": None, "score": 1}}, "no `question_id` in `vlreward_score`"),
    ({"vlreward_score": {"question_id": "mmmu_1", "score": 2}}, "`score` is neither 0 nor 1"),
    ({"doc": {"human_ranking": [0, 0]}}, "human_ranking is neither [0, 1] nor [1, 0]"),
    ({"doc": {"response": ["a"], "human_ranking": [0, 1]}}, "`response` is not a list of two texts"),
]


@pytest.mark.parametrize(("change", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_rows_that_cannot_be_used_are_shown_or_counted(tmp_path, change, reason):
    rows = write(tmp_path / "s.jsonl", [lmms_row(0, CASES[0], True), lmms_row(1, CASES[1], True, **change)])
    with refused("eval.unusable-rows", layout="lmms-eval", reasons={reason: [2]}) as caught:
        read(BENCH, [rows])
    assert 'row 2 is {"doc_id": 1' in str(caught.value)
    found = figures(rows)
    assert (found["n"], found["partial"]) == (1, True)
    assert any(f"s.jsonl: left out: {reason} in row 2" in note for note in found["notes"])


def test_a_line_that_is_cut_off_is_shown(tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_text("".join(json.dumps(lmms_row(n, CASES[n], True)) + "\n" for n in range(2))[:-30])
    with refused("eval.unusable-rows", reasons={"no `vlreward_score`": [2]}):
        read(BENCH, [path])
