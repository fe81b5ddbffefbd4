"""`process score` with the rule-based service: its stages, its resume, and what can go wrong with rows and models."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from support.evaluate.http_judges import body_of, serving
from support.evaluate.solutions import MODEL, Service, drawn_rows, process, read, solution, write
from support.refusals import code_of

pytestmark = pytest.mark.slow


def score(folder: Path, service: Service, rows: list, *more: object, code: int = 0):
    source = write(folder / "policy.jsonl", rows)
    with serving(service) as url:
        return process(
            "score", "--input", source, "--output", folder / "scored.jsonl", "--judge", url, *MODEL, *more, code=code
        )


def scored(folder: Path) -> list[dict]:
    return read(folder / "scored.jsonl")


def report(folder: Path) -> dict:
    return json.loads((folder / "scored.jsonl.report.json").read_text())


def test_drawn_solutions_are_described_audited_judged_and_gated(tmp_path):
    rows = drawn_rows(tmp_path, 6)
    service = Service()
    score(tmp_path, service, rows)
    out = scored(tmp_path)
    assert [{k: row[k] for k in ("id", "question", "image", "answer", "datasource")} for row in out] == [
        {k: row[k] for k in ("id", "question", "image", "answer", "datasource")} for row in rows
    ]
    for row in out:
        right, wrong = row["vlmresponse1"]["eval"], row["vlmresponse2"]["eval"]
        assert row["answer"] in row["__golden_image_description__"]
        assert json.loads(row["__golden_image_description_raw__"])["image_description"] in right["image_description"]
        assert right["visual_checklist"] == f"- the number is {row['answer']}"
        assert (right["visual_step_indices"], right["local_p_score"]) == ([0], 1.0)
        assert (right["raw_step_scores"], right["final_step_scores"]) == ([1.0, 1.0], [1.0, 1.0])
        assert wrong["local_p_score"] == 0.5
        assert wrong["visual_checklist_evaluation"]["errors_and_hallucinations"][0]["severity"] == "High"
        assert (wrong["raw_step_scores"], wrong["final_step_scores"]) == ([-1.0, -1.0], [-1.0, -1.0])
    assert service.calls == 6 * (1 + 2 + 4)
    assert {name: report(tmp_path)[name] for name in ("rows", "responses", "steps", "visual_steps", "calls")} == {
        "rows": 6, "responses": 12, "steps": 24, "visual_steps": 12, "calls": 42,
    }  # fmt: skip


def test_an_unreliable_image_scales_the_visual_steps_that_stay_right(tmp_path):
    rows = drawn_rows(tmp_path, 1, responses=1)
    audit = json.dumps({"errors_and_hallucinations": [], "omissions": [], "p_score": 0.3})
    service = Service(edit=lambda text: audit if "Claims:" in text else None)
    score(tmp_path, service, rows)
    (evaluation,) = (row["vlmresponse1"]["eval"] for row in scored(tmp_path))
    assert (evaluation["raw_step_scores"], evaluation["final_step_scores"]) == ([1.0, 1.0], [0.3, 1.0])


def test_each_stage_may_have_its_own_model(tmp_path):
    rows = drawn_rows(tmp_path, 3)
    extractor, auditor, judge = Service(), Service(), Service()
    source = write(tmp_path / "policy.jsonl", rows)
    with serving(extractor) as one, serving(auditor) as two, serving(judge) as three:
        process(
            "score", "--input", source, "--output", tmp_path / "scored.jsonl", "--judge", three, "--extractor", one,
            "--auditor", two, *MODEL,
        )  # fmt: skip
    assert (extractor.calls, auditor.calls, judge.calls) == (3, 6, 12)
    assert all("Describe what the image shows" in text for text in extractor.texts)
    assert scored(tmp_path)[0]["vlmresponse1"]["eval"]["local_p_score"] == 1.0


def test_an_endpoint_that_fails_half_way_ends_the_run_with_the_rows_and_the_next_one_asks_for_the_rest(tmp_path):
    rows = drawn_rows(tmp_path, 8)
    failing = Service(fail_after=20)
    done = score(tmp_path, failing, rows, "--concurrency", 2, code=2)
    assert code_of(done.stderr) == "judge.unanswered"
    assert "rows" in done.stderr
    assert not (tmp_path / "scored.jsonl").exists()
    rest = Service()
    score(tmp_path, rest, rows)
    assert failing.calls + rest.calls == 8 * 7
    assert len(scored(tmp_path)) == 8
    assert not any(report(tmp_path)["unreadable_verdicts"])


def test_a_killed_run_resumes_at_the_call_and_an_edited_step_costs_its_own_calls_alone(tmp_path):
    rows = drawn_rows(tmp_path, 4)
    score(tmp_path, Service(), rows)
    whole = (tmp_path / "scored.jsonl").read_bytes()
    file = tmp_path / "scored.jsonl.calls" / "process_step.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:6]) + lines[6][:20])  # the first line says who made it
    service = Service()
    score(tmp_path, service, rows)
    assert service.calls == 16 - 5
    assert (tmp_path / "scored.jsonl").read_bytes() == whole
    rows[2]["vlmresponse1"]["reasoningprocess"][1]["steptext"] = "Adding up, 2 + 2 = 4."
    service = Service()
    score(tmp_path, service, rows)
    assert service.calls == 1


def test_answers_of_another_model_or_setting_are_not_mixed_in(tmp_path):
    rows = drawn_rows(tmp_path, 1)
    score(tmp_path, Service(), rows)
    done = score(tmp_path, Service(), rows, "--verdict-tokens", 4, code=2)
    assert code_of(done.stderr) == "file.made-by-other"
    (tmp_path / "scored.jsonl.calls" / "process_step.jsonl").unlink()
    service = Service()
    score(tmp_path, service, rows, "--verdict-tokens", 4)
    assert service.calls == 4  # descriptions and audits stay


def test_unreadable_answers_are_null_and_counted_by_cause_and_minus_one_with_compat_alone(tmp_path):
    rows = drawn_rows(tmp_path, 2, responses=1)
    answers = {"Is step 2": "maybe", "Claims:": '{"errors_and_hallucinations": [], "p_sc'}
    unclear = Service(edit=lambda text: next((answer for part, answer in answers.items() if part in text), None))
    done = score(tmp_path, unclear, rows)
    evaluation = scored(tmp_path)[0]["vlmresponse1"]["eval"]
    assert (evaluation["raw_step_scores"], evaluation["final_step_scores"]) == ([1.0, None], [1.0, None])
    assert evaluation["local_p_score"] is None
    assert evaluation["visual_checklist_evaluation"]["error"] == "unreadable"
    assert report(tmp_path)["unreadable_verdicts"] == {"unreadable": 2}
    assert report(tmp_path)["unreadable_audits"] == {"unreadable": 2}
    assert "unreadable verdicts: unreadable 2" in done.stderr
    score(tmp_path, unclear, rows, "--unreadable-audit", "drop")
    assert scored(tmp_path)[0]["vlmresponse1"]["eval"]["final_step_scores"] == [None, None]
    score(tmp_path, unclear, rows, "--compat", "upstream")
    evaluation = scored(tmp_path)[0]["vlmresponse1"]["eval"]
    assert (evaluation["local_p_score"], evaluation["final_step_scores"]) == (0.0, [0.0, -1.0])
    assert report(tmp_path)["unreadable_verdicts"] == {"unreadable": 2}


def test_a_description_that_cannot_be_read_leaves_the_reliability_unknown(tmp_path):
    rows = drawn_rows(tmp_path, 4, responses=1)
    plain = r"Two red circles of \frac{1}{2} cm."
    texts = iter(['{"image_description": "A cir', plain, '```json\n{"image_description": "x"}\n```', "```\n{"])
    service = Service(edit=lambda text: next(texts) if text.startswith("Describe") else None)
    score(tmp_path, service, rows, "--concurrency", 1)
    out = scored(tmp_path)
    assert [row["__golden_image_description__"] for row in out] == ["", plain, "x", ""]
    evaluation = out[0]["vlmresponse1"]["eval"]
    assert evaluation["visual_checklist_evaluation"]["error"] == "no_description"
    assert (evaluation["local_p_score"], evaluation["raw_step_scores"]) == (None, [1.0, 1.0])
    assert report(tmp_path)["unreadable_descriptions"] == {"unreadable": 2}
    assert report(tmp_path)["unreadable_audits"] == {"no_description": 2}


def test_a_model_that_thinks_first_is_read_after_its_thought(tmp_path):
    rows = drawn_rows(tmp_path, 1, responses=1)
    service = Service(edit=lambda text: "<think>Is it 1? No.</think>\n-1" if "Is step 2" in text else None)
    score(tmp_path, service, rows)
    assert scored(tmp_path)[0]["vlmresponse1"]["eval"]["raw_step_scores"] == [1.0, -1.0]


def test_a_prompt_that_the_service_refuses_is_an_unreadable_answer_with_its_cause(tmp_path):
    rows = drawn_rows(tmp_path, 1, responses=1)
    rows[0]["vlmresponse1"] = solution(("TOO LONG", None), ("Fine.", None))

    service = Service()
    app = service.app

    async def refuse_long(scope, receive, send):
        body = await body_of(receive)

        async def again():
            return {"type": "http.request", "body": body, "more_body": False}

        if b"Is step 1 right" in body:
            await send({"type": "http.response.start", "status": 400, "headers": []})
            return await send({"type": "http.response.body", "body": b'{"error": {"message": "too long"}}'})
        return await app(scope, again, send)

    service.app = refuse_long
    score(tmp_path, service, rows)
    assert scored(tmp_path)[0]["vlmresponse1"]["eval"]["raw_step_scores"] == [None, 1.0]
    assert report(tmp_path)["unreadable_verdicts"] == {"refused_by_service": 1}


def test_responses_without_steps_are_counted_by_cause_and_line(tmp_path):
    (row,) = drawn_rows(tmp_path, 1, responses=1)
    row["vlmresponse2"] = {"error": "not_json", "rawoutput": "..."}
    row["vlmresponse3"] = {"reasoningprocess": [], "finalanswer": "two"}
    row["vlmresponse4"] = None
    row["vlmresponse5"] = {"reasoningprocess": [{"visualdependency": "x"}]}
    row["vlmresponse10"] = json.dumps(solution(("Zwei und zwei sind vier.", None), ("所以是两个。", "两个圆")))
    row["vlmresponse9"] = json.dumps(solution(("cut", "cut")))[:-30]
    score(tmp_path, Service(), [row])
    (out,) = scored(tmp_path)
    assert report(tmp_path)["without_steps"] == {
        "failed_response": 1, "no_steps": 1, "no_response": 1, "bad_step": 1,
    }  # fmt: skip
    assert report(tmp_path)["lines_without_steps"]["no_response"] == [1]
    assert out["vlmresponse2"]["eval"]["final_step_scores"] == []
    assert out["vlmresponse4"] == {"rawoutput": None, "eval": out["vlmresponse4"]["eval"]}
    assert out["vlmresponse10"]["eval"]["visual_checklist"] == "- 两个圆"
    assert out["vlmresponse10"]["eval"]["raw_step_scores"] == [1.0, 1.0]
    assert report(tmp_path)["responses"] == 7


def test_bad_rows_are_left_out_and_named_and_too_many_of_them_end_the_run_before_any_call(tmp_path):
    rows = [
        *drawn_rows(tmp_path, 2),
        '{"question": "cut',
        {"question": " "},
        [1],
        {"question": "q", "image": [{"url": 1}]},
    ]
    service = Service()
    done = score(tmp_path, service, rows, code=2)
    assert (code_of(done.stderr), service.calls) == ("process.bad-rows", 0)
    done = score(tmp_path, service, rows, "--max-bad", 0.9)
    assert len(scored(tmp_path)) == 2
    assert report(tmp_path)["bad_rows"] == {"not_json": 1, "no_question": 1, "not_an_object": 1, "bad_images": 1}
    assert "line 4" in done.stderr


def test_rows_without_solutions_are_counted_and_a_file_without_any_is_refused_before_any_call(tmp_path):
    rows = drawn_rows(tmp_path, 2)
    questions = [{key: value for key, value in row.items() if not key.startswith("vlm")} for row in rows]
    done = score(tmp_path, service := Service(), questions, code=2)
    assert (code_of(done.stderr), service.calls) == ("process.no-responses", 0)
    done = score(tmp_path, Service(), [rows[0], questions[1]])
    assert report(tmp_path)["without_steps"] == {"no_responses": 1}
    assert report(tmp_path)["lines_without_steps"] == {"no_responses": [2]}
    assert done.stderr.count("no responses 1") == 1


def test_missing_images_are_refused_with_their_rows_or_replaced_and_counted(tmp_path):
    rows = drawn_rows(tmp_path, 3)
    (tmp_path / "1.png").unlink()
    done = score(tmp_path, Service(), ["", *rows], code=2)
    assert code_of(done.stderr) == "image.missing"
    assert "row 3" in done.stderr  # a blank line counts
    assert "drop" not in done.stderr  # which is refused here
    score(tmp_path, Service(), rows, "--missing-images", "blank")
    assert report(tmp_path)["missing_images"] == 1
    assert "56 by 56" in scored(tmp_path)[1]["__golden_image_description__"]
    done = score(tmp_path, Service(), rows, "--missing-images", "drop", code=2)
    assert code_of(done.stderr) == "process.no-drop"


def test_a_row_may_have_no_image_or_several_and_ids_may_repeat(tmp_path):
    rows = drawn_rows(tmp_path, 3)
    rows[0] |= {"image": ["0.png", "1.png", "2.png"]}
    rows[1] |= {"id": "q0"}
    del rows[2]["image"]
    score(tmp_path, Service(), rows)
    first, second, third = scored(tmp_path)
    assert first["__golden_image_description__"].count("The image shows") == 3
    assert second["vlmresponse1"]["eval"]["local_p_score"] == 1.0
    assert third["__golden_image_description__"] == "There is no image."
    assert report(tmp_path)["repeated_ids"] == {"q0": [1, 2]}


def test_equal_rows_are_asked_about_once_and_rows_that_share_an_image_are_not_equal(tmp_path):
    (row,) = drawn_rows(tmp_path, 1)
    service = Service()
    score(tmp_path, service, [row, row, row | {"question": "Another one?"}])
    assert service.calls == 2 * 7 - 2  # the audit's instruction does not have the question
    out = scored(tmp_path)
    assert len(out) == 3
    assert out[0] == out[1]


def test_solutions_of_hundreds_of_steps_keep_a_bounded_history_that_moves_in_strides(tmp_path):
    (row,) = drawn_rows(tmp_path, 1, responses=1)
    steps = [(f"Adding up, {n} + 1 = {n + 1 if n != 222 else 0}.", None) for n in range(250)]
    row["vlmresponse1"] = solution(*steps)
    service = Service()
    score(tmp_path, service, [row], "--history", 16)
    raw = scored(tmp_path)[0]["vlmresponse1"]["eval"]["raw_step_scores"]
    assert [at for at, value in enumerate(raw) if value != 1.0] == [222]
    shown = [text.count("\nStep ") for text in service.texts if "Is step" in text]
    assert max(shown) == 32
    assert sorted(shown)[:3] == [1, 2, 3]
    starts = {text.split("Solution:\n")[1].split(":")[0] for text in service.texts if "Is step" in text}
    assert len(starts) == 250 // 16


def test_the_probability_of_a_right_step_is_read_from_the_first_token(tmp_path):
    from proxygrm.evaluate.process.score import soft_score

    right, wrong = math.exp(-0.5) + math.exp(-2), math.exp(-1.5)
    logprobs = {"1": -0.5, " 1": -2.0, "-": -1.5, "x": -0.1}
    assert soft_score({"logprobs": logprobs}) == pytest.approx(right / (right + wrong))
    assert soft_score({"logprobs": {"x": -0.1}}) is None
    assert soft_score({"logprobs": None}) is None
    rows = drawn_rows(tmp_path, 1, responses=1)
    service = Service()
    score(tmp_path, service, rows, "--soft")
    assert scored(tmp_path)[0]["vlmresponse1"]["eval"]["soft_step_scores"] == [None, None]  # this service has none
    asked = [
        body.get("top_logprobs") for body in service.bodies if "Is step" in body["messages"][0]["content"][-1]["text"]
    ]
    assert asked == [20, 20]
