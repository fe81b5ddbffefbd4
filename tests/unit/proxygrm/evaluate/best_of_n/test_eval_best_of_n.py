from __future__ import annotations

import itertools
import json
import random
from collections import Counter

import pytest

from proxygrm.core.errors import UserError
from proxygrm.evaluate.best_of_n.ranking import accuracy_at, best_of_n, rank, read_prompts, read_wins
from support.refusals import refused


def files(tmp_path, prompts, judgements):
    paths = tmp_path / "candidates.jsonl", tmp_path / "judgements.jsonl"
    for path, rows in zip(paths, (prompts, judgements), strict=True):
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return paths


def prompt(id_, *correct, **more):
    return {"id": id_, "candidates": [{"response": f"text {at}", "correct": c} for at, c in enumerate(correct)]} | more


def judged(id_, first, second, verdict):
    return {"id": id_, "first": first, "second": second, "verdict": verdict}


def ranked(tmp_path, prompts, judgements):
    candidates, file = files(tmp_path, prompts, judgements)
    return read_wins(file, read_prompts(candidates))


def test_a_tournament_counted_by_hand(tmp_path):
    # 0 beats 1 and 2 in both orders; 1 and 2: one order each way.
    rows = [judged("q", 0, 1, 1), judged("q", 1, 0, 2), judged("q", 0, 2, 1), judged("q", 2, 0, 2),
            judged("q", 1, 2, 1), judged("q", 2, 1, 1)]  # fmt: skip
    (found,) = ranked(tmp_path, [prompt("q", True, False, False)], rows)
    assert [(c["candidate"], c["score"], c["rank"]) for c in rank(found)] == [(0, 1.0, 1), (1, 0.25, 2), (2, 0.25, 2)]
    assert accuracy_at([found], 1)["accuracy"] == pytest.approx(1 / 3)
    # Subsets of two: {0, 1} and {0, 2} choose 0; {1, 2} chooses a wrong one.
    two = accuracy_at([found], 2)
    assert (two["accuracy"], two["any_correct"]) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert accuracy_at([found], 3)["accuracy"] == 1.0
    assert accuracy_at([found], 4) is None


def test_ties_and_unparsed_verdicts_are_half_a_win_and_tied_candidates_share_the_choice(tmp_path):
    rows = [judged("q", 0, 1, None), judged("q", 1, 0, "tie")]
    (found,) = ranked(tmp_path, [prompt("q", True, False)], rows)
    assert [c["rank"] for c in rank(found)] == [1, 1]
    assert found.unclear == 2
    assert accuracy_at([found], 2)["accuracy"] == 0.5


def test_against_a_reference(tmp_path):
    rows = [judged("q", 0, "reference", 2), judged("q", "reference", 1, 2), judged("q", "reference", 2, None)]
    prompts, judgements = files(tmp_path, [prompt("q", False, True, False, reference="r")], rows)
    out = tmp_path / "ranking.jsonl"
    figures = best_of_n(prompts, judgements, against_reference=True, out=out)
    assert [at["accuracy"] for at in figures["accuracy_at"] if at["n"] == 3] == [1.0]
    assert [c["candidate"] for c in json.loads(out.read_text())["ranking"]] == [1, 2, 0]


def test_a_perfect_judge_reaches_the_ceiling_and_a_coin_stays_at_the_mean(tmp_path):
    rng = random.Random(0)
    correct = {f"q{at}": [rng.random() < 0.4 for _ in range(8)] for at in range(30)}
    prompts = [prompt(id_, *c) for id_, c in correct.items()]

    def rows(verdict):
        return [
            judged(id_, a, b, verdict(c[a], c[b]))
            for id_, c in correct.items()
            for a, b in itertools.permutations(range(8), 2)
        ]

    perfect = best_of_n(*files(tmp_path, prompts, rows(lambda a, b: None if a == b else 1 if a else 2)))
    assert [at["n"] for at in perfect["accuracy_at"]] == [1, 2, 4, 8]
    assert all(at["accuracy"] == pytest.approx(at["any_correct"]) for at in perfect["accuracy_at"])
    assert perfect["pairs_not_judged"] == 0
    mean = sum(sum(c) for c in correct.values()) / 240
    nothing = best_of_n(*files(tmp_path, prompts, rows(lambda a, b: None)))
    first, second, *_ = nothing["accuracy_at"]
    assert first["accuracy"] == pytest.approx(mean)
    assert second["accuracy"] == pytest.approx(mean)


def test_the_order_of_candidates_changes_nothing(tmp_path):
    rng = random.Random(3)
    correct = [rng.random() < 0.5 for _ in range(5)]
    wins = {(a, b): rng.choice([1, 2, None]) for a, b in itertools.permutations(range(5), 2)}
    places = [3, 0, 4, 1, 2]
    straight = ranked(tmp_path, [prompt("q", *correct)], [judged("q", a, b, v) for (a, b), v in wins.items()])
    moved_correct = [None] * 5
    for old, new in enumerate(places):
        moved_correct[new] = correct[old]
    moved = ranked(
        tmp_path, [prompt("q", *moved_correct)], [judged("q", places[a], places[b], v) for (a, b), v in wins.items()]
    )
    for n in range(1, 6):
        assert accuracy_at(straight, n)["accuracy"] == pytest.approx(accuracy_at(moved, n)["accuracy"])


def test_correctness_may_be_unknown(tmp_path):
    figures = best_of_n(*files(tmp_path, [{"id": "q", "candidates": ["a", "b"]}], [judged("q", 0, 1, 1)]))
    assert figures["accuracy_at"] == []
    beside = {"id": "q", "candidates": ["a", "b"], "correct": [True, False]}
    assert best_of_n(*files(tmp_path, [beside], [judged("q", 0, 1, 1)]))["accuracy_at"][-1]["accuracy"] == 1


@pytest.mark.parametrize(
    ("prompts", "judgements", "code", "row"),
    [
        ([{"id": "q"}], [], "eval.bad-candidates", 1),
        ([{"id": "q", "candidates": ["a"], "correct": [1.5]}], [], "eval.bad-candidates", 1),
        ([{"id": "q", "candidates": ["a"], "correct": []}], [], "eval.bad-candidates", 1),
        ([prompt("q", True), prompt("q", True)], [], "eval.bad-candidates", 2),
        ([], [], "eval.no-candidates", None),
        ([prompt("q", True, False)], [], "eval.missing-judgements", None),
        ([prompt("q", True, False)], [judged("x", 0, 1, 1)], "eval.other-prompts", None),
        ([prompt("q", True, False)], [judged("q", 0, 2, 1)], "eval.bad-judgement", 1),
        ([prompt("q", True, False)], [judged("q", 1, 1, 1)], "eval.bad-judgement", 1),
        ([prompt("q", True, False)], [judged("q", 0, 1, 3)], "eval.bad-judgement", 1),
        ([prompt("q", True, False)], [judged("q", 0, 1, True)], "eval.bad-judgement", 1),
    ],
)
def test_invalid_rows_are_named(tmp_path, prompts, judgements, code, row):
    candidates, file = files(tmp_path, prompts, judgements)
    with refused(code, row=row):
        best_of_n(candidates, file)


def test_a_line_that_is_not_json_is_named(tmp_path):
    with pytest.raises(UserError, match="row 1 is not JSON"):
        best_of_n(*files(tmp_path, ["{"], []))


@pytest.fixture(scope="module")
def judge_url():
    from proxygrm.demo.rule_judge import build_app
    from support.evaluate.http_judges import serving

    with serving(build_app(0.0)) as url:
        yield url


@pytest.fixture
def drawn(tmp_path):
    """Candidates of demo images: the right colour, the wrong one twice, in a folder with a blank in its name."""
    from data_tools.ingest.run import ingest
    from data_tools.sources.demo_pairs import write_demo_pairs
    from proxygrm.core.pairs import read_pairs

    folder = tmp_path / "my pairs"
    write_demo_pairs(tmp_path, train=3, held_out=2, seed=0, kinds=("colour",), fog=0.0)
    ingest("rlaif-v", tmp_path / "train.parquet", folder)
    rows = []
    for pair in read_pairs(folder):
        right, wrong = (pair.response_1, pair.response_2)[:: 1 if pair.label == 1 else -1]
        rows.append({
            "id": pair.id, "question": pair.question, "images": [str(p) for p in pair.image_paths(folder)],
            "candidates": [wrong, right, wrong], "correct": [False, True, False], "reference": wrong,
        })  # fmt: skip
    file = folder / "candidates.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def command(*words):
    from click.testing import CliRunner

    from jobs.cli.eval.main import evaluation

    result = CliRunner().invoke(evaluation, ["best-of-n", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_judge_makes_the_judgements_for_the_ranking_and_none_twice(drawn, judge_url, tmp_path):
    judgements = tmp_path / "judged.jsonl"
    options = (drawn, judgements, "--judge", judge_url, "--model", "rule-judge", "--max-tokens", 200, "--json")
    figures = command(*options)
    rows = [json.loads(line) for line in judgements.read_text().splitlines()]
    assert len(rows) == 3 * 3 * 2
    assert Counter(row["same_text"] for row in rows) == {False: 12, True: 6}
    assert {row["verdict"] for row in rows if row["same_text"]} == {"tie"}
    assert figures["accuracy_at"][-1] == {
        "n": 3, "prompts": 3, "accuracy": 1.0, "low": 1.0, "high": 1.0, "any_correct": 1.0,
    }  # fmt: skip
    raw = judgements.with_name("judged.jsonl.raw")
    lines = raw.read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + 6  # the wrong text twice is judged once
    raw.write_bytes(b"".join(lines[:4]) + lines[4][:20])  # killed in the middle of a row
    before = judgements.read_bytes()
    assert command(*options) == figures
    assert judgements.read_bytes() == before
    assert command(drawn, judgements, "--json") == figures


def test_each_candidate_is_judged_against_the_reference_on_request(drawn, judge_url, tmp_path):
    options = ("--judge", judge_url, "--model", "rule-judge", "--max-tokens", 200, "--reference", "--json")
    figures = command(drawn, tmp_path / "judged.jsonl", *options)
    assert figures["accuracy_at"][-1]["accuracy"] == 1.0
    assert len((tmp_path / "judged.jsonl").read_text().splitlines()) == 3 * 3 * 2


def test_judgements_of_other_tools_are_not_overwritten_and_bad_candidates_are_named(drawn, tmp_path):
    from proxygrm.evaluate.best_of_n.judge import judge_candidates, read_matches

    other = tmp_path / "theirs.jsonl"
    other.write_text("{}\n")
    with refused("eval.foreign-judgements", path=other):
        judge_candidates(None, drawn, other, False, "refuse")
    row = {"id": "q", "question": "What?", "candidates": ["a", "b"]}
    for change in ({"question": " "}, {"candidates": ["a", {"text": "b"}]}, {"images": [1]}):
        (tmp_path / "bad.jsonl").write_text(json.dumps(row | change))
        with refused("eval.bad-candidates", row=1):
            read_matches(tmp_path / "bad.jsonl")
    (tmp_path / "bad.jsonl").write_text(json.dumps(row))
    with refused("eval.bad-candidates", row=1):
        read_matches(tmp_path / "bad.jsonl", against_reference=True)
