"""Answers beside the first policy's: what is sent to a judge, and what its replies come to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from proxygrm.evaluate.policy import run
from proxygrm.evaluate.policy.figures import Answered, Judged, figures
from proxygrm.evaluate.rows.ordered_pair import OrderedPair
from proxygrm.evaluate.settings import EvaluateSettings

QUESTIONS = [{"id": f"q{n}", "question": "Which?", "images": [], "answers": ["a"], "choices": []} for n in range(4)]
TEXTS = {"start": ["aa", "a", "", "aaa"], "rl": ["aaaa", "", "a", "aaa"]}


class ByLength:
    """Prefers the longer response. writes: as a model that writes, which refuses what `refuses` says."""

    name, made_by = "by length", {"judge": "by length"}

    def __init__(self, writes: bool, refuses: str = "") -> None:
        self.writes, self.refuses, self.seen = writes, refuses, list[tuple[str, ...]]()

    def judge(self, requests: Sequence[OrderedPair], take: Callable[[Any], None], works: bool) -> None:
        for request in requests:
            one, two = request.responses
            self.seen.append((one, two))
            row: dict[str, Any] = {"key": request.key, "text": "", "tokens": 1, "truncated": False, "problem": None}
            if request.pair.id == self.refuses:
                take(row | {"problem": "ValueError: too long"})
            elif self.writes:
                better = 1 if len(one) >= len(two) else 2
                rubric = "<rubric>Length (100%)<justify>it is the rule</justify></rubric><eval>longer</eval>"
                take(row | {"text": f"{rubric}<answer>{better}</answer>"})
            else:
                take(row | {"scores": [float(len(one)), float(len(two))]})


def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judge: ByLength) -> dict[str, list[Answered]]:
    monkeypatch.setattr(run, "judge_for", lambda *_: judge)
    monkeypatch.setattr(run, "is_scalar_checkpoint", lambda _: not judge.writes)
    evaluation = run.PolicyEvaluation(
        questions=tmp_path / "questions", policies={}, judges={"second": tmp_path}, out=tmp_path,
        settings=EvaluateSettings(),
    )  # fmt: skip
    answers = {tag: [Answered(f"q{n}", text, None) for n, text in enumerate(own)] for tag, own in TEXTS.items()}
    return run._judged(evaluation, QUESTIONS, "second", answers, lambda *_: None)


def test_a_scalar_judge_scores_both_and_an_empty_answer_loses_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = ByLength(writes=False)
    found = judged(tmp_path, monkeypatch, judge)
    assert judge.seen == [("aa", "aaaa"), ("aaa", "aaa")]
    assert [answer.judged["second"] for answer in found["rl"]] == [
        Judged(1.0, 4.0), Judged(0.0, cause="empty"), Judged(1.0, cause="empty"), Judged(0.5, 3.0)
    ]  # fmt: skip
    assert [answer.judged["second"] for answer in found["start"]] == [
        Judged(score=2.0), Judged(), Judged(cause="empty"), Judged(score=3.0)
    ]  # fmt: skip
    assert figures(found["rl"], found["start"])["second_change"][0] == 1.0


def test_a_judge_that_writes_is_asked_in_both_orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = ByLength(writes=True)
    found = judged(tmp_path, monkeypatch, judge)
    assert judge.seen == [("aa", "aaaa"), ("aaaa", "aa"), ("aaa", "aaa"), ("aaa", "aaa")]
    wins = [answer.judged["second"].win for answer in found["rl"]]
    assert wins == [1.0, 0.0, 1.0, 0.5], "equal answers: the first place wins in each order"
    assert figures(found["rl"], found["start"])["second_wins"] == 0.625


@pytest.mark.parametrize("writes", [False, True])
def test_what_a_judge_refuses_is_not_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: bool) -> None:
    found = judged(tmp_path, monkeypatch, ByLength(writes, refuses="q0"))
    assert found["rl"][0].judged["second"] == Judged(cause="ValueError: too long")
    assert figures(found["rl"], found["start"])["second_unjudged"] == 1
