"""Answers of `eval run` written in others' layouts and read again."""

from __future__ import annotations

import json
from itertools import product

import pytest

from proxygrm.evaluate.rows.ordered_pair import judged_row, ordered_pairs
from proxygrm.evaluate.rows.pairs import EvalPair
from proxygrm.evaluate.scores.score import read, score
from support.evaluate.foreign import shown_label
from support.evaluate.runs import call, write
from support.refusals import refused

CRITIQUES = ["<answer>1</answer>", "<answer>2</answer>", "1 or 2?"]
COMPARED = ("n", "overall", "macro", "categories", "unparsed", "ties", "policies", "position")


def pairs(count):
    return [
        EvalPair(f"vl_rewardbench:mmmu_{n}", f'q{n}, "is\tit"?', "a" * (n % 5 + 1), f"b\n{n}", 1 + n % 2,
                 source="vl_rewardbench")
        for n in range(count)
    ]  # fmt: skip


def judged(requests, critiques=CRITIQUES, **changes):
    return [
        judged_row(request, {"text": critiques[n % len(critiques)], "tokens": 1, "truncated": False, "problem": None})
        | {"images": []} | changes
        for n, request in enumerate(requests)
    ]  # fmt: skip


def exported(tmp_path, bench, layout, rows, suffix, *more):
    answers, out = write(tmp_path / "answers.jsonl", rows), tmp_path / f"theirs.{suffix}"
    words = ("--bench", bench, "--answers", answers, "--layout", layout, "--out", out, "--partial")
    return out, call("export", *words, *more)


@pytest.mark.parametrize(("layout", "suffix"), [
    ("lmms-eval", "jsonl"), ("vlmevalkit", "xlsx"), ("vlmevalkit", "tsv"), ("vlmevalkit", "csv"),
])  # fmt: skip
def test_one_order_comes_back_as_it_was(tmp_path, layout, suffix):
    rows = judged(ordered_pairs(pairs(12), "hashed"))
    out, output = exported(tmp_path, "vl-rewardbench", layout, rows, suffix)
    assert "12 of 1,250 pairs in the layout of" in output
    ours = read("vl-rewardbench", [tmp_path / "answers.jsonl"], partial=True)
    theirs = read("vl-rewardbench", [out], partial=True)
    before, after = score(ours), score(theirs)
    assert before["unparsed"] == 4
    assert {name: after[name] for name in COMPARED} == {name: before[name] for name in COMPARED}
    assert [pair.key for pair in theirs.arranged.pairs] == [pair.key for pair in ours.arranged.pairs]


def test_of_both_orders_the_one_that_upstream_would_show_is_written(tmp_path):
    out, output = exported(tmp_path, "vl-rewardbench", "lmms-eval", judged(ordered_pairs(pairs(12))), "jsonl")
    assert "left out: 12 judgements in the other order" in output
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["doc"]["human_ranking"] for line in lines] == [[0, 1]] * 12
    for line, pair in zip(lines, pairs(12), strict=True):
        better = pair.response_1 if pair.label == 1 else pair.response_2
        assert line["doc"]["response"][0] == better
        right = line["verdict"] == shown_label(line["doc"])
        assert line["vlreward_score"] == {"question_id": pair.id[15:], "category": "reasoning", "score": float(right)}


def test_a_vote_is_chosen_by_its_number(tmp_path):
    rows = judged(ordered_pairs(pairs(4), "hashed", votes=3))
    out, output = exported(tmp_path, "vl-rewardbench", "lmms-eval", rows, "jsonl", "--sample", "2")
    assert "left out: 8 judgements of other samples" in output
    verdicts = [json.loads(line)["verdict"] for line in out.read_text().splitlines()]
    assert verdicts == [row["verdict"] for row in rows if row["sample"] == 2]
    with refused("eval.no-such-sample", sample=3, samples=[0, 1, 2]):
        exported(tmp_path, "vl-rewardbench", "lmms-eval", rows, "jsonl", "--sample", "3")


def text_pairs(ids, source, category):
    return [EvalPair(f"{source}:{id_}", "q", f"x {id_}", "y", 1 + n % 2, source=source, category=category)
            for n, id_ in enumerate(ids)]  # fmt: skip


def test_rewardbench_from_a_generative_judge(tmp_path):
    of = text_pairs([f"donotanswer/{n}" for n in range(6)], "rewardbench", "donotanswer")
    out, _ = exported(tmp_path, "rewardbench", "rewardbench", judged(ordered_pairs(of)), "json")
    fields = json.loads(out.read_text())
    assert fields["id"] == list(range(6))
    assert set(fields["results"]) <= {0, 0.5, 1}
    assert 0.5 in fields["results"]
    assert "scores_chosen" not in fields
    as_is = judged(ordered_pairs(of))[::2]
    expected = sum(row["correct"] or 0 for row in as_is) / 6
    assert score(read("rewardbench", [out], partial=True))["overall"] == pytest.approx(expected)


def scalar(of, scores):
    """scores: {id: (better, worse)}."""
    rows = []
    for request in ordered_pairs(of, "as-given"):
        better, worse = scores[request.pair.id.partition(":")[2]]
        both = [better, worse] if request.label == 1 else [worse, better]
        answer = {"text": "", "tokens": 0, "truncated": False, "problem": None, "scores": both}
        rows.append(judged_row(request, answer))
    return rows


def test_rewardbench_from_a_scalar_model(tmp_path):
    scores = {"hep-go/1": (2, 1), "hep-go/2": (1, 1), "math-prm/1": (0, 1.5)}
    of = [pair for id_ in scores for pair in text_pairs([id_], "rewardbench", id_.partition("/")[0])]
    out, _ = exported(tmp_path, "rewardbench", "rewardbench", scalar(of, scores), "json")
    fields = json.loads(out.read_text())
    assert (fields["results"], fields["scores_chosen"], fields["scores_rejected"]) == (
        [1, 0, 0],
        [2, 1, 0],
        [1, 1, 1.5],
    )
    before = score(read("rewardbench", [tmp_path / "answers.jsonl"], partial=True))
    after = score(read("rewardbench", [out], partial=True))
    for name in ("n", "overall", "macro", "categories", "ties", "policies"):
        assert after[name] == before[name]


def test_rm_bench_from_a_scalar_model_only(tmp_path):
    scores = {f"math/{n}/c{i}-r{j}": (i + n, j) for n in range(2) for i, j in product(range(3), repeat=2)}
    of = text_pairs(scores, "rm_bench", "math")
    out, _ = exported(tmp_path, "rm-bench", "rm-bench", scalar(of, scores), "json")
    (first, second) = json.loads(out.read_text())
    assert (first["id"], first["domain"], first["score_chosen"], first["score_rejected"]) == (
        0,
        "math",
        [0, 1, 2],
        [0, 1, 2],
    )
    assert second["score_chosen"] == [1, 2, 3]
    before = score(read("rm-bench", [tmp_path / "answers.jsonl"], partial=True))
    after = score(read("rm-bench", [out], partial=True))
    for name in ("n", "overall", "macro", "categories", "ties", "views"):
        assert after[name] == before[name]
    with refused("eval.export-needs-scores", id="math/0/c0-r0"):
        exported(tmp_path, "rm-bench", "rm-bench", judged(ordered_pairs(of, "as-given")), "json")
    with refused("eval.export-incomplete", prompts=["math/1"]):
        exported(tmp_path, "rm-bench", "rm-bench", scalar(of[:-1], scores), "json")


def test_what_cannot_be_exported(tmp_path):
    rows = judged(ordered_pairs(pairs(2), "hashed"))
    with refused("bench.other-layout", layout="rewardbench", bench="vl-rewardbench"):
        exported(tmp_path, "vl-rewardbench", "rewardbench", rows, "json")
    with refused("eval.export-suffix"):
        exported(tmp_path, "vl-rewardbench", "vlmevalkit", rows, "json")
    assert not (tmp_path / "theirs.json").exists()
    without = [rows[0], {name: value for name, value in rows[1].items() if name != "question"}]
    with refused("eval.not-exportable", rows=[2]):
        exported(tmp_path, "vl-rewardbench", "lmms-eval", without, "jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.jsonl"]
