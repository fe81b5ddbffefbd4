from __future__ import annotations

import json
import random
import subprocess
import sys
from fractions import Fraction
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxygrm.benchmarks import BENCHMARKS, Facts, benchmark, mm_rlhf_rewardbench, multimodal_rewardbench
from proxygrm.benchmarks.vl_rewardbench import category_of, upstream_category_of
from proxygrm.errors import UserError
from proxygrm.evaluate.metrics import wilson
from proxygrm.evaluate.score import read, score

VL_IDS = [
    *(f"hallucination_pair-{i}" for i in range(448)),
    *(f"RLAIF-V-{i}" for i in range(200)),
    *(f"RLHF-V-{i}" for i in range(101)),
    *(f"mathverse_{i}" for i in range(200)),
    *(f"mmmu_pro_test_Art_{i}" for i in range(118)),
    *(f"wildvision-battle-{i}" for i in range(150)),
    *(f"jailbreak-typo-{i}" for i in range(33)),
]
VL_IDS[300:325] = VL_IDS[:25]  # 1,250 rows of 1,225 ids, as in the release


def answer(id_: str, right: bool | None, reverse: bool = False, **more) -> dict:
    """right None: a generative judge without a verdict, as upstream writes it."""
    rewards = [0, 0] if right is None else [1, 0] if right != reverse else [0, 1]
    critic = "no idea" if right is None else f"<answer>{1 if rewards[0] else 2}</answer>"
    return {"id": id_, "rewards": rewards, "reverse": reverse, "critic": critic} | more


def write(path, rows) -> list:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return [path]


def vl_rows(rng: random.Random) -> list[dict]:
    return [
        answer(
            id_, rng.choice([True, True, False, None]), rng.random() < 0.5, prompt=f"q{at}", chosen="a", rejected="b"
        )
        for at, id_ in enumerate(VL_IDS)
    ]


def scored(tmp_path, rows, bench="vl-rewardbench", partition="official", policy="wrong", votes=0, **options):
    return score(read(bench, write(tmp_path / "answers.jsonl", rows), **options), partition, policy, votes)


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


def test_every_policy_says_what_it_does_with_unparsed_and_tied_rows(tmp_path):
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


def test_a_parse_failure_recorded_as_two_wins_is_no_win(tmp_path):
    guessed = {"id": "a", "Category": "vqa", "rewards": [0, 1], "reverse": True, "critic": "I cannot say."}
    figures = scored(tmp_path, [guessed, answer("b", True, Category="vqa")], "multimodal-rewardbench", partial=True)
    assert figures["overall"] == 0.5
    assert figures["policies"]["recorded"]["overall"] == 1.0
    assert any("recorded as verdicts" in note for note in figures["notes"])


def test_the_case_bug_gives_the_partition_in_circulation_and_the_official_one_does_not():
    for rule, sizes in ((category_of, (183, 749, 318)), (upstream_category_of, (484, 448, 318))):
        names = [rule(id_) for id_ in VL_IDS]
        assert tuple(names.count(name) for name in ("general", "hallucination", "reasoning")) == sizes


def test_a_whole_file_is_scored_against_its_revision(tmp_path):
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
    with pytest.raises(UserError, match=r"1 of 4 pairs lack one of their two orders \(row 7\)"):
        scored(tmp_path, rows[:-1])


def test_repeated_ids_in_random_orders_are_not_taken_for_both_orders(tmp_path):
    rows = [answer(id_, True, reverse=at % 2 == 1) for at, id_ in enumerate(["mmmu_1", "mmmu_1", "mmmu_2", "mmmu_3"])]
    figures = scored(tmp_path, rows, partial=True)
    assert (figures["n"], figures["orders"]) == (4, 1)


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
        assert set(figures["votes"]) == {str(k) for k in (1, 3, 5, 7, 9) if k <= len(votes)}


def test_acc_plus_counts_ids_with_every_pair_right(tmp_path):
    def row(id_, path, right, text):
        return answer(id_, right, image=path, prompt="p", chosen=text, rejected="r")

    rows = [
        row("a", "mcq/long_tail.png", True, "1"), row("a", "mcq/long_tail.png", True, "2"),
        row("b", "./long/x.png", True, "1"), row("b", "./long/x.png", False, "2"),
        answer("c", True, video="video/mcq_clip.mp4"),
    ]  # fmt: skip
    figures = scored(tmp_path, rows, "mm-rlhf-rewardbench", partial=True)
    assert (figures["overall"], figures["acc_plus"], figures["acc_plus_ids"]) == (4 / 5, pytest.approx(2 / 3), 3)
    assert {name: c["n"] for name, c in figures["categories"].items()} == {"mcq": 2, "long": 2, "video": 1}
    upstream = scored(tmp_path, rows, "mm-rlhf-rewardbench", "upstream", partial=True)
    assert {name: c["n"] for name, c in upstream["categories"].items()} == {"mcq": 3, "long": 2}


@pytest.mark.parametrize(
    ("path", "official", "upstream"),
    [
        ("mcq/a.png", "mcq", "mcq"),
        ("short/prolonged.png", "short", "long"),
        ("/data/MM-RLHF/safety/a.png", "safety", "safety"),
        ("/shorts/video/a.mp4", "video", "short"),
        ("/data/long/mcq/a.png", None, "mcq"),
        ("img/a.png", None, "none"),
        ("mcq", None, "mcq"),
    ],
)
def test_mm_rlhf_categories(path, official, upstream):
    assert mm_rlhf_rewardbench.category_of(path) == official
    assert mm_rlhf_rewardbench.upstream_category_of(path) == upstream


def test_multimodal_rewardbench_splits_and_the_macro_with_all(tmp_path):
    rows = [
        answer("Pairs_1", True, Category="Safety"), answer("hateful_2", False, Category="safety"),
        answer("MathVista_3", True, Category="reasoning"), answer("EMMA-4", True, Category="reasoning"),
        answer("nocaps_5", False, Category="preference"),
    ]  # fmt: skip
    figures = scored(tmp_path, rows, "multimodal-rewardbench", partial=True)
    assert {n: (c["n"], c["accuracy"]) for n, c in figures["categories"].items()} == {
        "preference": (1, 0), "reasoning": (2, 1), "safety": (2, 0.5),
    }  # fmt: skip
    assert {n: c["accuracy"] for n, c in figures["splits"].items()} == {
        "reasoning/coding": 1, "reasoning/math": 1, "safety/bias": 1, "safety/toxicity": 0,
    }  # fmt: skip
    upstream = scored(tmp_path, rows, "multimodal-rewardbench", "upstream", partial=True)
    assert upstream["macro"] == pytest.approx((1 + 0 + 1 + 1 + 0 + 3 / 5) / 6)
    assert scored(tmp_path, rows, "multimodal-rewardbench", "split", partial=True)["macro"] == pytest.approx(3 / 5)
    assert multimodal_rewardbench.category_of("safety/bias") == "safety"


def test_upstreams_script_does_not_see_the_field_ID():
    facts = Facts("pairs_1", "safety", "", "")
    partitions = benchmark("Multimodal_RewardBench").partitions
    assert partitions["split"].category(facts) == "safety/bias"
    assert partitions["upstream"].category(facts) == "safety/toxicity"


def own(id_, order, label, verdict, **more):
    return {"id": id_, "source": "vl_rewardbench", "order": order, "label": label, "verdict": verdict} | more


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
    from proxygrm.evaluate.metrics import summarise
    from proxygrm.evaluate.pairs import EvalPair
    from proxygrm.evaluate.shown import judged_row, shown_in_orders

    rng = random.Random(4)
    pairs = [
        EvalPair(id_, f"question {at}", "one", "two", rng.choice([1, 2]), category=category_of(id_))
        for at, id_ in enumerate(VL_IDS[280:400])
    ]
    critique = "<rubric>a (100%)<justify>b</justify></rubric><eval>c</eval><answer>{}</answer>"
    rows = []
    for shown in shown_in_orders(pairs):
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


GOOD = answer("mmmu_1", True)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([GOOD, GOOD | {"rewards": [1]}], "not a pair of numbers in row 2"),
        ([GOOD | {"rewards": [1, None]}], "not a pair of numbers in row 1"),
        ([GOOD | {"rewards": [True, False]}], "not a pair of numbers in row 1"),
        ([GOOD | {"rewards": "10"}], "not a pair of numbers in row 1"),
        ([GOOD | {"rewards": [float("nan"), 0]}], "NaN or an infinity in row 1"),
        ([GOOD | {"rewards": [float("-inf"), 0]}], "NaN or an infinity in row 1"),
        ([GOOD | {"reverse": "false"}], "`reverse` is neither true nor false in row 1"),
        ([GOOD, answer("", True)], "no id in row 2"),
        ([GOOD, "not json", "[1]"], "not JSON in row 2; the line is not a JSON object in row 3"),
        ([GOOD] * 3 + ["{}"] * 7, r"neither `rewards` nor `verdict` in 7 rows \(4, 5, 6, 7, 8, ...\)"),
        ([own("a", "as_is", 3, 1)], "`label` is neither 1 nor 2"),
        ([own("a", "as_is", 1, 0)], "`verdict` is not 1, 2, tie or null"),
        ([GOOD, {k: v for k, v in answer("mmmu_2", True).items() if k != "reverse"}], "`reverse` is missing in row 2"),
        ([], "holds no answers"),
    ],
)
def test_rows_that_cannot_be_scored_are_named_even_with_partial(tmp_path, rows, message):
    with pytest.raises(UserError, match=message):
        scored(tmp_path, rows, partial=True)


def test_a_torn_last_line_is_named_and_left_out_only_on_request(tmp_path):
    file = tmp_path / "answers.jsonl"
    file.write_text(json.dumps(GOOD) + "\n" + json.dumps(GOOD)[:20])
    with pytest.raises(UserError, match=r"the last line \(row 2\) is cut off"):
        read("vl-rewardbench", [file])
    figures = score(read("vl-rewardbench", [file], partial=True))
    assert figures["partial"]
    assert figures["n"] == 1
    assert figures["notes"][0].startswith("PARTIAL: 1 of 1,250")
    assert any("row 2) is cut off" in note for note in figures["notes"])


def test_missing_repeated_and_foreign_rows_are_refused(tmp_path):
    rows = vl_rows(random.Random(1))
    with pytest.raises(UserError, match=r"1,249 pairs, but VL-RewardBench has 1,250 or 1,247: 1 are missing"):
        scored(tmp_path, rows[:-1])
    with pytest.raises(UserError, match=r"1,251 pairs.* row 1,251 repeat"):
        scored(tmp_path, [*rows, rows[3]])
    with pytest.raises(UserError, match=r"of 1,224 ids instead of 1,225: .*row 1,250 repeat"):
        scored(tmp_path, [*rows[:-1], rows[40]])
    with pytest.raises(UserError, match=r"row 2 of 1,250 are answers to MM-RLHF-RewardBench"):
        scored(tmp_path, [rows[0], rows[-1] | {"image": "mcq/1.png"}, *rows[2:]])
    with pytest.raises(UserError, match="--bench vl-rewardbench"):
        scored(tmp_path, rows, "mm-rlhf-rewardbench", partial=True)
    with pytest.raises(UserError, match="no category can be told, because the row lacks a `Category`"):
        scored(tmp_path, [answer("x", True)], "multimodal-rewardbench", partial=True)


def test_the_given_pairs_say_what_must_be_there(tmp_path):
    rows = [answer("a", True), answer("a", False), answer("b", True)]
    assert scored(tmp_path, rows, "pairs", expected=["a", "b", "a"])["expected"] == 3
    with pytest.raises(UserError, match=r"1 of 4 pairs have no answer: c; "):
        scored(tmp_path, rows, "pairs", expected=["a", "b", "a", "c"])
    with pytest.raises(UserError, match=r"not among the given pairs, or stand there less often: a \(rows 1 and 2\)"):
        scored(tmp_path, rows, "pairs", expected=["a", "b", "c"])


def test_nasty_ids_and_texts_are_read(tmp_path):
    rows = [answer('mmmu "q"\n\u2028é', True), '{"id": "mmmu_\\ud800", "rewards": [1, 0], "reverse": false}']
    assert scored(tmp_path, rows, partial=True)["n"] == 2


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(
        st.dictionaries(
            st.sampled_from(["id", "ID", "rewards", "reverse", "critic", "chosen", "image", "Category", "sample",
                             "verdict", "label", "source", "copy", "response_1", "response_2", "group"]),
            ANYTHING | st.lists(st.floats() | st.integers(), min_size=2, max_size=2) | st.sampled_from([1, 2]),
        ), max_size=4,
    ),
    bench=st.sampled_from(sorted(BENCHMARKS)),
)  # fmt: skip
def test_whatever_stands_in_the_rows_there_are_figures_or_one_line(tmp_path_factory, rows, bench):
    try:
        figures = scored(tmp_path_factory.mktemp("any"), rows, bench, partial=True)
    except UserError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert 0 <= figures["overall"] <= 1


def slow_wilson(right: int, n: int) -> tuple[float, float]:
    """The interval by its definition: all p that the score test does not reject, searched by bisection."""

    def inside(p: float) -> bool:
        return (right / n - p) ** 2 <= 1.959964**2 * p * (1 - p) / n

    ends = []
    for far in (0.0, 1.0):
        near, edge = right / n, far
        for _ in range(60):
            middle = (near + edge) / 2
            near, edge = (middle, edge) if inside(middle) else (near, middle)
        ends.append(near)
    return ends[0], ends[1]


@pytest.mark.parametrize(("right", "n"), [(3, 10), (1, 46), (938, 1247), (17, 34)])
def test_intervals_agree_with_their_definition(right, n):
    assert wilson(right, n) == pytest.approx(slow_wilson(right, n), abs=1e-9)


def test_the_bootstrap_agrees_with_one_that_draws_rows():
    import numpy as np

    from proxygrm.evaluate.metrics import macro_interval

    groups = [np.repeat([0.0, 0.5, 1.0], [9, 4, 7]), np.repeat([0.0, 1.0], [30, 70])]
    rng = np.random.default_rng(5)
    slow = [np.mean([rng.choice(group, len(group)).mean() for group in groups]) for _ in range(4000)]
    assert macro_interval(groups) == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])), abs=0.012)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (3, 9), (10, 10), (40, 61)])
def test_mcnemar_is_the_exact_binomial_test(b, c):
    from proxygrm.evaluate.metrics import mcnemar_exact

    n = b + c
    tail = sum(Fraction(comb(n, k), 2**n) for k in range(min(b, c) + 1))
    assert mcnemar_exact(b, c) == pytest.approx(min(1.0, float(2 * tail)))


def test_every_benchmark_has_an_official_partition_first():
    for bench in BENCHMARKS.values():
        assert next(iter(bench.partitions)) == "official"
    with pytest.raises(UserError, match="no benchmark is called 'x'"):
        benchmark("x")


def command(*arguments):
    return subprocess.run([sys.executable, "-m", "jobs", "eval", *map(str, arguments)], capture_output=True, text=True)


def test_the_command_prints_json_and_ends_with_2_on_bad_input(tmp_path):
    (file,) = write(tmp_path / "my answers.jsonl", vl_rows(random.Random(2)))
    done = command("score", "--bench", "vl-rewardbench", "--answers", file, "--json", "--audit")
    figures = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert {"n", "overall", "macro", "categories"} <= set(figures)
    assert figures["audit"]["weighted"]["holds"]
    write(file, [GOOD])
    done = command("score", "--bench", "vl-rewardbench", "--answers", file, "--json")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    done = command("score", "--bench", "vl-rewardbench", "--answers", file, "--json", "--partial")
    assert done.returncode == 0
    assert "PARTIAL: 1 of 1,250 pairs" in done.stderr
