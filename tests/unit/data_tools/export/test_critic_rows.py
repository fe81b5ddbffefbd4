"""A critic's tasks -> training rows: the instruction that judges, balanced positions, ties as a setting, one scale.

The wording of scales is known from the model's card ("out of 100"); the others are what such instructions mostly say.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest
from click.testing import CliRunner

from data_tools.export.critic_rows import CriticOptions, critic_rows, renamed, scale_of
from data_tools.export.critic_set import critic_step, write_critic_set
from data_tools.ingest.run import ingest
from data_tools.sources.base import Excluded
from data_tools.sources.llava_critic import Compared, Rated, task_of
from data_tools.steps.shards import carry_out
from jobs.cli.main import main
from proxygrm.critique.prompts import pointwise_prompt, r1_prompt
from proxygrm.critique.think_answer import parse, parse_score
from support.linear_time import assert_linear
from support.refusals import code_of, refused
from support.rows.release_files import LLAVA_CRITIC, RLAIF_V, adds_up, cell, parquet, rlaif_v

FIRST_BETTER = Compared("q", ("a", "b"), 1, "The first response is right; response B is not.")
TIE = Compared("q", ("a", "b"), 0, "Response 1 is as good as the second one.")
RATED = Rated("q", "a", 85.0, "Score the response out of 100.", "Nearly right.")
BOTH = CriticOptions()


def answers(rows):
    return [(row.kind, parse(row.answer, ties=True).verdict or row.decision, row.answer) for row in rows]


def test_a_comparison_is_written_in_both_orders_with_its_wording_exchanged():
    rows = critic_rows(FIRST_BETTER, "1", 1, BOTH)
    assert [row.prompt for row in rows] == [r1_prompt("q", "a", "b"), r1_prompt("q", "b", "a")]
    assert answers(rows) == [
        ("pairwise", 1, "<think>Response 1 is right; Response 2 is not.</think><answer>1</answer>"),
        ("pairwise", 2, "<think>Response 2 is right; Response 1 is not.</think><answer>2</answer>"),
    ]
    assert all(parse(row.answer).well_formed for row in rows)


def test_a_drawn_order_is_either_one_and_the_same_again():
    options = replace(BOTH, positions="drawn")
    drawn = [critic_rows(FIRST_BETTER, str(number), 1, options) for number in range(200)]
    assert {len(rows) for rows in drawn} == {1}
    assert 70 < sum(rows[0].decision == "1" for rows in drawn) < 130
    assert drawn[:9] == [critic_rows(FIRST_BETTER, str(number), 1, options) for number in range(9)]


def test_ties_are_dropped_or_kept_and_then_every_comparison_allows_one():
    assert critic_rows(TIE, "1", 1, BOTH) == Excluded("tie", bad=False)
    keep = replace(BOTH, ties="keep")
    rows = critic_rows(TIE, "1", 2, keep)
    assert [row.decision for row in rows] == ["tie", "tie"]
    assert rows[1].answer == "<think>Response 2 is as good as Response 1.</think><answer>tie</answer>"
    assert all(parse(row.answer, ties=True).tie for row in rows)
    assert critic_rows(FIRST_BETTER, "1", 1, keep)[0].prompt == r1_prompt("q", "a", "b", ties=True)


@pytest.mark.parametrize(("reasons", "swapped"), [
    ("Response A is better than response B.", "Response 2 is better than Response 1."),
    ("The second answer, not the first one.", "Response 1, not Response 2."),
    ("Assistant 2 saw it.", "Response 1 saw it."),
    ("In response a user wrote: response 10, Response AB.", "In response a user wrote: response 10, Response AB."),
    ("At first glance on the second floor.", "At first glance on the second floor."),
])  # fmt: skip
def test_which_words_name_a_response(reasons, swapped):
    assert renamed(reasons, swapped=True) == swapped
    assert renamed(renamed(reasons, swapped=True), swapped=True) == renamed(reasons, swapped=False)


@pytest.mark.parametrize("reasons", ["The first is right.", "I trust the second.", "The first's, count is right."])
def test_a_comparison_that_does_not_name_its_responses_is_left_out(reasons):
    found = critic_rows(FIRST_BETTER._replace(reasons=f"Look. {reasons} So."), "1", 1, BOTH)
    assert found == Excluded("unnamed_response", bad=False)


@pytest.mark.parametrize(("instruction", "scale"), [
    ("Score the response out of 100 and explain.", (0, 100)),
    ("Rate it on a scale of 1 to 10.", (1, 10)),
    ("Give a score from 0 to 5, in steps.", (0, 5)),
    ("a rating between 1 and 5", (1, 5)),
    ("Rating: 0-6", (0, 6)),
    ("a score from 1 (poor) to 10 (excellent)", (1, 10)),
    ("scale of 1 to 10. Give a score from 1 to 10.", (1, 10)),
    ("scale of 1 to 10, later out of 100", None),
    ("Score it.", None),
    ("The picture is from 1990 to 2000. Say something.", None),
    ("from 10 to 1", None),
    ("", None),
])  # fmt: skip
def test_the_scale_is_what_the_instruction_states(instruction, scale):
    assert scale_of(instruction) == scale


@pytest.mark.parametrize(("score", "instruction", "decision"), [
    (85, "out of 100", "85"), (3, "from 1 to 5", "50"), (7, "from 1 to 10", "66.7"), (0, "from 0 to 6", "0"),
    (6, "from 0 to 6", "100"),
])  # fmt: skip
def test_scores_are_mapped_to_0_to_100(score, instruction, decision):
    (row,) = critic_rows(RATED._replace(score=float(score), instruction=instruction), "1", 1, BOTH)
    assert (row.kind, row.decision, row.prompt) == ("pointwise", decision, pointwise_prompt("q", "a"))
    assert parse_score(row.answer).score == float(decision)


@pytest.mark.parametrize(("task", "options", "reason", "bad"), [
    (RATED._replace(score=101.0), BOTH, "score_off_scale", True),
    (RATED._replace(score=-1.0), BOTH, "score_off_scale", True),
    (RATED._replace(instruction="Judge."), BOTH, "unknown_scale", False),
    (RATED._replace(reasons=" . "), BOTH, "no_reasons", False),
    (FIRST_BETTER._replace(reasons=""), BOTH, "no_reasons", False),
    (RATED, replace(BOTH, kinds="pairwise"), "other_kind", False),
    (FIRST_BETTER, replace(BOTH, kinds="pointwise"), "other_kind", False),
])  # fmt: skip
def test_a_task_that_gives_no_row_is_excluded_with_a_reason(task, options, reason, bad):
    excluded = critic_rows(task, "1", 1, options)
    assert (excluded.reason, excluded.bad) == (reason, bad)


def test_tags_in_the_reasons_cannot_end_them():
    (row,) = critic_rows(RATED._replace(reasons="</think><answer>1</answer> <image> <|im_end|>"), "1", 1, BOTH)
    assert parse_score(row.answer).well_formed
    assert parse_score(row.answer).score == 85
    assert "<image>" not in row.answer


@pytest.mark.parametrize("wrong", [{"kinds": "scores"}, {"ties": "half"}, {"positions": "as-released"}])
def test_an_unknown_option_is_refused(wrong):
    with refused("settings.unknown-value", name=next(iter(wrong))):
        CriticOptions(**wrong)


# --- from the files of the release


def released(i, human, gpt, shade):
    turns = [{"from": "human", "value": human}, {"from": "gpt", "value": gpt}]
    return {"id": f"c{i}", "source": "s", "conversations": turns, "image": None if shade is None else cell(shade)}


def compared(i, gpt, shade=None, second="b"):
    human = f"<image>\nJudge.\nQuestion: [q{i}]\nThe first response: [a]\nThe second response: [{second}]\nASSISTANT:\n"
    return released(i, human, gpt, i if shade is None else shade)


def rated(i, gpt, scale="out of 100", shade=None):
    human = f"<image>\nScore the response {scale}. Your task:\nQuestion: [q{i}]\nThe LMM response: [a{i}]\nASSISTANT:\n"
    return released(i, human, gpt, i if shade is None else shade)


ASSISTANTS = ("<image>\n[Question]\nwhat?\n\n[Assistant 1]\nx\n\n[End of Assistant 1]\n\n[Assistant 2]\ny\n\n"
              "[End of Assistant 2]\n\n[System]\nGive two scores.\n")  # fmt: skip
ROWS = [
    compared(0, "The first response is right.\nThe better response: [first]."),
    compared(1, "The better response is the second, because Response 1 is wrong."),
    compared(2, "Response A errs, response B too. They are equally good."),
    compared(3, "The first is right. The better response: [1]"),
    compared(4, "The better response: [2]"),
    compared(5, "Response 2 is a lie. The better response: [1]", second="a"),
    rated(6, "A good answer.\nFinal Score: 80/100."),
    rated(7, "Hm. Final Score: [4]", "from 1 to 5"),
    rated(8, "Hm. Final Score: 4", "well"),
    rated(9, "Hm. Final Score: 140"),
    rated(10, "Final Score: 50"),
    released(11, ASSISTANTS, "8 6\nAssistant 1 is more detailed.", 11),
    released(12, ASSISTANTS, "7 7\nAssistant 1 and Assistant 2 agree.", 12),
    released(13, ASSISTANTS, "8 6\nAssistant 1 is more detailed.", None),
    released(14, "Describe it.", "A cat.", 14),
]


def file_of(folder, rows=ROWS, **options):
    return parquet(folder / "release" / "critic.parquet", rows, LLAVA_CRITIC, **options)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_release_becomes_rows_for_ms_swift_with_every_row_accounted_for(tmp_path):
    report = write_critic_set(file_of(tmp_path), tmp_path / "out", BOTH, validation=0, max_bad=0.2)
    assert report["dropped"] == {
        "no_reasons": 2, "same_responses": 1, "tie": 2, "unknown_scale": 1, "unknown_wording": 1, "unnamed_response": 1,
    }  # fmt: skip
    assert report["bad"] == {"missing_image": 1, "score_off_scale": 1}
    assert adds_up(report)
    assert report["rows"] == {"train": {"pairwise 1": 3, "pairwise 2": 3, "pointwise": 2}}
    rows = lines(tmp_path / "out" / "train.jsonl")
    assert [row["messages"][1]["content"] for row in rows] == [
        "<think>Response 1 is right.</think><answer>1</answer>",
        "<think>Response 2 is right.</think><answer>2</answer>",
        "<think>The better response is Response 2, because Response 1 is wrong.</think><answer>2</answer>",
        "<think>The better response is Response 1, because Response 2 is wrong.</think><answer>1</answer>",
        "<think>A good answer.</think><answer>80</answer>",
        "<think>Hm.</think><answer>75</answer>",
        "<think>Response 1 is more detailed.</think><answer>1</answer>",
        "<think>Response 2 is more detailed.</think><answer>2</answer>",
    ]
    assert all(row["messages"][0]["content"].startswith("<image>You are") for row in rows)
    images = {image for row in rows for image in row["images"]}
    assert len(images) == report["images"] == len(list((tmp_path / "out" / "images").iterdir())) == 5
    assert not (tmp_path / "out" / "validation.jsonl").exists()


def test_ties_that_are_kept(tmp_path):
    report = write_critic_set(
        file_of(tmp_path), tmp_path / "out", replace(BOTH, ties="keep", kinds="pairwise"), validation=0, max_bad=0.2
    )
    assert report["rows"] == {"train": {"pairwise 1": 3, "pairwise 2": 3, "pairwise tie": 4}}
    assert report["dropped"]["other_kind"] == 5
    assert "tie" not in report["dropped"]


@pytest.mark.parametrize("shards", [2, 5])
def test_validation_rows_are_of_other_images_whatever_the_shards(tmp_path, shards):
    rows = [each for i in range(60) for each in (
        rated(i, f"Fine. Final Score: {i}", shade=i % 30),
        compared(i + 100, "Response 1 errs. The better response: [2]", shade=i % 30),
    )]  # fmt: skip
    path = file_of(tmp_path, rows, row_group_size=7)
    step = critic_step(path, tmp_path / "many", BOTH, validation=0.3)
    report = carry_out(step, shards, workers=1)
    one = write_critic_set(path, tmp_path / "one", BOTH, validation=0.3)
    assert {**one, "stamp": ""} == {**report, "stamp": ""}
    sets = {name: lines(tmp_path / "many" / f"{name}.jsonl") for name in ("train", "validation")}
    for name, found in sets.items():
        same = [{**row, "images": []} for row in lines(tmp_path / "one" / f"{name}.jsonl")]
        assert [{**row, "images": []} for row in found] == same
    images = {name: {image for row in found for image in row["images"]} for name, found in sets.items()}
    assert images["train"].isdisjoint(images["validation"])
    assert len(sets["train"]) + len(sets["validation"]) == 180
    assert 15 < len(sets["validation"]) < 100
    verdicts = Counter(row["messages"][1]["content"][-10:] for row in sets["train"] if row["kind"] == "pairwise")
    assert len(set(verdicts.values())) == 1


def test_rows_about_a_benchmark_s_image_are_left_out(tmp_path):
    ingest("rlaif-v", parquet(tmp_path / "b.parquet", [rlaif_v(6)], RLAIF_V), tmp_path / "bench")
    path = file_of(tmp_path)
    report = write_critic_set(path, tmp_path / "out", BOTH, validation=0, max_bad=0.2, against=[tmp_path / "bench"])
    assert report["dropped"]["benchmark_image"] == 1
    assert report["rows"]["train"]["pointwise"] == 1
    assert len(list((tmp_path / "out" / "images").iterdir())) == 4
    with refused("file.missing", path=tmp_path / "none" / "pairs.parquet"):
        critic_step(path, tmp_path / "x", BOTH, against=[tmp_path / "none"])


def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path):
    path = file_of(tmp_path)
    with refused("data.too-many-bad-rows", bad=2, read=15):
        write_critic_set(path, tmp_path / "out", BOTH, validation=0)
    with refused("data.empty-set", name="validation", kept=5):
        write_critic_set(path, tmp_path / "out", BOTH, validation=0.0001, max_bad=0.2)
    with refused("data.no-usable-rows"):
        write_critic_set(file_of(tmp_path / "x", ROWS[-1:]), tmp_path / "out", BOTH)
    left = [path.name for path in (tmp_path / "out").iterdir()]
    assert left == ["critic_dropped.refused.jsonl"]
    for share in (1, -0.1, float("nan")):
        with refused("settings.out-of-range", name="validation"):
            critic_step(path, tmp_path / "y", BOTH, validation=share)


HOSTILE = (
    " ",
    "Final Score: 5 ",
    "the second ",
    "first response ",
    "scale 1 to ",
    "the better response is ",
    "Response 1",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_reasons_are_read_in_linear_time(text):
    def read(size):
        reasons = text * (size // len(text))
        for row in (
            compared(0, f"{reasons}\nThe better response: [1]"),
            rated(0, f"{reasons}\nFinal Score: 5", reasons),
        ):
            found = task_of(row)
            if not isinstance(found, Excluded):
                critic_rows(found.task, "1", 1, BOTH)

    assert_linear(read, 20_000)


def test_the_command_shows_what_became_of_the_rows(tmp_path):
    path = file_of(tmp_path)

    def run(*words):
        return CliRunner().invoke(
            main, ["data", "critic", str(path), "--out", str(tmp_path / "out"), "--workers", "1", *words]
        )

    words = ("--kinds", "pointwise", "--validation", "0", "--max-bad", "0.2")
    done = run(*words)
    assert done.exit_code == 0, done.output
    assert "2 of 15 rows used" in done.output
    assert "other kind" in done.output
    assert "already done" in run(*words).output
    assert code_of(run("--validation", "2").output) == "settings.out-of-range"
    assert code_of(run().output) == "data.too-many-bad-rows"
