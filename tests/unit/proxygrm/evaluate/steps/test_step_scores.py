"""`eval score --bench visualprocessbench`: the figures, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from jobs.cli.main import main
from proxygrm.evaluate.steps.answers import read_step_answers
from proxygrm.evaluate.steps.benchmark import VISUALPROCESSBENCH
from proxygrm.evaluate.steps.figures import Judged, figures_of, finds_first_error
from support.refusals import code_of, refused

# Of test.jsonl: (right, wrong) steps of each source.
LABELLED = {
    "MathVerse_MINI_Vision_Only": (5767, 2960),
    "MathVision_MINI": (3875, 2350),
    "DynaMath": (3469, 1091),
    "WeMath": (1776, 582),
    "MMMU_DEV_VAL": (1698, 708),
}


def write(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(label: list[object], pred: list[object], source: str = "WeMath", **more: object) -> dict[str, object]:
    return {"data_source": source, "label": label, "pred": pred, **more}


def full_release(verdict: int) -> list[dict[str, object]]:
    """As many solutions and steps of each source as the release has, with its numbers of labels."""
    rows = []
    for source, size in VISUALPROCESSBENCH.sizes.items():
        right, wrong = LABELLED[source]
        labels = [1] * right + [-1] * wrong + [0] * (size.steps - right - wrong)
        for start in range(size.solutions):
            part = labels[start :: size.solutions]
            rows.append(row(part, [verdict] * len(part), source))
    return rows


@pytest.mark.parametrize(("verdict", "f1"), [(1, (0.8118, 0.0, 0.4059)), (-1, (0.0, 0.4812, 0.2406))])
def test_one_answer_for_all_steps_of_the_release_has_the_known_figures(tmp_path, verdict, f1):
    file = write(tmp_path / "rows.jsonl", full_release(verdict))
    done = CliRunner().invoke(
        main, ["eval", "score", "--bench", "VisualProcessBench", "--answers", str(file), "--json"]
    )
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    assert (figures["steps"], figures["neutral_dropped"]) == (24_276, 2_674)
    assert [figures[name] for name in ("f1_correct", "f1_incorrect", "macro_f1")] == pytest.approx(f1, abs=5e-5)
    assert figures["by_source"]["WeMath"]["steps"] == 2_358
    assert set(figures["by_source"]["WeMath"]) == set(figures) - {"by_source"}
    assert done.stderr == ""


def test_null_is_a_false_negative_of_its_label_and_a_false_positive_of_nothing():
    figures = figures_of([Judged("a", (1, 1, 1, -1, -1, 0), (1, -1, None, -1, None, 1))])
    assert figures["f1_correct"] == pytest.approx(2 * 1 / (2 * 1 + 0 + 2))
    assert figures["f1_incorrect"] == pytest.approx(2 * 1 / (2 * 1 + 1 + 1))
    assert (figures["steps"], figures["neutral_dropped"]) == (5, 1)


@pytest.mark.parametrize(
    ("labels", "verdicts", "found"),
    [
        ((1, -1, 1), (1, -1, -1), True),
        ((1, -1), (-1, -1), False),
        ((1, -1), (1, 1), False),
        ((1, 1), (1, 1), True),
        ((1, 1), (1, -1), False),
        ((0, 1, -1), (-1, 1, -1), True),
        ((1, -1), (None, -1), False),
        ((1, -1, 1), (1, -1, None), True),
        ((1, 1), (1, None), False),
        ((-1, 1), (None, 1), False),
    ],
)
def test_the_first_error_is_found_when_everything_up_to_it_is_right(labels, verdicts, found):
    assert finds_first_error(labels, verdicts) is found


def test_sources_are_pooled_by_their_steps_and_reported_one_by_one():
    pooled = figures_of([Judged("b", (1, 1, 1), (1, 1, 1)), Judged("a", (-1,), (1,))])
    assert pooled["f1_correct"] == pytest.approx(6 / 7)
    assert pooled["first_error_accuracy"] == 0.5
    assert list(pooled["by_source"]) == ["a", "b"]
    assert (pooled["by_source"]["b"]["f1_correct"], pooled["by_source"]["a"]["f1_correct"]) == (1.0, 0.0)


def test_scores_become_verdicts_above_the_threshold(tmp_path):
    file = write(tmp_path / "rows.jsonl", [{"data_source": "WeMath", "label": [1, -1, 1], "scores": [0.9, 0.85, None]}])
    read = read_step_answers(file, VISUALPROCESSBENCH, partial=True, threshold=0.85)
    assert read.solutions == [Judged("WeMath", (1, -1, 1), (1, -1, None))]
    assert [note.split(":")[0] for note in read.notes] == [
        "PARTIAL",
        "1 of 3 verdicts are unreadable (null); each counts against its label",
    ]
    with refused("eval.bad-answers"):
        read_step_answers(file, VISUALPROCESSBENCH, partial=True)


def test_part_of_the_benchmark_needs_partial_and_is_marked(tmp_path):
    file = write(tmp_path / "rows.jsonl", [row([1, -1], [1, None])])
    command = ["eval", "score", "--bench", "visualprocessbench", "--answers", str(file), "--json"]
    done = CliRunner().invoke(main, command)
    assert (done.exit_code, code_of(done.stderr)) == (2, "eval.partial-steps")
    done = CliRunner().invoke(main, [*command, "--partial"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["steps"] == 2
    assert "PARTIAL: 1 solutions" in done.stderr
    assert "1 of 2 verdicts are unreadable" in done.stderr


def test_rows_that_cannot_be_scored_are_named_by_reason(tmp_path):
    rows = [
        row([1, -1], [1]),
        row([1, 2], [1, 1]),
        row([1], ["1"]),
        row([1], [True]),
        row([], []),
        {"label": [1], "pred": [1]},
        [1],
        {"data_source": "WeMath", "label": [1]},
        row([1], [1], id="a"),
        row([1], [1], id="a"),
        row([1], [0]),
    ]
    file = write(tmp_path / "rows.jsonl", rows)
    with refused(
        "eval.bad-answers",
        reasons={
            "another number of values in pred than in label": [1],
            "a label that is not 1, 0 or -1": [2],
            "a pred that is not 1, -1 or null": [3, 4, 11],
            "no label": [5],
            "no data_source": [6],
            "not a JSON object": [7],
            "no pred": [8],
            "an id that an earlier row has": [10],
        },
    ):
        read_step_answers(file, VISUALPROCESSBENCH, partial=True)


def test_a_line_that_is_cut_off_is_left_out_of_a_partial_score_only(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(row([1], [1])) + '\n{"data_source": "We')
    with refused("eval.bad-answers", reasons={"cut off": [2]}):
        read_step_answers(file, VISUALPROCESSBENCH)
    read = read_step_answers(file, VISUALPROCESSBENCH, partial=True)
    assert len(read.solutions) == 1
    assert any("row 2) is cut off" in note for note in read.notes)
    file.write_bytes(json.dumps(row([1], [1])).encode() + '\n{"data_source": "é"}'.encode("latin-1"))
    with refused("eval.bad-answers", reasons={"not UTF-8": [2]}):  # it is all there
        read_step_answers(file, VISUALPROCESSBENCH, partial=True)


def test_options_of_pairs_have_no_effect_on_steps(tmp_path):
    file = write(tmp_path / "rows.jsonl", [row([1], [1])])
    command = ["eval", "score", "--answers", str(file)]
    done = CliRunner().invoke(main, [*command, "--bench", "visualprocessbench", "--policy", "drop"])
    assert code_of(done.stderr) == "option.no-effect"
    done = CliRunner().invoke(main, [*command, "--bench", "vl-rewardbench", "--threshold", "0.5"])
    assert code_of(done.stderr) == "option.no-effect"
    done = CliRunner().invoke(main, ["eval", "score", "--bench", "visualprocessbench"])
    assert code_of(done.stderr) == "eval.needs-answers"
    done = CliRunner().invoke(
        main, [*command, "--bench", "visualprocessbench", "--answers", str(tmp_path), "--partial"]
    )
    assert done.exit_code == 2


def test_the_table_shows_the_same_figures_and_ends_with_the_warnings(tmp_path):
    file = write(tmp_path / "rows.jsonl", [row([1, 0, -1], [1, 1, -1]), row([1], [None], "DynaMath")])
    done = CliRunner().invoke(
        main, ["eval", "score", "--bench", "visualprocessbench", "--answers", str(file), "--partial"]
    )
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert any("WeMath" in line and "100.00" in line for line in lines)
    assert done.stdout.index("PARTIAL") > done.stdout.index("all steps")
