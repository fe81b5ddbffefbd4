from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxygrm.evaluate.benchmarks.vl_rewardbench import category_of
from proxygrm.evaluate.rows.ordered_pair import judged_row, ordered_pairs
from proxygrm.evaluate.rows.pairs import EvalPair
from proxygrm.evaluate.scores.metrics import wilson
from proxygrm.evaluate.scores.score import read, score
from support.evaluate.answers import VL_IDS, answer, own, scored, vl_rows, write
from support.refusals import refused


def test_a_table_counted_by_hand(tmp_path):
    rows = [
        answer("hallucination_pair-1", True),
        answer("RLAIF-V-1", False, reverse=True),
        answer("RLHF-V-1", True, reverse=True),
        answer("RLHF-V-2", None),
        answer("mathverse_1", True),
        answer("mmmu_1", False),
        answer("wildvision-battle-1", True),
    ]
    official = scored(tmp_path, rows, partial=True)
    assert official["n"] == 7
    assert official["overall"] == pytest.approx(4 / 7)
    assert {name: (c["n"], c["accuracy"]) for name, c in official["categories"].items()} == {
        "general": (1, 1.0),
        "hallucination": (4, 0.5),
        "reasoning": (2, 0.5),
    }
    assert official["macro"] == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert (official["unparsed"], official["unparsed_share"], official["ties"]) == (1, 1 / 7, 0)
    upstream = scored(tmp_path, rows, partition="upstream", partial=True)
    assert {name: c["n"] for name, c in upstream["categories"].items()} == {
        "general": 4,
        "hallucination": 1,
        "reasoning": 2,
    }
    assert upstream["macro"] == pytest.approx((0.5 + 1 + 0.5) / 3)
    assert upstream["overall"] == official["overall"]


def test_every_policy_has_its_rule_for_unparsed_and_tied_rows(tmp_path):
    tie = {"id": "RLHF-V-3", "rewards": [0.5, 0.5], "reverse": False}
    rows = [answer("RLHF-V-1", True), answer("RLHF-V-2", None), tie, answer("mmmu_1", False)]
    figures = scored(tmp_path, rows, partial=True)["policies"]
    assert (figures["wrong"]["n"], figures["wrong"]["overall"]) == (4, 1 / 4)
    assert (figures["drop"]["n"], figures["drop"]["overall"]) == (2, 1 / 2)
    assert figures["official"] == figures["drop"]
    rows = [row | {"Category": "vqa"} for row in rows]
    figures = scored(tmp_path, rows, "multimodal-rewardbench", policy="official", partial=True)
    assert (figures["n"], figures["overall"]) == (4, (1 + 0.5 + 0.5 + 0) / 4)
    assert (figures["unparsed"], figures["ties"]) == (1, 1)


def test_a_parse_failure_recorded_as_verdict_2_is_not_a_win(tmp_path):
    guessed = {"id": "a", "Category": "vqa", "rewards": [0, 1], "reverse": True, "critic": "I cannot say."}
    figures = scored(tmp_path, [guessed, answer("b", True, Category="vqa")], "multimodal-rewardbench", partial=True)
    assert figures["overall"] == 0.5
    assert figures["policies"]["recorded"]["overall"] == 1.0
    assert any("recorded as verdicts" in note for note in figures["notes"])


def test_a_complete_file_is_scored_against_its_revision(tmp_path):
    figures = scored(tmp_path, vl_rows(random.Random(0)))
    assert (figures["n"], figures["expected"], figures["revision"]) == (1250, 1250, "first release")
    assert {name: c["n"] for name, c in figures["categories"].items()} == {
        "general": 183,
        "hallucination": 749,
        "reasoning": 318,
    }
    assert not any("PARTIAL" in note or "pairs where" in note for note in figures["notes"])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), policy=st.sampled_from(["wrong", "drop", "official", "recorded"]))
def test_shuffling_changes_nothing_and_overall_is_the_weighted_categories(tmp_path_factory, seed, policy):
    rng, folder = random.Random(seed), tmp_path_factory.mktemp("shuffled")
    rows = vl_rows(rng)[::5]
    figures = scored(folder, rows, policy=policy, partial=True)
    weighted = sum(c["n"] * c["accuracy"] for c in figures["categories"].values()) / figures["n"]
    assert weighted == pytest.approx(figures["overall"])
    rng.shuffle(rows)
    assert scored(folder, rows, policy=policy, partial=True) == figures


def test_both_orders_are_one_pair_with_consistency_and_position_bias(tmp_path):
    # a: right twice; b: says 1 twice; c: wrong twice; d: unparsed once, right once.
    verdicts = {"a": (True, True), "b": (True, False), "c": (False, False), "d": (None, True)}
    rows = [answer(f"mmmu_{k}", v, order, prompt=k, chosen="x", rejected="y")
            for k, both in verdicts.items() for order, v in zip((False, True), both, strict=True)]  # fmt: skip
    figures = scored(tmp_path, rows, partial=True)
    assert (figures["n"], figures["orders"], figures["judgements"]) == (4, 2, 8)
    assert figures["overall"] == pytest.approx((1 + 0.5 + 0 + 0.5) / 4)
    assert (figures["position"]["consistency"], figures["position"]["consistency_pairs"]) == (pytest.approx(2 / 3), 3)
    assert figures["position"]["says_1"] == pytest.approx(4 / 7)  # a says 1, 2; b 1, 1; c 2, 1; d 2
    assert figures["position_bias"] == pytest.approx(4 / 7 - 3 / 7)  # d's verdict is the one with the better one second
    assert figures["position"]["right_in_all"] == 1 / 4
    drop = figures["policies"]["drop"]
    assert (drop["n"], drop["overall"]) == (4, pytest.approx((1 + 0.5 + 0 + 1) / 4))
    with refused("eval.uneven", count=1, total=4, rows=[7]):
        scored(tmp_path, rows[:-1])


def test_repeated_ids_in_random_orders_do_not_count_as_both_orders(tmp_path):
    rows = [answer(id_, True, reverse=at % 2 == 1) for at, id_ in enumerate(["mmmu_1", "mmmu_1", "mmmu_2", "mmmu_3"])]
    figures = scored(tmp_path, rows, partial=True)
    assert (figures["n"], figures["orders"]) == (4, 1)


def test_the_curve_over_votes_has_its_upper_bound_and_counts_what_has_no_majority(tmp_path):
    votes = {"mmmu_1": "rrww", "mmmu_2": "wwwr", "mmmu_3": "....", "mmmu_4": "r.rr", "mmmu_5": "wwww"}
    outcome = {"r": True, "w": False, ".": None}
    files = []
    for at in range(4):
        rows = [answer(id_, outcome[letters[at]], reverse=at % 2 == 1) for id_, letters in votes.items()]
        files += write(tmp_path / f"{at}.jsonl", rows)
    figures = score(read("vl-rewardbench", files, partial=True))
    assert figures["overall"] == 1 / 5  # a tie is not right
    assert figures["ballots"] == {"any": 3 / 5, "ballots": 5, "tied": 1, "no_verdict": 1}
    curve = {k: (v["overall"], v["any"], v["tied"], v["no_verdict"]) for k, v in figures["votes"].items()}
    assert curve == {"1": (2 / 5, 2 / 5, 0, 1), "3": (2 / 5, 2 / 5, 0, 1)}


def test_with_both_orders_each_order_votes_and_any_is_their_mean(tmp_path):
    files = []
    for at, (first, second) in enumerate([(True, False), (False, False), (False, True)]):
        rows = [answer("mmmu_1", first), answer("mmmu_1", second, reverse=True)]
        files += write(tmp_path / f"{at}.jsonl", rows)
    figures = score(read("vl-rewardbench", files, partial=True))
    assert (figures["votes"]["1"]["any"], figures["votes"]["3"]["any"], figures["ballots"]["ballots"]) == (0.5, 1, 2)
    assert figures["overall"] == 0


@pytest.mark.parametrize(
    ("votes", "wrong", "drop", "official"),
    [
        ("rrw", 1, 1, 1), ("rww", 0, 0, 0), ("r.w", 0, None, None), ("r..", 0, 1, None), ("rr.", 1, 1, None),
        ("...", 0, None, None), ("rwt", 0, None, None), ("rrrww", 1, 1, 1), ("rrwwt", 0, None, None),
    ],
)  # fmt: skip
def test_votes_of_k_samples(tmp_path, votes, wrong, drop, official):
    outcome = {"r": True, "w": False, ".": None}
    files = []
    for at, letter in enumerate(votes):
        row = answer("mmmu_1", outcome.get(letter), reverse=at % 2 == 1)
        if letter == "t":
            row = {"id": "mmmu_1", "rewards": [1, 1], "reverse": False}
        files += write(tmp_path / f"{at}.jsonl", [row, answer("mmmu_2", True)])
    answers = read("vl-rewardbench", files, partial=True)
    for policy, expected in (("wrong", wrong), ("drop", drop), ("official", official)):
        figures = score(answers, policy=policy)
        assert (figures["n"], figures["overall"]) == (
            (1, 1.0) if expected is None else (2, pytest.approx((expected + 1) / 2))
        )
        assert figures["samples"] == len(votes)
        assert set(figures["votes"]) == {str(k) for k in (1, 3, 5, 7, 9, 11, 13, 15) if k <= len(votes)}


def test_the_orders_vote_separately_and_the_pair_scores_their_mean(tmp_path):
    votes = {False: (True, False, True), True: (False, False, True)}
    rows = [
        answer("mmmu_1", right, reverse, sample=sample)
        for reverse, rights in votes.items()
        for sample, right in enumerate(rights)
    ]
    answers = read("vl-rewardbench", write(tmp_path / "a.jsonl", rows), partial=True)
    figures = score(answers)
    assert (figures["n"], figures["orders"], figures["samples"], figures["overall"]) == (1, 2, 3, 0.5)
    assert {k: v["overall"] for k, v in figures["votes"].items()} == {"1": 0.5, "3": 0.5}
    assert score(answers, votes=1)["overall"] == 0.5
    assert figures["consistency"] == 0


def test_details_of_the_score_are_of_the_counted_votes(tmp_path):
    first = [answer("mmmu_1", True, False, sample=0), answer("mmmu_1", True, True, sample=0)]
    rest = [answer("mmmu_1", None, order, sample=sample) for sample in (1, 2) for order in (False, True)]
    answers = read("vl-rewardbench", write(tmp_path / "a.jsonl", rest + first), partial=True)
    alone = score(read("vl-rewardbench", write(tmp_path / "b.jsonl", first), partial=True))
    figures = score(answers, votes=1)
    of_votes = ("judgements", "unparsed", "unparsed_share", "ties", "consistency", "position_bias", "position")
    assert {name: figures[name] for name in of_votes} == {name: alone[name] for name in of_votes}
    assert (figures["consistency"], figures["position"]["right_in_all"], figures["unparsed"]) == (1, 1, 0)
    assert (figures["samples"], figures["votes_counted"], score(answers)["unparsed"]) == (3, 1, 4)


def test_samples_in_random_orders_vote_together(tmp_path):
    rows = [answer(f"mmmu_{at}", s < 2, reverse=(s + at) % 2 == 0, sample=s) for at in range(4) for s in range(3)]
    figures = scored(tmp_path, rows, partial=True)
    assert (figures["n"], figures["orders"], figures["samples"], figures["overall"]) == (4, 1, 3, 1.0)


def test_a_verdict_without_its_tag_is_counted_in_a_note(tmp_path):
    rows = [answer("mmmu_1", True), answer("mmmu_2", True) | {"critic": "Response 1 is better"}]
    figures = scored(tmp_path, rows, partial=True)
    assert figures["overall"] == 1
    assert any(note.startswith("1 verdicts come from critiques without <answer>") for note in figures["notes"])


def test_more_votes_than_there_are_and_the_same_file_twice_are_refused(tmp_path):
    rows = [answer("a", True), answer("b", False)]
    with refused("eval.too-many-votes", votes=3, samples=1):
        scored(tmp_path, rows, "pairs", votes=3)
    file = write(tmp_path / "a.jsonl", rows)
    with refused("eval.same-file"):
        read("pairs", file + file)
    with refused("eval.answers-missing", path=tmp_path):
        read("pairs", [tmp_path])


def test_own_judgement_rows_score_like_upstream_rows(tmp_path):
    rows = [
        {"made_by": {"model": "x"}},
        own("vl_rewardbench:RLHF-V-1", "as_is", 1, 1), own("vl_rewardbench:RLHF-V-1", "swapped", 2, 1),
        own("vl_rewardbench:RLHF-V-1#2", "as_is", 2, None), own("vl_rewardbench:RLHF-V-1#2", "swapped", 1, 1),
        own("vl_rewardbench:mmmu_1", "as_is", 2, "tie"), own("vl_rewardbench:mmmu_1", "swapped", 1, 2),
    ]  # fmt: skip
    figures = scored(tmp_path, rows, partial=True)
    assert (figures["n"], figures["orders"], figures["unparsed"], figures["ties"]) == (3, 2, 1, 1)
    assert figures["overall"] == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert {name: c["n"] for name, c in figures["categories"].items()} == {"hallucination": 2, "reasoning": 1}


def test_rows_as_the_judge_writes_them_agree_with_its_own_summary(tmp_path):
    from proxygrm.evaluate.scores.metrics import summarise

    rng = random.Random(4)
    pairs = [
        EvalPair(id_, f"question {at}", "one", "two", rng.choice([1, 2]), category=category_of(id_))
        for at, id_ in enumerate(VL_IDS[280:400])
    ]
    critique = "<rubric>a (100%)<justify>b</justify></rubric><eval>c</eval><answer>{}</answer>"
    rows = []
    for shown in ordered_pairs(pairs):
        text = critique.format(rng.choice([1, 2]) if rng.random() < 0.9 else "both")
        rows.append(judged_row(shown, {"text": text, "tokens": 9, "truncated": False, "problem": None}))
    summary, figures = summarise(rows), scored(tmp_path, rows, partial=True)
    assert figures["n"] == summary["pairs"] == 120
    assert figures["unparsed"] == summary["unparsed"] > 0
    assert figures["overall"] == pytest.approx(summary["accuracy_unparsed_wrong"])
    assert figures["overall_interval"] == pytest.approx(wilson(summary["accuracy_unparsed_wrong"] * 120, 120))
    assert figures["consistency"] == pytest.approx(summary["order_consistency"])
    assert figures["position"]["says_1"] == pytest.approx(summary["says_1"])
    assert figures["position"]["right_in_all"] == pytest.approx(summary["both_orders_accuracy"])
