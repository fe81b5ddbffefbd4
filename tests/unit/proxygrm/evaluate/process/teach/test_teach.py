"""The four calls to a teacher, by the rule-based service over real HTTP: rows, further tries, resume, and bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from proxygrm.critique.prompts.process import audit_prompt, describe_prompt, judgements_prompt
from proxygrm.process.solutions import Solution, read_solutions
from support.evaluate.solutions import Service
from support.evaluate.taught import report, rows, solutions_folder, taught, teach, write_solutions
from support.refusals import code_of

pytestmark = pytest.mark.slow


def shard(folder: Path, number: int = 0) -> Path:
    return folder / f"shard-{number:03}.jsonl"


def test_all_four_calls_are_answered_and_every_row_names_its_teacher(tmp_path):
    solutions, service = solutions_folder(tmp_path / "solutions", 8), Service()
    made = taught(tmp_path, solutions, service)
    described, contradicted, audits = (rows(made[name]) for name in ("descriptions", "contradictions", "audits"))
    equal_audits = 24 - len({(row["id"].split("/")[0], row["checklist"], row["image_description"]) for row in audits})
    assert equal_audits > 0
    # One description of each image, though three solutions share it; what is asked twice is answered once.
    assert service.calls == 8 + 24 + 8 + 24 - equal_audits
    assert {row["model"] for folder in made.values() for row in rows(folder)} == {"rule-process"}

    assert len(described) == len(contradicted) == 8
    assert service.texts[0] == describe_prompt(described[0]["question"])
    for good, bad in zip(described, contradicted, strict=True):
        assert (good["question"], good["image"]) == (bad["question"], bad["image"])
        assert good["image_description"] != bad["image_description"]

    described_by = {tuple(row["image"]): row["image_description"] for row in described}
    by_id = {row["id"]: row["steps"] for row in rows(made["judgements"])}
    for solution in read_solutions(solutions):
        steps = by_id[solution.id]
        description = described_by[solution.images]
        asked = judgements_prompt(solution.question, description, solution.steps, solution.right)
        assert asked in service.texts  # all of its steps, and the outcome of the whole
        assert all(f"Step {at}: {text}" in asked for at, text in enumerate(solution.steps, 1))
        assert f"as a whole is {'right' if solution.right else 'wrong'}." in asked
        assert [step["step"] for step in steps] == list(solution.steps)
        assert [step["score"] for step in steps] == [label or 1 for label in solution.labels]
        assert steps[0]["visualdependency"] == solution.steps[0][:-1].replace("There", "there")
        assert steps[1]["visualdependency"] is None
    assert [step["category"] for step in by_id["s0/1"]] == ["visual_value", None]
    assert [step["category"] for step in by_id["s0/2"]] == [None, "calculation"]

    assert {row["against"] for row in audits} == {"description", "contradiction"}
    assert {row["audit"]["p_score"] for row in audits} == {0.5, 1.0}
    images = {solution.id: solution.images for solution in read_solutions(solutions)}
    for row in audits:
        assert row["checklist"] == f"- {by_id[row['id']][0]['visualdependency']}"
        assert audit_prompt(row["image_description"], row["checklist"]) in service.texts
        assert (row["image_description"] == described_by[images[row["id"]]]) == (row["against"] == "description")


BAD = {
    "not json": "unreadable",
    "[]": "unreadable",
    '[{"step": 1, "score": 1, "category": null, "visualdependency": null}]': "wrong_count",
    '[{"step": 1, "score": 0, "category": null}, {"step": 2, "score": 1, "category": null}]': "bad_score",
    '[{"step": 1, "score": true, "category": null}, {"step": 2, "score": 1, "category": null}]': "bad_score",
    '[{"step": 1, "score": "1", "category": null}, {"step": 2, "score": 1, "category": null}]': "bad_score",
    '[{"step": 1, "score": -1, "category": null}, {"step": 2, "score": 1, "category": null}]': "no_category",
    '[{"step": 1, "score": -1, "category": ""}, {"step": 2, "score": 1, "category": null}]': "bad_category",
    '[{"step": 1, "score": -1, "category": "typo"}, {"step": 2, "score": 1, "category": null}]': "bad_category",
    '[{"step": 1, "score": 1, "category": "logic"}, {"step": 2, "score": 1, "category": null}]': (
        "category_of_a_right_step"
    ),
    '[{"step": 2, "score": 1, "category": null}, {"step": 1, "score": 1, "category": null}]': "wrong_order",
    '[{"step": 1, "score": 1, "visualdependency": "\\ud800"}, {"step": 2, "score": 1}]': "not_unicode",
}


def test_judgements_that_do_not_fit_the_steps_are_asked_for_again_with_another_seed_then_left_out_by_cause(tmp_path):
    name, question = "images/00.png", "How many shapes are drawn?"
    more = [
        Solution(f"bad{at}", "x", question, (name,), (f"Try {at}.", "So."), (1, 1), None, True, None)
        for at in range(len(BAD))
    ]
    solutions = solutions_folder(tmp_path / "solutions", 1, more)
    teach("describe", solutions, tmp_path / "d", Service())
    answers = {f"Step 1: Try {at}.\n": answer for at, answer in enumerate(BAD)}
    service = Service(edit=lambda text: next((answer for step, answer in answers.items() if step in text), None))
    done = teach("judge", solutions, tmp_path / "j", service, "--descriptions", tmp_path / "d", "--tries", 2)
    told = report(tmp_path / "j")
    assert told["left_out"] == {cause: list(BAD.values()).count(cause) for cause in sorted(set(BAD.values()))}
    assert told["unusable"] == {cause: 2 * count for cause, count in told["left_out"].items()}
    assert (told["asked"], told["written"], told["tries"]) == (15, 3, {"1": 3})
    assert len(told["left_out_ids"]) == 12
    assert "left out: bad category 2, bad score 3" in done.stderr
    seeds = {}
    for body in service.bodies:
        seeds.setdefault(body["messages"][-1]["content"][-1]["text"], []).append(body["seed"])
    assert sorted(len(set(each)) for each in seeds.values()) == [1] * 3 + [2] * 12


def test_a_second_try_may_bring_what_the_first_did_not_and_more_tries_may_be_given_later(tmp_path):
    solutions = solutions_folder(tmp_path / "solutions", 2)
    asked = []
    service = Service(edit=lambda text: asked.append(text) or ("{" if asked.count(text) <= 4 else None))
    done = teach("describe", solutions, tmp_path / "d", service, "--tries", 2, code=2)
    assert code_of(done.stderr) == "teacher.nothing-usable"
    assert not shard(tmp_path / "d").exists()
    teach("describe", solutions, tmp_path / "d", service, "--tries", 4)
    assert report(tmp_path / "d")["tries"] == {"3": 2}
    assert report(tmp_path / "d")["unusable"] == {"unreadable": 4}
    assert service.calls == 6  # the first two tries were kept


def test_a_killed_call_resumes_and_a_deleted_result_is_written_again_from_the_kept_answers(tmp_path):
    solutions = solutions_folder(tmp_path / "solutions", 6)
    teach("describe", solutions, tmp_path / "d", Service())
    whole = shard(tmp_path / "d").read_bytes()
    calls = tmp_path / "d" / "calls" / "shard-000.jsonl"
    lines = calls.read_bytes().splitlines(keepends=True)
    calls.write_bytes(b"".join(lines[:4]) + lines[4][:30])  # the first line says who made it
    shard(tmp_path / "d").unlink()
    service = Service()
    teach("describe", solutions, tmp_path / "d", service)
    assert (service.calls, shard(tmp_path / "d").read_bytes()) == (3, whole)
    shard(tmp_path / "d").unlink()
    service = Service()
    teach("describe", solutions, tmp_path / "d", service)
    assert (service.calls, shard(tmp_path / "d").read_bytes()) == (0, whole)


def test_a_changed_solution_is_judged_again_under_its_old_id(tmp_path):
    solutions = solutions_folder(tmp_path / "solutions", 2)
    described = ("--descriptions", tmp_path / "d")
    teach("describe", solutions, tmp_path / "d", Service())
    teach("judge", solutions, tmp_path / "j", Service(), *described)
    first, *others = read_solutions(solutions)
    changed = replace(first, steps=(first.steps[0], "Adding up, 2 + 2 = 5."))
    write_solutions(solutions, [changed, *others])
    service = Service()
    teach("judge", solutions, tmp_path / "j", service, *described)
    assert service.calls == 1
    assert rows(tmp_path / "j")[0]["steps"][1] | {"visualdependency": None} == {
        "step": "Adding up, 2 + 2 = 5.", "score": -1, "category": "calculation", "visualdependency": None,
    }  # fmt: skip


def test_answers_of_another_teacher_or_shard_are_not_mixed_in(tmp_path):
    solutions = solutions_folder(tmp_path / "solutions", 4)
    teach("describe", solutions, tmp_path / "d", Service())
    for other in (("--temperature", 0.7), ("--shard", "1/2")):
        done = teach("describe", solutions, tmp_path / "d", Service(), *other, code=2)
        assert code_of(done.stderr) == "file.made-by-other"
    for part in ("1/2", "2/2"):
        teach("describe", solutions, tmp_path / "parts", Service(), "--shard", part)
    together = rows(tmp_path / "parts") + rows(tmp_path / "parts", 1)
    assert sorted(json.dumps(row) for row in together) == sorted(json.dumps(row) for row in rows(tmp_path / "d"))


def test_a_shard_without_anything_to_ask_is_empty_and_the_others_are_read(tmp_path):
    solutions = solutions_folder(tmp_path / "solutions", 2)
    for part in ("1/3", "2/3", "3/3"):
        teach("describe", solutions, tmp_path / "d", Service(), "--shard", part)
    assert [len(rows(tmp_path / "d", number)) for number in range(3)] == [1, 1, 0]
    assert report(tmp_path / "d", 2)["asked"] == 0
    teach("judge", solutions, tmp_path / "j", Service(), "--descriptions", tmp_path / "d")
    assert len(rows(tmp_path / "j")) == 6


def test_an_endpoint_that_fails_ends_the_run_and_the_next_one_asks_for_the_rest(tmp_path):
    solutions = solutions_folder(tmp_path / "solutions", 8)
    failing = Service(fail_after=5)
    done = teach("describe", solutions, tmp_path / "d", failing, "--concurrency", 1, code=2)
    assert code_of(done.stderr) == "judge.unanswered"
    assert not shard(tmp_path / "d").exists()
    rest = Service()
    teach("describe", solutions, tmp_path / "d", rest)
    assert (failing.calls, rest.calls) == (5, 3)
    # Where a share may fail, what has no answer is counted and left out, and asked for again by the next run.
    allowed = ("--max-failed", 0.5, "--concurrency", 1)
    teach("describe", solutions, tmp_path / "e", Service(fail_after=5), *allowed)
    assert report(tmp_path / "e")["left_out"] == {"no_answer": 3}
    again = Service()
    teach("describe", solutions, tmp_path / "e", again)
    assert (again.calls, len(rows(tmp_path / "e"))) == (3, 8)


def test_a_teacher_that_refuses_every_request_ends_the_run(tmp_path):
    solutions = solutions_folder(tmp_path / "solutions", 2)
    done = teach("describe", solutions, tmp_path / "d", Service(fail_after=0, status=422), code=2)
    assert code_of(done.stderr) == "judge.accepts-nothing"
    assert not shard(tmp_path / "d").exists()


def test_an_answer_that_mentions_429_is_an_answer(tmp_path):
    solutions = solutions_folder(tmp_path / "solutions", 1)
    service = Service(edit=lambda text: '{"image_description": "A sign: 429 Too Many Requests"}')
    teach("describe", solutions, tmp_path / "d", service)
    assert service.calls == 1
    assert rows(tmp_path / "d")[0]["image_description"] == "A sign: 429 Too Many Requests"


def test_a_contradiction_that_changes_nothing_is_asked_for_again_and_counted(tmp_path):
    solutions = solutions_folder(tmp_path / "solutions", 3)
    teach("describe", solutions, tmp_path / "d", Service())
    first = rows(tmp_path / "d")[0]["image_description"]

    def edit(text):
        same = json.dumps({"image_description": f"  {first} "})
        return same if f"Description:\n{first}\n" in text else None

    service = Service(edit=edit)
    teach("contradict", solutions, tmp_path / "c", service, "--descriptions", tmp_path / "d")
    assert service.calls == 3 + 2
    assert report(tmp_path / "c")["left_out"] == {"equal_descriptions": 1}
    assert len(rows(tmp_path / "c")) == 2


def test_an_audit_whose_score_is_not_what_its_errors_leave_is_not_used(tmp_path):
    solutions = solutions_folder(tmp_path / "solutions", 4)
    score = iter([0.5, 80, 1.0])
    error = {"faulty_statement": "x", "correction_or_reason": "y", "severity": "Low"}

    def edit(text):
        if "Claims:" not in text or (value := next(score, None)) is None:
            return None
        return json.dumps({"errors_and_hallucinations": [error], "omissions": [], "p_score": value})

    made = taught(tmp_path, solutions, Service(edit=edit))
    assert report(made["audits"])["unusable"] == {"bad_score": 1, "score_not_of_errors": 2}
    assert len(rows(made["audits"])) == 12


def test_solutions_without_images_or_claims_are_counted_and_those_against_their_outcome_are_named(tmp_path):
    extra = [
        Solution("text", "x", "What is 1 + 1?", (), ("1 + 1 = 2.",), (1,), None, True, "2"),
        Solution("gone", "x", "How many shapes are drawn?", ("images/gone.png",), ("Two.",), (1,), None, True, "two"),
        Solution("sums", "x", "How many shapes are drawn?", ("images/00.png",), ("1 + 1 = 3.",), (1,), None, True, "3"),
    ]
    solutions = solutions_folder(tmp_path / "solutions", 3, extra)
    made = taught(tmp_path, solutions)
    assert report(made["descriptions"])["left_out"] == {"missing_image": 1, "no_image": 1}
    assert report(made["judgements"])["left_out"] == {"missing_image": 1, "no_image": 1}
    assert report(made["judgements"])["notes"] == {"wrong_step_in_a_right_solution": 1}
    assert report(made["audits"])["left_out"] == {"missing_image": 1, "no_claims": 1, "no_image": 1}
    assert report(made["audits"])["left_out_ids"] == ["text", "gone", "sums"]


def test_what_a_call_needs_is_refused_in_one_line(tmp_path):
    solutions = solutions_folder(tmp_path / "solutions", 2)
    made = taught(tmp_path, solutions)
    described = ("--descriptions", made["descriptions"])

    def refusal(asks, *more):
        return code_of(teach(asks, solutions, tmp_path / "x", Service(), *more, code=2).stderr)

    assert refusal("describe", "--temperature", 0) == "settings.contradiction"
    assert refusal("describe", "--missing-images", "blank") == "option.no-effect"
    assert refusal("judge", "--descriptions", tmp_path / "nothing") == "teacher.no-rows"
    assert refusal("judge", "--descriptions", made["judgements"]) == "teacher.bad-row"
    assert refusal("describe", "--shard", "3/2") == "option.bad-shard"
    for read in (made["descriptions"], shard(made["descriptions"])):
        done = teach("judge", solutions, made["descriptions"], Service(), "--descriptions", read, code=2)
        assert code_of(done.stderr) == "option.bad-out"
    file = shard(made["descriptions"])
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    assert refusal("judge", *described) == "file.bad-row"
    file.write_bytes(whole + whole)
    assert refusal("judge", *described) == "teacher.repeated-row"
    file.write_bytes(whole.replace(b"rule-process", b"other", 1))
    assert refusal("judge", *described) == "teacher.mixed-models"
    file.write_bytes(whole)
    # judgements of other solutions
    others = [replace(each, steps=("Else.", "Other.")) for each in read_solutions(solutions)]
    write_solutions(solutions, others)
    more = ("--judgements", made["judgements"], "--contradictions", made["contradictions"])
    assert refusal("audit", *described, *more) == "teacher.other-solutions"
