"""Best of N by step scores: ours by hand-computed expectations, and the released counts."""

from __future__ import annotations

import json
import random
from itertools import combinations
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxygrm.evaluate.best_of_n.curves import _best_of, _groups, best_of_n, pass_at, sizes
from proxygrm.evaluate.best_of_n.released import released_best_of_n
from proxygrm.evaluate.best_of_n.solutions import read_solutions
from support.refusals import refused


def response(answer: str | None, raw: Any, final: Any = None) -> dict[str, Any]:
    return {
        "reasoningprocess": [],
        "finalanswer": answer,
        "eval": {"raw_step_scores": raw, "final_step_scores": raw if final is None else final},
    }


def row(answer: Any, *responses: Any, **more: Any) -> dict[str, Any]:
    return {"answer": answer, **{f"vlmresponse{i}": r for i, r in enumerate(responses, 1)}} | more


def written(tmp_path: Path, rows: list[Any]) -> Path:
    path = tmp_path / "scored.jsonl"
    path.write_text("".join((r and json.dumps(r)) + "\n" for r in rows))  # "": a blank line
    return path


RIGHT, HALF, WRONG = [1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]


def values(curve: dict[str, Any]) -> list[float]:
    return [point["value"] for point in curve.values()]


def test_the_expectation_over_all_sets_of_k_candidates(tmp_path: Path) -> None:
    # scores by mean: 1, .5, .5, 0; right: no, yes, no, yes
    rows = [row("4", response("5", RIGHT), response("4", HALF), response("6", HALF), response("4", WRONG))]
    figures = best_of_n(read_solutions(written(tmp_path, rows)).questions)["OVERALL"]
    # of 6 pairs: 3 with the first are wrong, the tied pair is 1/2, (2nd, 4th) is right, (3rd, 4th) is wrong
    assert values(figures["bon"]["mean"]) == pytest.approx([0.5, 1.5 / 6, 0.5 / 4, 0])
    assert values(figures["pass"]) == pytest.approx([0.5, 1 - 1 / 6, 1, 1])
    assert values(figures["random"]) == [0.5] * 4
    assert (figures["mean"]["value"], figures["oracle"]["value"]) == (0.5, 1)
    assert values(figures["plain"]["pass"]) == [0, 1, 1, 1]
    assert values(figures["plain"]["bon"]["mean"]) == [0, 0, 0, 0]
    # majority: two of four say 4; of the sets of three, two have both of them, two have three different answers (1/3)
    assert values(figures["self_consistency"]) == pytest.approx([0.5, (4 * 0.5 + 1) / 6, (2 + 2 / 3) / 4, 1])
    assert figures["total"] == 1


def test_tied_candidates_share_the_choice_and_the_released_metric_takes_the_right_one(tmp_path: Path) -> None:
    rows = [row("4", *(response("4" if i < 2 else "5", RIGHT) for i in range(8)))]
    path = written(tmp_path, rows)
    ours = best_of_n(read_solutions(path).questions)["OVERALL"]
    assert values(ours["bon"]["product"]) == pytest.approx([0.25] * 8)
    released = released_best_of_n(path)["OVERALL"]
    assert released["correctness_rate"] == {"pass_correct": [1] * 8, "bon_correct": [1] * 8}


def test_the_gate_changes_the_choice_and_raw_scores_do_not_see_it(tmp_path: Path) -> None:
    rows = [row("4", response("5", RIGHT, [0.2, 0.2]), response("4", [1.0, 1.0, 1.0, -1.0]))]
    path = written(tmp_path, rows)
    for scores, value in (("final", 1.0), ("raw", 0.0)):
        figures = best_of_n(read_solutions(path, scores).questions)
        assert figures["OVERALL"]["bon"]["correctness_rate"]["2"]["value"] == value


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([-inf, 0.0, 0.3, 0.3 + 1e-12, 1.0]), st.booleans()), min_size=1, max_size=7))
def test_the_counted_expectation_is_that_over_every_subset(candidates: list[tuple[float, bool]]) -> None:
    n = len(candidates)
    groups = _groups([score for score, _ in candidates], [right for _, right in candidates])
    for k in range(1, n + 1):
        expected = []
        for subset in combinations(candidates, k):
            best = max(score for score, _ in subset)
            tied = [right for score, right in subset if score == best or abs(score - best) < 1e-9]
            expected.append(sum(tied) / len(tied))
        value = _best_of(groups, n, k)
        assert value == pytest.approx(sum(expected) / len(expected))
        assert value <= pass_at(n, sum(right for _, right in candidates), k) + 1e-12


def test_no_choice_is_above_pass_and_all_are_the_mean_at_1(tmp_path: Path) -> None:
    rng = random.Random(3)
    rows = [
        row(
            "1", *(response(rng.choice("123"), rng.choices([1.0, 0.6, -1.0], k=3)) for _ in range(5)), datasource=source
        )
        for source in "ab"
        for _ in range(20)
    ]
    figures = best_of_n(read_solutions(written(tmp_path, rows)).questions)
    assert list(figures) == ["a", "b", "OVERALL"]
    assert [of_source["total"] for of_source in figures.values()] == [20, 20, 40]
    for of_source in figures.values():
        curves = [*of_source["bon"].values(), of_source["self_consistency"]]
        for curve in curves:
            assert curve["1"]["value"] == pytest.approx(of_source["mean"]["value"])
            assert all(curve[k]["value"] <= of_source["pass"][k]["value"] + 1e-9 for k in curve)
        assert of_source["oracle"] == of_source["pass"]["5"]
        for curve in [*curves, of_source["pass"]]:
            assert all(point["low"] <= point["value"] <= point["high"] for point in curve.values())


def test_what_is_missing_or_not_scored_is_counted_and_chosen_last(tmp_path: Path) -> None:
    rows = [
        row("4", response("4", [None, 1.0]), response("5", WRONG), {"error": "not_json", "rawoutput": "?"}),
        row("4", response("4", []), datasource="x"),
    ]
    solutions = read_solutions(written(tmp_path, rows))
    assert solutions.counts == {
        "rows without a data source": 1, "candidates missing": 2, "candidates without an answer": 1,
        "candidates without a score": 3,
    }  # fmt: skip
    figures = best_of_n(solutions.questions)
    assert values(figures["UNKNOWN"]["bon"]["mean"]) == pytest.approx([1 / 3, 0.5 / 3, 0])
    # no candidate of x has a score, so chance decides among one right and two missing ones
    assert values(figures["x"]["bon"]["mean"]) == pytest.approx([1 / 3] * 3)


def test_options_are_read_from_the_question(tmp_path: Path) -> None:
    question = "Which?\nChoices:\n(A) Yes\n(B) No"
    rows = [row("No", response("B", RIGHT), response("A", WRONG), question=question)]
    figures = best_of_n(read_solutions(written(tmp_path, rows)).questions)["OVERALL"]
    assert figures["bon"]["mean"]["2"]["value"] == 1


@pytest.mark.parametrize(
    ("rows", "code", "values"),
    [
        ([], "file.empty", {}),
        (
            [row("4", response("4", RIGHT)), {"vlmresponse1": {}}, {"answer": "4"}],
            "eval.bad-solutions",
            {"rows": [2, 3]},
        ),
        ([row("4", response("4", ["1"]))], "eval.bad-solutions", {"rows": [1]}),
        (["", row("4", response("4", RIGHT)), "", row("4", response("4", ["1"]))], "eval.bad-solutions", {"rows": [4]}),
        *(
            ([row("4", response("4", RIGHT)), row(none, response("4", RIGHT))], "eval.bad-solutions", {"rows": [2]})
            for none in ("", " ", "$$", [], [None, ""], float("nan"))
        ),
        ([row("4", response("4", [2.0]))], "eval.bad-solutions", {"rows": [1]}),
        ([row("4", response("4", RIGHT), id=1), row("5", response("4", RIGHT), id="1")], "eval.repeated-ids", {}),
        ([row("4", {"finalanswer": "4"})], "eval.no-scores", {}),
        ([row("4", response("4", RIGHT), vlmresponse9999999999999999=None)], "eval.bad-solutions", {"rows": [1]}),
        ([row("4", response("4", RIGHT), datasource="OVERALL")], "eval.bad-solutions", {"rows": [1]}),
        (["text"], "data.not-an-object", {}),
    ],
)
def test_files_that_cannot_be_counted_are_refused(tmp_path: Path, rows: list[Any], code: str, values: Any) -> None:
    with refused(code, **values):
        read_solutions(written(tmp_path, rows))


def test_the_released_metric_chooses_its_position_over_the_whole_file(tmp_path: Path) -> None:
    def question(source: str | None, right: set[int], best: int) -> dict[str, Any]:
        responses = [response("4" if i in right else "5", RIGHT if i == best else HALF) for i in range(8)]
        return row("4", *responses, **({"datasource": source} if source else {}))

    rows = [question("a", {1, 2}, 1), question("a", {2}, 0), question("b", {2, 7}, 7), question(None, {0}, 3)]
    figures = released_best_of_n(written(tmp_path, rows))
    assert list(figures) == ["a", "b", "UNKNOWN", "OVERALL"]
    # position 3 is right three times; in UNKNOWN it is wrong, so Pass@1 there is 0 although the first one is right
    rate = {source: figures[source]["correctness_rate"] for source in figures}
    assert rate["a"]["pass_correct"] == [2, 1, 2, 2, 2, 2, 2, 2]
    assert rate["UNKNOWN"]["pass_correct"] == [0, 1, 1, 1, 1, 1, 1, 1]
    assert rate["OVERALL"]["pass_correct"] == [3, 2, 4, 4, 4, 4, 4, 4]
    # the first k: all 0.5 until the best one comes; a tie is right if one of it is
    assert rate["a"]["bon_correct"] == [0, 1, 1, 1, 1, 1, 1, 1]
    assert rate["b"]["bon_correct"] == [0, 0, 1, 1, 1, 1, 1, 1]
    assert rate["UNKNOWN"]["bon_correct"] == [1, 1, 1, 0, 0, 0, 0, 0]
    assert [figures[source]["total"] for source in figures] == [2, 1, 1, 4]
    assert set(figures["a"]) == {
        "total", "correctness_rate", "weighted_correctness", "streak_score", "geometric_mean", "first_error_position",
    }  # fmt: skip


def test_released_a_missing_response_is_below_one_without_scores(
    tmp_path: Path,
) -> None:
    rows = [row("4", {"error": "?"}, response("4", WRONG)), row("4", response("5", WRONG), {"finalanswer": "4"})]
    figures = released_best_of_n(written(tmp_path, rows))["OVERALL"]
    assert figures["correctness_rate"]["bon_correct"] == [0, 2, 2, 2, 2, 2, 2, 2]
    missing = released_best_of_n(written(tmp_path, [row("4", None, None)]))["OVERALL"]
    assert missing["streak_score"] == {"pass_correct": [0] * 8, "bon_correct": [0] * 8}


def test_the_released_metric_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    with refused("eval.null-scores", row=1, response=1):
        released_best_of_n(written(tmp_path, [row("4", response("4", [None]))]))
    with refused("eval.bad-solutions", rows=[2]):
        released_best_of_n(written(tmp_path, [row("4", response("4", RIGHT)), row("4", response("4", ["1"]))]))
    with refused("eval.bad-solutions", rows=[3]) as caught:
        released_best_of_n(written(tmp_path, ["", row("4", response("4", RIGHT)), row("4", response("4", [9]))]))
    assert "scored.jsonl row 3" in str(caught.value)
    with refused("file.empty"):
        released_best_of_n(written(tmp_path, []))


def test_beyond_16_candidates_a_curve_has_powers_of_two_and_all() -> None:
    assert sizes(3) == [1, 2, 3]
    assert sizes(16) == list(range(1, 17))
    assert sizes(20) == [1, 2, 4, 8, 16, 20]
    assert sizes(32) == [1, 2, 4, 8, 16, 32]
