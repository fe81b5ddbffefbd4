"""The one driver that judges pairs: what it selects, what it requests again, and how the proxy's verdicts join."""

from __future__ import annotations

import pytest

from proxygrm.evaluate.judging import collect_answers, prepare
from proxygrm.evaluate.rows.ordered_pair import ordered_pairs
from proxygrm.evaluate.rows.pairs import EvalPair
from proxygrm.evaluate.settings import EvaluateSettings
from support.refusals import refused

PAIRS = [EvalPair(f"p{number}", f"q{number}?", "good", "bad", 1) for number in range(4)]


class Recorder:
    """A judge that answers everything, or stops after some requests; `requested` are the keys it was sent."""

    name = "recorder"

    def __init__(self, text="<think>t</think><answer>1</answer>", stop_after=None):
        self.made_by, self.text, self.stop_after, self.requested, self.works = {"judge": "r"}, text, stop_after, [], []

    def judge(self, requests, take, works):
        self.works.append(works)
        for request in requests:
            if len(self.requested) == self.stop_after:
                raise KeyboardInterrupt
            self.requested.append(request.key)
            take({"key": request.key, "text": self.text, "tokens": 1, "truncated": False, "problem": None})


def test_an_interrupted_run_requests_only_the_missing_judgements(tmp_path):
    judging = prepare(Recorder(stop_after=3), PAIRS, EvaluateSettings())
    with pytest.raises(KeyboardInterrupt):
        judging.rows(tmp_path / "a.jsonl")
    judging.judge.stop_after = None
    counts = []
    rows = judging.rows(tmp_path / "a.jsonl", lambda done, total, note: counts.append((done, total)))
    assert judging.judge.requested == [request.key for request in judging.requests]
    assert judging.judge.works == [False, True]
    assert (counts[0], counts[-1]) == ((3, 8), (8, 8))
    assert [(row["id"], row["order"]) for row in rows] == [(r.pair.id, r.order) for r in judging.requests]
    judging.rows(tmp_path / "a.jsonl")
    assert len(judging.judge.requested) == 8


def test_answers_that_are_known_from_elsewhere_are_not_requested(tmp_path):
    judge, requests = Recorder(), ordered_pairs(PAIRS)
    known = [{"key": request.key, "text": "known", "problem": None} for request in requests[:6]]
    answers = collect_answers(judge, requests, tmp_path / "a.jsonl", known=known)
    assert judge.requested == [request.key for request in requests[6:]]
    assert answers[requests[0].key]["text"] == "known"
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 1 + 2


def test_the_limit_counts_pairs_and_a_span_has_all_their_orders_and_votes():
    settings = EvaluateSettings(max_pairs=3, votes=2, temperature=1.0)
    judging = prepare(Recorder(), PAIRS, settings)
    assert (len(judging.pairs), judging.available, len(judging.requests)) == (3, 4, 12)
    assert {request.pair.id for request in judging.requests_for(range(1, 3))} == {"p1", "p2"}
    assert len(judging.requests_for(range(1, 3))) == 8


def test_pairs_without_their_images_are_dropped_and_counted_unless_none_is_left(tmp_path):
    gone = EvalPair("x", "q?", "good", "bad", 1, (tmp_path / "gone.png",))
    dropping = EvaluateSettings(missing_images="drop")
    judging = prepare(Recorder(), [*PAIRS, gone], dropping)
    assert (len(judging.pairs), judging.dropped, judging.missing_images) == (4, 1, 0)
    assert prepare(Recorder(), [gone], EvaluateSettings(missing_images="blank")).missing_images == 1
    assert prepare(Recorder(), [gone], EvaluateSettings(), reads_images=False).missing_images == 0
    with refused("image.all-missing", count=4):
        prepare(Recorder(), PAIRS, dropping, images_required=True)
