"""Every body that an OpenAI-compatible service may answer with, read by `read_chat` and by each of its users."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest
from fastapi import FastAPI, Request, Response

from data_tools.rows.preference import PreferencePair, write_pairs
from proxygrm.core.errors import UserError
from proxygrm.critique.thought import after_thought
from proxygrm.serving.chat.answer import NotAChat, read_chat
from proxygrm.serving.pool.answer import AttemptFailed, read_answer
from proxygrm.serving.pool.routing import Cause
from proxygrm.teacher.critiques import read_critiques
from proxygrm.teacher.distill import distill
from support.evaluate.http_judges import serving
from support.evaluate.runs import call, rows, run, scored, write

pytestmark = pytest.mark.slow

GOOD = "<rubric>1. Colour 100%\n<justify>x</justify>\n</rubric>\n<eval>fine</eval>\n<answer>1</answer>"


def chat(content, finish="stop", **more):
    message = {"role": "assistant", "content": content, **more}
    return {"choices": [{"message": message, "finish_reason": finish}], "usage": {"completion_tokens": 7}}


def parts(*texts):
    return [{"type": "text", "text": text} for text in texts]


# name -> (body, text, cause)
BODIES = {
    "plain": (chat(GOOD), GOOD, None),
    "parts": (chat(parts(GOOD[:40], GOOD[40:])), GOOD, None),
    "parts with a thought": (chat([{"type": "thinking", "thinking": "<answer>2</answer>"}, *parts(GOOD)]), GOOD, None),
    "output_text": (chat([{"type": "output_text", "text": GOOD, "annotations": []}]), GOOD, None),
    "strings": (chat([GOOD[:9], GOOD[9:]]), GOOD, None),
    "thought beside": (chat(GOOD, reasoning_content="<answer>2</answer>"), GOOD, None),
    "thought used up": (chat(None, "length", reasoning_content="hmm <answer>2</answer>"), "", "cut_off"),
    "thought used up, other field": (chat("", "length", reasoning="hmm"), "", "cut_off"),
    "thought in parts used up": (chat([{"type": "thinking", "thinking": "hmm"}], "MAX_TOKENS"), "", "cut_off"),
    "refusal": (chat(None, refusal="I can't\nhelp."), "", "declined"),
    "refusal part": (chat([{"type": "refusal", "refusal": "No."}]), "", "declined"),
    "filtered": (chat(None, "content_filter"), "", "content_filter"),
    "tool": (chat(None, "tool_calls", tool_calls=[{"function": {"name": "f"}}]), "", "tool_calls"),
    "null": (chat(None), "", None),
    "no content": ({"choices": [{"message": {"role": "assistant"}, "finish_reason": "stop"}]}, "", None),
    "number": (chat(5), "", None),
    "no parts": (chat([]), "", None),
    "odd parts": (chat([None, 7, {"type": "text"}, {"type": "text", "text": None}, {"text": "a"}]), "a", None),
    "no choices": ({"choices": []}, "", None),
    "null choices": ({"choices": None}, "", None),
    "null message": ({"choices": [{"message": None, "finish_reason": None}]}, "", None),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_becomes_a_text_or_a_cause(name):
    body, text, cause = BODIES[name]
    answer = read_chat(json.dumps(body).encode())
    assert (answer.text, answer.cause) == (text, cause)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 0), (b"<html>busy</html>", 0), (b"\xff\xfe", 0), (b"[" * 100_000, 0), (b"[]", 0), (b"null", 0),
        (b'{"object": "list"}', 0), (b'{"choices": [{"mess', 0),
        (b'{"error": {"message": "slow down", "code": 429}}', 429),
        (b'{"error": {"code": "400"}}', 400), (b'{"object": "error", "message": "long", "code": 413}', 413),
        (b'{"error": {"code": "context_length_exceeded"}}', 400), (b'{"error": {"code": [400]}}', 0),
        (b'{"error": {"code": 4000}}', 0), (b'{"error": {"code": true}}', 0),
        (b'{"error": "no"}', 0), (b'{"error": {"message": "x", "code": "invalid"}}', 0),
        (b'{"choices": [{"error": {"message": "upstream", "code": 502}, "message": {"content": ""}}]}', 502),
    ],
)  # fmt: skip
def test_a_body_that_is_not_a_chat_completion_raises_with_the_status_written_in_it(body, status):
    with pytest.raises(NotAChat) as error:
        read_chat(body)
    assert error.value.status == status


def test_a_verdict_in_a_thought_that_was_cut_off_does_not_count_and_complete_answers_are_unchanged():
    weighed = "<think>Is it <answer>1</answer>? Or"
    assert after_thought(weighed, True) == ""
    assert after_thought("<think>no: <answer>1</answer></think><rubric>half", True) == "<rubric>half"
    assert after_thought(GOOD[:-2], True) == GOOD[:-2]
    assert after_thought(weighed, False) == weighed


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (chat(None, "length", reasoning_content="hmm"), Cause.CUT_OFF),
        (chat(None, refusal="no"), Cause.UNPARSED),
        (chat(None, "content_filter"), Cause.UNPARSED),
        (chat(None, "stop", reasoning_content="<answer>1</answer>"), Cause.UNPARSED),
        (chat("<think>Is it <answer>1</answer>?", "length"), Cause.CUT_OFF),
    ],
)
def test_a_proxy_that_answers_without_text_has_no_verdict_and_a_cause(body, cause):
    for mode in ("critique", "verdict"):
        if mode == "verdict" and body["choices"][0]["message"]["content"]:
            continue
        answer = read_answer(json.dumps(body).encode(), mode)
        assert (answer.verdict, answer.soft) == (None, None)
        assert answer.cause is (cause if mode == "critique" else Cause.UNPARSED)


def test_a_proxy_may_answer_in_parts_and_a_body_without_any_content_is_garbage():
    answer = read_answer(json.dumps(chat(parts("<think>x</think>", "<answer>2</answer>"))).encode())
    assert (answer.verdict, answer.text) == (2, "<think>x</think><answer>2</answer>")
    for body in ({"choices": []}, {"choices": [{"message": {"content": None}}]}, {"error": {"message": "x"}}):
        with pytest.raises(AttemptFailed, match="garbage"):
            read_answer(json.dumps(body).encode())


class Service:
    """Answers a row by the name in its question; every other row well."""

    def __init__(self, special, statuses=None):
        self.special, self.statuses, self.requests = special, statuses or {}, Counter()
        self.app = FastAPI()
        self.app.get("/v1/models")(lambda: {"data": [{"id": "m"}]})
        self.app.post("/v1/chat/completions")(self.complete)

    async def complete(self, request: Request):
        text = (await request.json())["messages"][0]["content"][-1]["text"]
        name = text.partition("[[")[2].partition("]]")[0]
        self.requests[name] += 1
        if name in self.statuses:
            return Response(json.dumps({"error": {"message": f"it is\n{name}"}}), self.statuses[name])
        return self.special.get(name, chat(GOOD))


def pairs(folder, names):
    texts = {"chosen": "red", "rejected": "blue"}
    return write(folder / "p.jsonl", [texts | {"id": name, "question": f"Which [[{name}]]?"} for name in names])


ONCE = ("--orders", "as-given", "--model", "m")


def test_no_kind_of_answer_blocks_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr("proxygrm.serving.chat.client.pause_s", lambda attempt: 0.01)
    service = Service({name: body for name, (body, _, _) in BODIES.items()}, {"too long": 400, "image refused": 422})
    pairs_file = pairs(tmp_path, [*BODIES, "too long", "image refused"])
    with serving(service.app) as url:
        summary = run(tmp_path / "o", url, "--pairs", pairs_file, *ONCE)
        rerun = run(tmp_path / "o", url, "--pairs", pairs_file, *ONCE)
    good = sum(text == GOOD for _, text, _ in BODIES.values())
    assert f"{good} of {len(BODIES) + 2} parsed; 5 prompts refused; 3 cut off" in summary
    assert rerun.splitlines()[1:] == summary.splitlines()[1:]
    assert set(service.requests.values()) == {1}
    by_id = {row["id"]: row for row in rows(tmp_path / "o")}
    assert {name: row["verdict"] for name, row in by_id.items() if row["verdict"]} == {
        name: 1 for name, (_, text, _) in BODIES.items() if text == GOOD
    }
    assert by_id["too long"]["refused"] == "refused_by_service: HTTP 400: it is too long"
    assert by_id["refusal"]["refused"] == "declined: I can't help."
    causes = {name: row["problems"][0] for name, row in by_id.items() if not row["verdict"]}
    assert causes["thought used up"] == "cut_off"
    assert (causes["filtered"], causes["tool"], causes["null"]) == ("content_filter", "tool_calls", "empty")
    assert scored(tmp_path / "o", "--pairs", pairs_file)["unparsed"] == len(BODIES) + 2 - good


def test_a_service_that_fails_on_a_row_is_retried_and_tried_again_by_a_rerun(tmp_path, monkeypatch):
    monkeypatch.setattr("proxygrm.serving.chat.client.pause_s", lambda attempt: 0.01)
    for name, failing in (
        ("http_503", Service({}, {"c": 503})),
        ("malformed_answer", Service({"c": {"error": {"message": "?"}}})),
        ("http_429", Service({"c": {"error": {"message": "slow down", "code": 429}}})),
    ):
        out, pairs_file = tmp_path / name, pairs(tmp_path, "abcde")
        with serving(failing.app) as url, pytest.raises(UserError, match=rf"1 of 5 .*\({name} 1\)") as error:
            run(out, url, "--pairs", pairs_file, *ONCE)
        assert "\n" not in str(error.value)
        assert failing.requests == {"a": 1, "b": 1, "c": 5, "d": 1, "e": 1}
        healthy = Service({})
        with serving(healthy.app) as url:
            assert "5 of 5 parsed" in run(out, url, "--pairs", pairs_file, *ONCE)
        assert healthy.requests == {"c": 1}


def test_answered_rows_can_be_scored_while_another_row_gets_no_answer(tmp_path, monkeypatch):
    monkeypatch.setattr("proxygrm.serving.chat.client.pause_s", lambda attempt: 0.01)
    out, pairs_file = tmp_path / "o", pairs(tmp_path, "abcde")
    some = out / "answers.partial.jsonl"
    with serving(Service({}, {"c": 500}).app) as url:
        for _ in range(2):
            with pytest.raises(UserError, match=r"score the 4 in .*answers.partial.jsonl"):
                run(out, url, "--pairs", pairs_file, *ONCE)
            assert [json.loads(line)["id"] for line in some.read_text().splitlines()] == list("abde")
    assert "N = 4 of" in call("score", "--bench", "pairs", "--answers", some, "--partial")
    with serving(Service({}).app) as url:
        run(out, url, "--pairs", pairs_file, *ONCE)
    assert [row["id"] for row in rows(out)] == list("abcde")
    assert not some.exists()


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_an_error_that_concerns_every_row_ends_the_run_in_one_line(tmp_path, status):
    service = Service({}, {"c": status})
    with serving(service.app) as url, pytest.raises(UserError, match="it is c") as error:
        run(tmp_path / "o", url, "--pairs", pairs(tmp_path, "abcde"), *ONCE, "--concurrency", "1")
    assert "\n" not in str(error.value)


def test_a_teachers_empty_answers_are_written_with_a_cause_and_refused_pairs_do_not_end_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("proxygrm.serving.chat.client.pause_s", lambda attempt: 0.01)
    names = [*BODIES, *(f"refused {at}" for at in range(9))]
    distilled = [PreferencePair(name, "s", f"Which [[{name}]]?", "red", "blue", 1, (), "") for name in names]
    (tmp_path / "pairs").mkdir()
    write_pairs(tmp_path / "pairs", distilled)
    statuses = {name: 400 for name in names if name.startswith("refused")}
    service = Service({name: body for name, (body, _, _) in BODIES.items()}, statuses)
    out = tmp_path / "c.jsonl"
    with serving(service.app) as url:
        first = asyncio.run(distill(tmp_path / "pairs", out, url, "m"))
        second = asyncio.run(distill(tmp_path / "pairs", out, url, "m"))
    good = sum(text == GOOD for _, text, _ in BODIES.values())
    assert (first.right, first.failed, first.written) == (good, {"refused_by_service": 9}, len(BODIES))
    assert first.unusable == second.unusable
    wanted = Counter(cause for _, text, cause in BODIES.values() if cause)
    assert {cause: first.unusable[cause] for cause in wanted} == wanted
    assert {row.id: row.reason for row in read_critiques(out)}["thought used up"] == "cut_off"


def test_best_of_n_counts_answers_without_text_as_no_verdict(tmp_path):
    candidates = write(tmp_path / "c.jsonl", [{"id": "7", "question": "Which [[null]]?", "candidates": ["a", "b"]}])
    with serving(Service({"null": chat(None, "length", reasoning="x")}).app) as url:
        call("best-of-n", candidates, tmp_path / "j.jsonl", "--judge", url, "--model", "m")
    judged = [json.loads(line) for line in (tmp_path / "j.jsonl").read_text().splitlines()]
    assert [row["verdict"] for row in judged] == [None, None]
