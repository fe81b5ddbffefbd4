"""The training sets of process reward: inference's instructions, both sides apart, pairs that differ, and bad input."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from data_tools.export.step_rows import StepSetOptions
from data_tools.export.step_sets import Sources, step_sets_step, write_step_sets
from data_tools.steps.shards import carry_out
from jobs.cli.main import main
from proxygrm.process.solutions import Solution, read_solutions
from support.evaluate.http_judges import serving
from support.evaluate.solutions import MODEL, Service, process, read, write
from support.evaluate.taught import rows, solutions_folder, taught, write_solutions
from support.refusals import code_of, refused

pytestmark = pytest.mark.slow

IMAGES = 12
JUDGE = StepSetOptions()
NAMES = ("vision_sft", "vision_dpo", "step_judge", "audit")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Sources:
    """What the rule-based teacher wrote about three solutions of each image."""
    folder = tmp_path_factory.mktemp("taught")
    solutions = solutions_folder(folder / "solutions", IMAGES)
    return Sources(solutions, **taught(folder, solutions))


def written(out: Path) -> dict[str, list[dict]]:
    return {path.stem: read(path) for path in sorted(out.glob("*.jsonl")) if path.name != "dropped.jsonl"}


def prompt(row: dict) -> str:
    """The user's turn, without the image tags that ms-swift replaces."""
    text = row["messages"][0]["content"]
    assert text.count("<image>") == len(row["images"]) > 0
    return text.replace("<image>", "")


def answer(row: dict) -> str:
    assert [turn["role"] for turn in row["messages"]] == ["user", "assistant"]
    return row["messages"][1]["content"]


def test_the_instructions_are_those_that_scoring_sends_and_the_answers_are_read_as_scoring_reads_them(made, tmp_path):
    write_step_sets(made, tmp_path / "sets", JUDGE, validation=0)
    sets = written(tmp_path / "sets")
    assert list(sets) == sorted(NAMES)
    assert {name: len(each) for name, each in sets.items()} == {
        "vision_sft": IMAGES, "vision_dpo": IMAGES, "step_judge": 3 * IMAGES * 2 + 3 * IMAGES, "audit": 3 * IMAGES,
    }  # fmt: skip
    claims = {row["id"]: [step["visualdependency"] for step in row["steps"]] for row in rows(made.judgements)}
    policy = [
        {
            "question": solution.question,
            "image": list(solution.images),
            "vlmresponse1": {
                "reasoningprocess": [
                    {"steptext": text, "visualdependency": claim}
                    for text, claim in zip(solution.steps, claims[solution.id], strict=True)
                ],
                "finalanswer": "",
            },
        }
        for solution in read_solutions(made.solutions)
    ]
    service = Service()
    with serving(service) as url:
        process(
            "score", "--input", write(tmp_path / "policy.jsonl", policy), "--output", tmp_path / "scored.jsonl",
            "--images-root", made.solutions, "--judge", url, *MODEL,
        )  # fmt: skip
    sent = set(service.texts)
    steps = [row for row in sets["step_judge"] if not row["id"].endswith("/audit")]
    assert {prompt(row) for row in sets["vision_sft"] + sets["vision_dpo"] + steps} <= sent
    audits = {row["id"]: row for row in rows(made.audits)}
    against = {row["id"]: audits[row["id"].removesuffix("/audit")]["against"] for row in sets["audit"]}
    assert {prompt(row) in sent for row in sets["audit"] if against[row["id"]] == "description"} == {True}

    scored = {tuple(row["image"]): row for row in read(tmp_path / "scored.jsonl")}
    verdicts = {}
    for solution, row in zip(read_solutions(made.solutions), read(tmp_path / "scored.jsonl"), strict=True):
        for at, verdict in enumerate(row["vlmresponse1"]["eval"]["raw_step_scores"], 1):
            verdicts[f"{solution.id}/{at}"] = str(int(verdict))
    assert {row["id"]: answer(row) for row in steps} == verdicts
    assert set(Counter(verdicts.values())) == {"1", "-1"}
    for row in sets["vision_sft"]:
        image = f"images/{Path(row['images'][0]).name}"
        assert answer(row) == scored[(image,)]["__golden_image_description_raw__"]
    for row in sets["audit"]:
        assert json.loads(answer(row)) == audits[row["id"].removesuffix("/audit")]["audit"]


def test_images_are_absolute_and_those_of_this_folder(made, tmp_path, monkeypatch):
    monkeypatch.chdir(made.solutions.parent)
    write_step_sets(replace(made, solutions=Path("solutions")), tmp_path / "sets", JUDGE, validation=0)
    for row in (row for rows_of_set in written(tmp_path / "sets").values() for row in rows_of_set):
        assert all(Path(image).is_absolute() and Path(image).is_file() for image in row["images"])
        assert {Path(image).parents[1] for image in row["images"]} == {made.solutions}


def test_a_chosen_and_a_rejected_description_differ_and_equal_pairs_are_counted(made, tmp_path):
    contradicted = rows(made.contradictions)
    described = {tuple(row["image"]): row["image_description"] for row in rows(made.descriptions)}
    contradicted[0]["image_description"] = f" {described[tuple(contradicted[0]['image'])]}\n"
    write(tmp_path / "c.jsonl", contradicted[:-1])
    sources = replace(made, contradictions=tmp_path / "c.jsonl")
    report = write_step_sets(sources, tmp_path / "sets", JUDGE, validation=0)
    assert report["dropped"] == {"equal_pair": 1, "no_contradiction": 1}
    assert [row["reason"] for row in read(tmp_path / "sets" / "dropped.jsonl")] == ["equal_pair", "no_contradiction"]
    pairs = written(tmp_path / "sets")["vision_dpo"]
    assert len(pairs) == IMAGES - 2
    good = {row["id"]: answer(row) for row in written(tmp_path / "sets")["vision_sft"]}
    for row in pairs:
        assert answer(row) == good[row["id"]] != row["rejected_response"]
        assert set(json.loads(row["rejected_response"])) == {"image_description"}


def test_no_image_is_on_both_sides_not_even_one_that_two_rows_share(made, tmp_path):
    """Chains of two-image questions: 0-1, 1-2, ... tie the first five images together."""
    linked = [
        Solution(f"two{at}", "x", f"Compare {at}.", (f"images/{at:02}.png", f"images/{at + 1:02}.png"),
                 (f"Look {at}.",), (1,), None, True, None)
        for at in range(4)
    ]  # fmt: skip
    solutions = tmp_path / "solutions"
    solutions.mkdir()
    (solutions / "images").symlink_to(made.solutions / "images")
    write_solutions(solutions, [*read_solutions(made.solutions), *linked])
    sources = Sources(solutions, **taught(tmp_path, solutions))
    held = []
    for seed in range(6):
        report = write_step_sets(sources, tmp_path / f"{seed}", replace(JUDGE, seed=seed), validation=0.3)
        sets = written(tmp_path / f"{seed}")
        assert len(sets) == 8
        sides = {"train": set[str](), "val": set[str]()}
        for name, each in sets.items():
            assert each
            side = sides["val" if name.endswith("_val") else "train"]
            side.update(Path(image).name for row in each for image in row["images"])
        assert sides["train"].isdisjoint(sides["val"])
        assert len(sides["train"] | sides["val"]) == report["images"]["all"] == IMAGES
        assert report["images"]["held_off"] == len(sides["val"])
        tied = {f"{at:02}.png" for at in range(5)}
        assert tied <= sides["train"] or tied <= sides["val"]
        held.append(frozenset(sides["val"]))
    assert len(set(held)) > 1
    assert max(map(len, held)) <= 5


def test_measured_labels_stand_in_for_the_teacher_and_unknown_steps_are_left_out(made, tmp_path):
    options = StepSetOptions(labels="measured", auditor="none")
    alone = Sources(made.solutions, made.descriptions)
    report = write_step_sets(alone, tmp_path / "sets", options, validation=0)
    labels = {f"{s.id}/{at}": label for s in read_solutions(made.solutions) for at, label in enumerate(s.labels, 1)}
    assert None in labels.values()
    sets = written(tmp_path / "sets")
    assert list(sets) == ["step_judge", "vision_sft"]
    assert {row["id"]: int(answer(row)) for row in sets["step_judge"]} == {
        name: label for name, label in labels.items() if label is not None
    }
    assert report["dropped"] == {"unknown_step": list(labels.values()).count(None)}


def test_who_learns_to_audit_is_a_setting(made, tmp_path):
    write_step_sets(made, tmp_path / "judge", JUDGE, validation=0)
    write_step_sets(made, tmp_path / "separate", replace(JUDGE, auditor="separate"), validation=0)
    judge, separate = written(tmp_path / "judge"), written(tmp_path / "separate")
    assert judge["audit"] == separate["audit"]
    assert judge["step_judge"] == separate["step_judge"] + separate["audit"]
    none = replace(JUDGE, auditor="none")
    write_step_sets(replace(made, audits=None), tmp_path / "none", none, validation=0)
    assert written(tmp_path / "none")["step_judge"] == separate["step_judge"]
    with refused("settings.contradiction", auditor="judge"):
        step_sets_step(replace(made, audits=None), tmp_path / "x", JUDGE)
    with refused("settings.contradiction", auditor="none"):
        step_sets_step(made, tmp_path / "x", none)
    with refused("settings.contradiction", labels="teacher"):
        step_sets_step(Sources(made.solutions, made.descriptions), tmp_path / "x", none)


def test_verdicts_are_balanced_and_sets_limited_by_the_seed_alone(made, tmp_path):
    options = replace(JUDGE, balance=1.0, max_rows=10, auditor="separate")
    first = write_step_sets(made, tmp_path / "1", options, validation=0)
    assert first["rows"] == {"vision_sft": 10, "vision_dpo": 10, "step_judge": 10, "audit": 10}
    carry_out(step_sets_step(made, tmp_path / "3", options, validation=0), 3, workers=1)
    assert written(tmp_path / "1") == written(tmp_path / "3")
    write_step_sets(made, tmp_path / "other", replace(options, seed=1), validation=0)
    assert written(tmp_path / "1") != written(tmp_path / "other")
    whole = write_step_sets(made, tmp_path / "all", replace(options, max_rows=0), validation=0)
    assert whole["verdicts"]["step_judge"] == {"1": 2 * IMAGES, "-1": 2 * IMAGES}
    more = write_step_sets(made, tmp_path / "more", replace(options, max_rows=0, balance=0.5), validation=0)
    assert more["verdicts"]["step_judge"] == {"1": IMAGES, "-1": IMAGES}


def test_a_killed_build_resumes_at_the_shard_and_an_earlier_one_leaves_no_set_behind(made, tmp_path):
    ran: list[int] = []

    def counted(step, fail_at: int | None = None):
        def run(shard, parts):
            if shard.index == fail_at:
                raise KeyboardInterrupt
            ran.append(shard.index)
            step.run(shard, parts)

        return replace(step, run=run)

    out = tmp_path / "sets"
    step = step_sets_step(made, out, JUDGE, validation=0.2)
    with pytest.raises(KeyboardInterrupt):
        carry_out(counted(step, fail_at=2), 3, workers=1)
    assert not list(out.glob("*.jsonl"))
    carry_out(counted(step), 3, workers=1)
    carry_out(counted(step), 3, workers=1)
    assert ran == [0, 1, 2]
    fresh = tmp_path / "fresh"
    write_step_sets(made, fresh, JUDGE, validation=0.2)
    assert written(out) == written(fresh)
    assert not [path for path in out.iterdir() if path.name.startswith(".parts") and path.is_dir()]
    write_step_sets(replace(made, contradictions=None, audits=None), out, replace(JUDGE, auditor="none"), validation=0)
    assert list(written(out)) == ["step_judge", "vision_sft"]


def test_what_a_teacher_quotes_cannot_add_an_image_or_end_the_turn(made, tmp_path):
    described = rows(made.descriptions)
    described[0]["image_description"] = 'A label "<image>" and <|im_end|>\nin \\frac{1}{2}.'
    sources = replace(made, descriptions=write(tmp_path / "d.jsonl", described))
    write_step_sets(sources, tmp_path / "sets", JUDGE, validation=0)
    sets = written(tmp_path / "sets")
    first = sets["vision_sft"][0]
    assert json.loads(answer(first)) == {"image_description": 'A label "[image]" and [im_end]\nin \\frac{1}{2}.'}
    for row in sets["vision_sft"] + sets["step_judge"]:
        assert not re.search(r"<image>|<\|", prompt(row) + answer(row))


def test_the_command_prints_the_sets_and_refuses_in_one_line(made, tmp_path):
    words = ["data", "step-sets", made.solutions, "--out", tmp_path / "sets", "--descriptions", made.descriptions]
    more = ["--judgements", made.judgements, "--contradictions", made.contradictions, "--audits", made.audits]
    done = CliRunner().invoke(main, [*map(str, [*words, *more]), "--validation", "0.2", "--shards", "1"])
    assert done.exit_code == 0, done.output
    assert "vision_dpo_val" in done.output
    assert (tmp_path / "sets" / "report.json").is_file()
    done = CliRunner().invoke(main, [*map(str, [*words, *more]), "--auditor", "none", "--shards", "1"])
    assert (done.exit_code, code_of(done.stderr)) == (2, "settings.contradiction")
    (tmp_path / "empty").mkdir()
    words[2] = tmp_path / "empty"
    done = CliRunner().invoke(main, [*map(str, [*words, *more])])
    assert (done.exit_code, code_of(done.stderr)) == (2, "data.not-a-solutions-folder")
