"""`proxygrm eval ensemble`: weights, text-only pairs, layouts, and files that do not fit together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from click.testing import CliRunner

from jobs.cli.main import main
from proxygrm.evaluate.ensemble.combine import combine
from support.refusals import code_of, refused

A = {"1": (0.5, 0.0), "2": (0.2, 0.4), "3": (1.0, 0.0)}
NAMED: Mapping[str, list[str]] = MappingProxyType({})
B = {"1": (0.0, 2.0), "2": (6.0, 0.0), "3": (0.0, 4.0)}


def given(path: Path, scores: dict[str, tuple[float, float]]) -> Path:
    return write(path, [{"id": id_, "score_1": one, "score_2": two} for id_, (one, two) in scores.items()])


def rewards(path: Path, scores: dict[str, tuple[float, float]]) -> Path:
    """Of the chosen and the rejected response; the second row is reversed."""
    rows: list[dict[str, Any]] = [{"id": id_, "rewards": list(pair)} for id_, pair in scores.items()]
    rows[1] = {"id": rows[1]["id"], "rewards": rows[1]["rewards"][::-1], "reverse": True}
    return write(path, rows)


def judged(
    path: Path, scores: dict[str, tuple[float, float]], images: Mapping[str, list[str]] = MappingProxyType({})
) -> Path:
    """answers.jsonl: the scores of the better and the worse response; the second pair is shown in the other order."""
    rows = []
    for number, (id_, pair) in enumerate(scores.items(), 1):
        swapped = number == 2
        shown = list(pair[::-1] if swapped else pair)
        rows.append(
            {"id": id_, "copy": 0, "order": "swapped" if swapped else "as_is", "label": 2 if swapped else 1}
            | {
                "verdict": 1,
                "correct": None,
                "scores": shown,
                "question": "q",
                "images": (images or {}).get(id_, ["i"]),
            }
            | {"response_1": "worse" if swapped else "better", "response_2": "better" if swapped else "worse"}
        )
    return write(path, rows)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def of(path: Path) -> dict[str, tuple[float, float]]:
    return {row["id"]: (row["score_1"], row["score_2"]) for row in read(path)}


def test_the_mean_of_the_scores(tmp_path: Path) -> None:
    made = combine([given(tmp_path / "a", A), given(tmp_path / "b", B)], tmp_path / "out.jsonl")
    assert of(tmp_path / "out.jsonl") == {"1": (0.25, 1.0), "2": (3.1, 0.2), "3": (0.5, 2.0)}
    assert (made.pairs, list(made.weights.values()), made.text_only) == (3, [0.5, 0.5], 0)


def test_accuracy_and_margin_weights_come_from_the_validation_pairs(tmp_path: Path) -> None:
    files = [given(tmp_path / "a", A), given(tmp_path / "b", B)]
    good = rewards(tmp_path / "va", {"7": (0.4, 0.1), "8": (0.3, 0.2), "9": (0.5, 0.0)})  # 3 of 3, margins .3 .1 .5
    poor = rewards(tmp_path / "vb", {"7": (3.0, 3.0), "8": (0.0, 2.0), "9": (5.0, 0.0)})  # 1 of 3, margins 0 -2 5
    out = tmp_path / "out.jsonl"
    by_accuracy = combine(files, out, "accuracy", [good, poor])
    assert list(by_accuracy.weights.values()) == pytest.approx([0.75, 0.25])
    assert of(out)["1"] == pytest.approx((0.75 * 0.5, 0.25 * 2.0))
    by_margin = combine(files, out, "margin", [good, poor])
    assert list(by_margin.weights.values()) == pytest.approx([0.3 / 1.3, 1 / 1.3])
    # A judge that prefers the worse responses has no say.
    wrong = rewards(tmp_path / "vc", {"7": (0.0, 1.0), "8": (0.0, 1.0), "9": (0.0, 1.0)})
    assert list(combine(files, out, "margin", [good, wrong]).weights.values()) == [1.0, 0.0]
    assert of(out) == A


def test_standardised_scores_count_in_deviations_of_each_judge(tmp_path: Path) -> None:
    files = [given(tmp_path / "a", {"1": (1.0, 0.0)}), given(tmp_path / "b", {"1": (-100.0, 100.0)})]
    out = tmp_path / "out.jsonl"
    combine(files, out, "standardised")
    assert of(out) == {"1": (0.0, 0.0)}  # (+1 -1) / 2 and (-1 +1) / 2
    validation = [given(tmp_path / "va", {"7": (4.0, 0.0)}), given(tmp_path / "vb", {"7": (50.0, 150.0)})]
    combine(files, out, "standardised", validation)
    assert of(out)["1"] == pytest.approx(((-0.5 - 4) / 2, (-1 + 0) / 2))


def test_one_file_is_not_two_judges(tmp_path: Path) -> None:
    one = given(tmp_path / "a", A)
    (tmp_path / "link").symlink_to(one)
    with refused("ensemble.same-file", path=tmp_path / "link"):
        combine([one, tmp_path / "link"], tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


SCORED = {"id": "1", "rewards": [1.0, 0.0]}
FAULTS: list[tuple[dict[str, Any], str]] = [
    (SCORED | {"rewards": [10**400, 0]}, "scores beyond 1e+100"),
    (SCORED | {"rewards": [1.7e308, -1.7e308]}, "scores beyond 1e+100"),
    (SCORED | {"rewards": [float("-inf"), 0]}, "NaN or an infinity"),
    (SCORED | {"score_1": 1.0, "score_2": 0.0}, "both `score_1` and `rewards`"),
    (SCORED | {"reverse": "no"}, "`reverse` is neither true nor false"),
]
JUDGED_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"order": None}, "`order` is neither as_is nor swapped"),
    ({"label": None}, "`label` is neither 1 nor 2"),
    ({"copy": [1]}, "`copy` is not a whole number"),
    ({"question": None, "response_1": 3}, "no text in `question`, `response_1`"),
]


@pytest.mark.parametrize(("row", "reason"), FAULTS)
def test_rows_that_cannot_be_combined_are_refused(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    files = [write(tmp_path / "a", [SCORED]), write(tmp_path / "b", [row])]
    with refused("judge.bad-scores", reasons={reason: [1]}):
        combine(files, tmp_path / "out.jsonl", "standardised")
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(("change", "reason"), JUDGED_FAULTS)
@pytest.mark.parametrize("absent", [False, True])
def test_judgements_without_what_pairs_them_are_refused(
    tmp_path: Path, change: dict[str, Any], reason: str, absent: bool
) -> None:
    whole, broken = judged(tmp_path / "a", A), judged(tmp_path / "b", A)
    first, *others = read(broken)
    row = {name: value for name, value in first.items() if name not in change} if absent else first | change
    write(broken, [row, *others])
    if absent and "copy" in change:  # the first one
        assert combine([whole, broken], tmp_path / "out.jsonl").pairs == len(A)
        return
    for files in ([whole, broken], [broken, whole]):
        with refused("judge.bad-scores", reasons={reason: [1]}):
            combine(files, tmp_path / "out.jsonl")


def test_files_of_every_layout_go_together_where_the_better_response_is_known(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    combine([rewards(tmp_path / "a", A), judged(tmp_path / "b", B)], out)
    assert read(out)[1] == {"id": "2", "rewards": pytest.approx([0.2, 3.1]), "reverse": True}
    combine([judged(tmp_path / "b", B), rewards(tmp_path / "a", A)], out)
    rows = read(out)
    assert [row["scores"] for row in rows] == [[0.25, 1.0], pytest.approx([0.2, 3.1]), [0.5, 2.0]]
    assert [(row["verdict"], row["correct"]) for row in rows] == [(2, False), (2, True), (2, False)]
    # With response 1 and 2 given, the order of a judgement row is undone.
    combine([given(tmp_path / "c", A), judged(tmp_path / "b", B)], out)
    assert of(out)["2"] == pytest.approx((3.1, 0.2))


def test_equal_scores_are_a_tie(tmp_path: Path) -> None:
    combine(
        [judged(tmp_path / "a", {"1": (1.0, 0.0)}), judged(tmp_path / "b", {"1": (0.0, 1.0)})], tmp_path / "o.jsonl"
    )
    assert [(row["verdict"], row["correct"]) for row in read(tmp_path / "o.jsonl")] == [("tie", None)]


def test_pairs_without_an_image_go_to_the_text_only_judge(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    text = given(tmp_path / "c", {"2": (9.0, 8.0)})
    made = combine([given(tmp_path / "a", A), given(tmp_path / "b", B)], out, text_only=text)
    assert of(out) == {"1": (0.25, 1.0), "2": (9.0, 8.0), "3": (0.5, 2.0)}
    assert made.text_only == 1
    # Judgement rows say which pairs have no image, also where the text judge scored the others too.
    all_of_them = given(tmp_path / "d", {"1": (9.0, 8.0), "2": (9.0, 8.0), "3": (9.0, 8.0)})
    made = combine([judged(tmp_path / "e", A, {"3": []})], out, text_only=all_of_them)
    assert [row["scores"] for row in read(out)] == [[0.5, 0.0], [0.4, 0.2], [9.0, 8.0]]
    assert made.text_only == 1
    # The other judges need not have scored them.
    combine([given(tmp_path / "a", A), given(tmp_path / "f", {"1": B["1"], "3": B["3"]})], out, text_only=text)
    assert of(out)["2"] == (9.0, 8.0)


def test_repeated_ids_are_matched_in_their_order(tmp_path: Path) -> None:
    for name, first, second in (("a", 1.0, 3.0), ("b", 3.0, 5.0)):
        write(tmp_path / name, [{"id": "x", "score_1": s, "score_2": 0} for s in (first, second)])
    combine([tmp_path / "a", tmp_path / "b"], tmp_path / "out.jsonl")
    assert [row["score_1"] for row in read(tmp_path / "out.jsonl")] == [2.0, 4.0]


def test_files_over_other_pairs_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    out, a = tmp_path / "out.jsonl", given(tmp_path / "a", A)
    fewer, others = given(tmp_path / "b", {"1": B["1"]}), given(tmp_path / "c", B | {"4": (0.0, 1.0)})
    with refused("ensemble.other-pairs", path=fewer, ids=["2", "3"]):
        combine([a, fewer], out)
    with refused("ensemble.other-pairs", path=a, ids=["4"]):
        combine([a, others], out)
    with refused("ensemble.other-pairs", path=tmp_path / "t", ids=["5"]):
        combine([a, given(tmp_path / "b", B)], out, text_only=given(tmp_path / "t", {"5": (1.0, 0.0)}))
    with refused("ensemble.other-pairs", path=tmp_path / "t"):
        combine([judged(tmp_path / "j", A, {"3": []})], out, text_only=given(tmp_path / "t", {"1": (1.0, 0.0)}))
    with refused("ensemble.other-pairs", path=tmp_path / "va", ids=["9"]):
        combine(
            [a, given(tmp_path / "a2", A)],
            out,
            "accuracy",
            [rewards(tmp_path / "va", A), rewards(tmp_path / "vb", A | {"9": (1, 0)})],
        )
    rows = read(judged(tmp_path / "k", A))
    rows[2]["question"] = "another"
    with refused("ensemble.other-pairs", ids=["3"]):
        combine([judged(tmp_path / "j", A), write(tmp_path / "k", rows)], out)
    assert not out.exists()


def test_rows_that_are_not_scores_are_refused(tmp_path: Path) -> None:
    out, a = tmp_path / "out.jsonl", given(tmp_path / "a", A)
    (tmp_path / "nan").write_text('{"id": "1", "score_1": NaN, "score_2": 0}\n{"id": "2", "score_1": 1}\n')
    with refused("judge.bad-scores", reasons={"NaN or an infinity": [1], "scores that are not numbers": [2]}):
        combine([a, tmp_path / "nan"], out)
    generative = read(judged(tmp_path / "g", A))
    write(tmp_path / "g", [row | {"scores": None} for row in generative])
    with refused("judge.bad-scores", reasons={"no pair of scores": [1, 2, 3]}):
        combine([a, tmp_path / "g"], out)
    with refused("file.missing", path=tmp_path / "none"):
        combine([a, tmp_path / "none"], out)
    with refused("ensemble.other-layout", path=a):
        combine([a, rewards(tmp_path / "b", B)], out)
    assert not out.exists()


def test_weights_that_cannot_be_computed_are_refused(tmp_path: Path) -> None:
    out, files = tmp_path / "out.jsonl", [given(tmp_path / "a", A), given(tmp_path / "b", B)]
    known = rewards(tmp_path / "v", {"7": (0.0, 1.0), "8": (0.0, 1.0)})
    with refused("ensemble.no-labels", path=files[0]):
        combine(files, out, "accuracy", files)
    with refused("ensemble.no-weight", weights="margin"):
        combine(files, out, "margin", [known, known])
    with refused("ensemble.equal-scores", path=tmp_path / "e"):
        combine([files[0], given(tmp_path / "e", dict.fromkeys(A, (1.0, 1.0)))], out, "standardised")
    with refused("option.missing", option="--validation"):
        combine(files, out, "accuracy")
    with refused("ensemble.validation-count", validations=1, judges=2):
        combine(files, out, "accuracy", [known])
    with refused("option.no-effect", option="--validation"):
        combine(files, out, "mean", [known, known])
    with refused("ensemble.too-few", files=1):
        combine(files[:1], out)
    with refused("option.out-is-input", path=files[0]):
        combine(files, files[0])
    assert not out.exists()


def test_the_command_writes_a_score_file_that_eval_run_reads(tmp_path: Path) -> None:
    names = [str(given(tmp_path / "a.jsonl", A)), str(given(tmp_path / "b.jsonl", B))]
    out = tmp_path / "both.jsonl"
    done = CliRunner().invoke(main, ["eval", "ensemble", *names, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "3 pairs" in done.output
    pairs = [{"id": id_, "question": "q", "chosen": "c", "rejected": "r"} for id_ in A]
    write(tmp_path / "pairs.jsonl", pairs)
    run = ["eval", "run", "--pairs", str(tmp_path / "pairs.jsonl"), "--judge", str(out), "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(main, run)
    assert done.exit_code == 0, done.output
    assert len(read(tmp_path / "run" / "answers.jsonl")) == 3
    done = CliRunner().invoke(main, ["eval", "ensemble", names[0], "--out", str(out)])
    assert (done.exit_code, code_of(done.output)) == (2, "ensemble.too-few")
