"""Perception intervention on the rule-based service: what each condition is shown, and what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from jobs.cli.process.intervene import intervene
from jobs.engine.stage import Given
from jobs.stages.measuring import perception
from proxygrm.core.settings import with_assignments
from proxygrm.demo import sums
from proxygrm.evaluate.process.intervene import Intervention, Noise
from proxygrm.evaluate.process.intervened import figures_of
from proxygrm.process.structured import DescribedBy
from support.evaluate.http_judges import serving
from support.evaluate.solutions import MODEL, Service, process, questions_in_steps, read, write
from support.evaluate.step_release import run_stage
from support.refusals import code_of, refused

pytestmark = pytest.mark.slow


def intervened(folder: Path, service: Service, *words: object, code: int = 0) -> Any:
    """(figures, rows, result) of the command."""
    source = folder / "questions.jsonl"
    target = folder / "answers.jsonl"
    with serving(service) as url:
        names = (
            "--input",
            source if source.exists() else questions_in_steps(folder),
            "--output",
            target,
            "--policy",
            url,
        )
        done = process("intervene", *names, *MODEL, "--json", *words, code=code)
    return (None, None, done) if code else (json.loads(done.stdout), read(target), done)


def test_each_condition_is_shown_what_it_says_and_differs_in_nothing_else(tmp_path):
    figures, rows, _ = intervened(tmp_path, service := Service())
    solving = [
        (text, len(body["messages"][-1]["content"]) - 1)
        for text, body in zip(service.texts, service.bodies, strict=True)
        if text.startswith("Solve the question in small steps. It is")
    ]
    shown = rows[0]["intervention"]
    bare = next(text for text, _ in solving if "(no description)" in text and sums.question(2) in text)
    wanted = {
        (bare, 1), (bare, 0),
        (bare.replace("(no description)", shown["described"]), 1),
        (bare.replace("(no description)", shown["corrupted"]), 0),
    }  # fmt: skip
    assert wanted <= set(solving)
    assert shown["described"] != shown["corrupted"]
    assert json.loads(shown["described"])["caption"].startswith("The number of shapes is 1")
    assert (figures["n_image"], figures["n_corrupted"], figures["missing"]) == (8, 8, {})
    assert figures["accuracy_described"] > figures["accuracy_corrupted"]
    assert figures["change_corrupted_high"] < 0
    for row in rows:
        for answer in row["interventions"].values():
            assert answer["right"] == (answer["finalanswer"] == row["answer"])


def test_a_description_that_fails_leaves_its_conditions_missing_and_no_other_takes_their_place(tmp_path):
    broken = Service(edit=lambda text: "no idea" if "key_facts" in text and sums.question(2) in text else None)
    figures, rows, done = intervened(tmp_path, broken)
    assert figures["missing"] == {"described": {"unreadable": 3}, "corrupted": {"unreadable": 3}}
    assert (figures["n_image"], figures["n_described"], figures["n_question"]) == (8, 5, 8)
    lost = [row["interventions"] for row in rows if row["question"] == sums.question(2)]
    assert all(each["described"] is each["corrupted"] is None and each["image"] and each["question"] for each in lost)
    assert rows[0]["intervention"]["missing"] == {"described": "unreadable", "corrupted": "unreadable"}
    assert "missing (corrupted): unreadable 3" in done.stderr


def test_a_call_that_is_refused_is_missing_and_an_answer_without_a_final_one_is_wrong(tmp_path):
    class Refusing(Service):
        """Takes no description in place of the image."""

        async def __call__(self, scope, receive, send):
            if scope["type"] == "http" and scope["path"].endswith("completions"):
                message = await receive()
                body = json.loads(message["body"])
                text, images = body["messages"][-1]["content"][-1]["text"], len(body["messages"][-1]["content"]) - 1
                if "It is about an image" in text and not images and "(no description)" not in text:
                    await send({"type": "http.response.start", "status": 400, "headers": []})
                    return await send({"type": "http.response.body", "body": b"too long"})

                async def again():
                    return message

                return await super().__call__(scope, again, send)
            return await super().__call__(scope, receive, send)

    silent = Refusing(edit=lambda text: "Three." if "(no description)" in text else None)
    figures, rows, _ = intervened(tmp_path, silent)
    assert list(figures["missing"]) == ["corrupted"]
    assert sum(figures["missing"]["corrupted"].values()) == 8
    assert "accuracy_corrupted" not in figures
    assert figures["accuracy_image"] == 0.0
    assert figures["unreadable"] == {"image": {"not_json": 8}, "question": {"not_json": 8}}
    assert all(row["interventions"]["corrupted"] is None for row in rows)


def test_a_corruption_that_changes_nothing_is_missing(tmp_path):
    figures, _, _ = intervened(tmp_path, Service(), "--corruption", "drop", "--corruption-ratio", 0)
    assert figures["missing"] == {"corrupted": {"unchanged": 8}}
    figures, _, _ = intervened(
        tmp_path, Service(), "--corruption", "drop", "--corruption-ratio", 1, "--description", "paragraph",
        "--output", tmp_path / "other.jsonl",
    )  # fmt: skip
    assert figures["missing"] == {"corrupted": {"nothing_left": 8}}


def test_errors_can_be_planted_by_the_extractor_in_its_paragraph(tmp_path):
    words = ("--corruption", "contradict", "--description", "paragraph")
    _, rows, _ = intervened(tmp_path, service := Service(), *words)
    shown = rows[0]["intervention"]
    assert shown["described"].startswith("The number of shapes is 1.")
    assert shown["corrupted"].startswith("The number of shapes is 2.")
    assert sum("is wrong in one to three places" in text for text in service.texts) == 8
    _, _, done = intervened(tmp_path, Service(), "--corruption", "contradict", code=2)
    assert code_of(done.stderr) == "settings.contradiction"


def test_it_resumes_at_the_call_and_the_same_command_writes_the_same(tmp_path):
    _, _, done = intervened(tmp_path, failing := Service(fail_after=20), "--concurrency", 1, code=2)
    assert code_of(done.stderr) == "judge.unanswered"
    assert not (tmp_path / "answers.jsonl").exists()
    _, rows, _ = intervened(tmp_path, rest := Service())
    asked = {json.dumps(body) for body in (*failing.bodies, *rest.bodies)}
    assert failing.calls + rest.calls == len(asked)  # no call twice
    _, again, _ = intervened(tmp_path, idle := Service())
    assert (again, idle.calls) == (rows, 0)


def test_rows_that_cannot_be_used_are_named(tmp_path):
    rows = read(questions_in_steps(tmp_path, 2))
    write(tmp_path / "questions.jsonl", [rows[0], rows[1] | {"image": []}, rows[1] | {"answer": None}])
    _, _, done = intervened(tmp_path, Service(), code=2)
    assert code_of(done.stderr) == "process.bad-rows"
    assert "no image" in done.stderr.replace("_", " ")
    assert "no answer" in done.stderr.replace("_", " ")
    with refused("settings.unknown-value", name="conditions"):
        Intervention(conditions=("image", "images"))
    choices = {param.name: getattr(param.type, "choices", ()) for param in intervene.params}
    assert tuple(choices["corruption"]) == get_args(Noise)
    assert tuple(choices["description"]) == get_args(DescribedBy)


def test_the_figures_compare_conditions_on_the_questions_that_have_both():
    rights = [{"image": True, "corrupted": False}, {"image": True}, {"image": False, "corrupted": True}] * 20
    figures = figures_of(rights, list(range(60)))
    assert (figures["n_image"], figures["n_corrupted"], figures["n_described"]) == (60, 40, 0)
    assert figures["accuracy_image"] == pytest.approx(2 / 3)
    assert (figures["accuracy_corrupted"], figures["change_corrupted"]) == (0.5, 0.0)
    assert figures["change_corrupted_low"] < 0 < figures["change_corrupted_high"]
    assert "accuracy_described" not in figures


def test_the_stage_asks_the_demos_stand_in_and_sums_up(tmp_path):
    source = questions_in_steps(tmp_path, 4)
    settings = with_assignments(perception.Settings(), ["max_questions=3", "conditions=image,question"])
    stage = perception.stage(
        "perception", questions=Given(str(source)), images=Given(str(tmp_path)), policy="rule-based",
        extractor="rule-based", settings=settings,
    )  # fmt: skip
    assert stage.prompts == ("process_solve",)
    out = run_stage(stage, tmp_path / "run")
    figures = json.loads((out / "summary.json").read_text())["policy"]
    assert (figures["questions"], figures["n_image"], figures["n_described"]) == (3, 3, 0)
    assert len(read(out / "answers.jsonl")) == 3
