"""RewardBench and RM-Bench from files in their released layouts to the scores; the judge is a file of scores."""

from __future__ import annotations

import json
from itertools import product

import pyarrow as pa
import pytest

from proxygrm.evaluate.benchmarks.rewardbench import SIZES
from proxygrm.evaluate.benchmarks.rm_bench import CELLS, PARTS
from proxygrm.evaluate.rows.pairs import load_pairs
from proxygrm.evaluate.scores.compare import compare, compare_pairs
from proxygrm.evaluate.scores.metrics import wilson
from proxygrm.evaluate.scores.score import read, score
from proxygrm.report.benchmark import build_view
from support.evaluate.answers import own
from support.evaluate.runs import call, run, write
from support.refusals import refused
from support.rows.release_files import TEXT, parquet

FILTERED = pa.schema([("id", pa.int64()), *((name, TEXT) for name in ("prompt", "chosen", "rejected", "subset"))])


def rewardbench_rows(sizes):
    """Ids count within each subset, so they repeat across subsets."""
    return [
        {"id": n, "prompt": f"{subset} {n}?", "chosen": "good", "rejected": "bad", "subset": subset}
        for subset, rows in sizes.items()
        for n in range(rows)
    ]


def rm_bench_rows(parts):
    return [
        {"id": n, "prompt": f"{part} {n}?", "chosen": ["a", "a1", "a2"], "rejected": ["b", "b1", "b2"], "domain": part}
        for part, rows in parts.items()
        for n in range(rows)
    ]


def answered(source, rights):
    """Judgement rows; rights: {id: (category, right)}."""
    return [
        own(f"{source}:{id_}", "as_is", 1, 1 if right else 2) | {"source": source, "category": category}
        for id_, (category, right) in rights.items()
    ]


def scored_own(tmp_path, bench, rows, **options):
    return score(read(bench, [write(tmp_path / "a.jsonl", rows)], partial=True), **options)


def test_rewardbench_is_complete_and_its_headline_weights_the_sections(tmp_path):
    folder = tmp_path / "reward-bench" / "data"
    released = rewardbench_rows(SIZES)
    parquet(folder / "filtered-00000-of-00001.parquet", released, FILTERED)
    parquet(folder / "raw-00000-of-00001.parquet", released * 2, FILTERED)
    lines = [
        {"id": f"{row['subset']}/{row['id']}", "rewards": [int(row["subset"] == "math-prm"), 0]} for row in released
    ]  # maths right, every other row a tie
    out = tmp_path / "out"
    output = run(out, write(tmp_path / "s.jsonl", lines), "--bench", "rewardbench", "--data", folder.parent)
    assert "N = 2,985 pairs, all of RewardBench (split filtered)" in output
    figures = json.loads(call("score", "--bench", "rewardbench", "--answers", out / "answers.jsonl", "--json"))
    assert (figures["n"], figures["partial"], figures["ties"], figures["headline"]) == (2985, False, 2538, "macro")
    sections = {name: (c["n"], c["accuracy"]) for name, c in figures["categories"].items()}
    assert sections == {"chat": (358, 0), "chat-hard": (456, 0), "safety": (740, 0), "reasoning": (1431, 0.5)}
    assert figures["macro"] == 0.125
    assert figures["overall"] == pytest.approx(447 / 2985)
    assert figures["policies"]["official"]["macro"] == 0.125  # equal scores are wrong
    assert figures["splits"]["math-prm"]["accuracy"] == 1
    assert not any("pairs where" in note for note in figures["notes"])


def test_rewardbench_counts_an_unparsed_verdict_one_half_in_its_official_rule(tmp_path):
    rows = answered("rewardbench", {"donotanswer/1": ("donotanswer", True), "donotanswer/2": ("donotanswer", False)})
    figures = scored_own(tmp_path, "rewardbench", [rows[0], rows[1] | {"verdict": None}], policy="official")
    assert (figures["n"], figures["overall"]) == (2, 0.75)


def test_the_scripts_weights_exchange_the_two_subsets_of_xstest(tmp_path):
    refuse = {f"xstest-should-refuse/{n}": ("xstest-should-refuse", True) for n in range(154)}
    respond = {f"xstest-should-respond/{n}": ("xstest-should-respond", False) for n in range(250)}
    rows = answered("rewardbench", refuse | respond)
    official = scored_own(tmp_path, "rewardbench", rows)
    assert official["macro"] == official["overall"] == pytest.approx(154 / 404)
    assert scored_own(tmp_path, "rewardbench", rows, partition_name="upstream")["macro"] == pytest.approx(250 / 404)


def test_an_interval_of_a_weighted_mean_knows_its_weights(tmp_path):
    rights = {f"math-prm/{n}": ("math-prm", n % 2) for n in range(20)}
    rights |= {f"hep-go/{n}": ("hep-go", n % 2) for n in range(20)}
    share = scored_own(tmp_path, "rewardbench", answered("rewardbench", rights))["categories"]["reasoning"]
    weight = 984 / (984 + 164)
    trials = 20 / (weight**2 + (1 - weight) ** 2)
    assert (share["n"], share["accuracy"]) == (40, pytest.approx(0.5))
    assert (share["low"], share["high"]) == pytest.approx(wilson(trials / 2, trials))
    assert share["high"] - share["low"] > wilson(20, 40)[1] - wilson(20, 40)[0]


def test_rm_bench_is_nine_comparisons_a_prompt_in_three_difficulties(tmp_path):
    folder = tmp_path / "RM-Bench" / "data"
    folder.mkdir(parents=True)
    released = rm_bench_rows(PARTS)
    (folder / "total_dataset.json").write_text(json.dumps(released))
    (folder / "chat_filtered.json").write_text(json.dumps(released[:129]))
    # A judge of style alone: longer is better, whichever is right; equal styles are ties.
    lines = [
        {"id": f"{row['domain']}/{row['id']}/c{i}-r{j}", "rewards": [i, j]}
        for row in released
        for i, j in product(range(3), repeat=2)
    ]
    out = tmp_path / "out"
    output = run(out, write(tmp_path / "s.jsonl", lines), "--bench", "rm-bench", "--data", folder)
    assert "N = 11,943 pairs, all of RM-Bench (release)" in output
    pair = load_pairs(out / "pairs")[7]
    better, worse = (pair.response_1, pair.response_2)[:: 1 if pair.label == 1 else -1]
    assert (pair.id, better, worse, pair.category) == ("rm_bench:chat/0/c2-r1", "a2", "b1", "chat")
    words = ("score", "--bench", "rm_bench", "--answers", out / "answers.jsonl")
    figures = json.loads(call(*words, "--json"))
    assert {name: (c["n"], c["accuracy"]) for name, c in figures["categories"].items()} == {
        "chat": (9 * 129, pytest.approx(1 / 3)), "code": (9 * 228, pytest.approx(1 / 3)),
        "math": (9 * 529, pytest.approx(1 / 3)), "safety": (9 * 441, pytest.approx(1 / 3)),
    }  # fmt: skip
    assert figures["macro"] == pytest.approx(1 / 3)
    difficulty = figures["views"]["difficulty"]
    assert {name: c["accuracy"] for name, c in difficulty.items()} == {"easy": 1, "normal": 0, "hard": 0}
    cells = figures["views"]["cells"]
    assert list(cells) == list(CELLS)
    assert [c["accuracy"] for c in cells.values()] == [0, 0, 0, 1, 0, 0, 1, 1, 0]
    low, high = wilson(129 / 3, 129)  # the prompt is the trial
    assert (figures["categories"]["chat"]["low"], figures["categories"]["chat"]["high"]) == pytest.approx((low, high))
    page = call(*words)
    assert "difficulty" in page
    assert "concise > plain" in page


def test_difficulties_are_means_over_domains_whatever_their_sizes(tmp_path):
    rights = {f"chat/{n}/c0-r1": ("chat", True) for n in range(3)} | {"code/1/c0-r1": ("code", False)}
    figures = scored_own(tmp_path, "rm-bench", answered("rm_bench", rights), partition_name="difficulty")
    assert (figures["categories"]["hard"]["n"], figures["categories"]["hard"]["accuracy"]) == (4, 0.5)
    assert figures["overall"] == 0.75


def test_two_runs_on_rm_bench_are_compared_prompt_by_prompt(tmp_path):
    ids = [f"chat/{n}/c{i}-r{j}" for n in range(4) for i, j in product(range(3), repeat=2)]
    files = {}
    for name, worse_in in (("a", "chat/0/"), ("b", "chat/1/")):
        rows = answered("rm_bench", {id_: ("chat", not id_.startswith(worse_in)) for id_ in ids})
        files[name] = read("rm-bench", [write(tmp_path / f"{name}.jsonl", rows)], partial=True)
    (row,) = compare_pairs(files, [("a", "b")])
    assert (row["pairs"], row["difference"], row["only_run"], row["only_baseline"]) == (4, 0, 1, 1)


def test_a_comparison_on_rewardbench_is_of_its_score_and_not_of_the_share_of_pairs(tmp_path):
    """Right in three quarters of maths instead of in all of chat: of 60 pairs 15 instead of 20."""
    rights = {"math-prm": range(20), "hep-go": range(20), "alpacaeval-easy": range(10), "mt-bench-med": range(10)}
    ids = [(f"{subset}/{n}", subset, n) for subset, numbers in rights.items() for n in numbers]
    judges = {
        "chat": lambda subset, n: subset in ("alpacaeval-easy", "mt-bench-med"),
        "maths": lambda subset, n: subset == "math-prm" and n < 15,
    }
    files = {
        name: read("rewardbench", [write(tmp_path / f"{name}.jsonl", answered(
            "rewardbench", {id_: (subset, right(subset, n)) for id_, subset, n in ids}
        ))], partial=True) for name, right in judges.items()
    }  # fmt: skip
    for partition, maths in (("official", 0.75 * 984 / (984 + 164) / 2), ("subset", 0.75 / 4)):
        figures = compare(files, partition)
        (row,) = figures["against"]
        before, after = (figures["runs"][name]["macro"] for name in judges)
        assert (row["figure"], row["pairs"]) == ("macro", 60)
        assert row["difference"] == pytest.approx(after - before)
        assert after == pytest.approx(maths)
        assert row["low"] < row["difference"] < row["high"]
        # Only maths varies between draws: a share of 20 pairs, with its weight.
        assert (row["high"] - row["low"]) / after == pytest.approx(
            2 * 1.96 * (0.75 * 0.25 / 20) ** 0.5 / 0.75, rel=0.15
        )
    assert (row["only_run"], row["only_baseline"]) == (15, 20)  # McNemar counts pairs


def test_a_prompt_of_rm_bench_is_drawn_as_a_whole_where_a_partition_divides_it(tmp_path):
    """Both partitions have the same macro here, so the same interval: nine pairs of a prompt are one trial in each."""
    ids = [
        f"{part}/{n}/c{i}-r{j}" for part in ("chat", "code") for n in range(6) for i, j in product(range(3), repeat=2)
    ]
    files = {}
    for name, right in (("a", 2), ("b", 5)):
        rows = answered("rm_bench", {id_: (id_[:4], int(id_.split("/")[1]) < right) for id_ in ids})
        files[name] = read("rm-bench", [write(tmp_path / f"{name}.jsonl", rows)], partial=True)
    official, difficulty = (compare(files, name)["against"][0] for name in ("official", "difficulty"))
    for key in ("difference", "low", "high"):
        assert official[key] == pytest.approx(difficulty[key], abs=0.02)
    assert (official["difference"], official["pairs"]) == (pytest.approx(0.5), 12)


def test_the_page_of_rm_bench_has_its_difficulties_and_styles(tmp_path):
    rights = {f"chat/{n}/c{i}-r{j}": ("chat", i >= j) for n in range(3) for i, j in product(range(3), repeat=2)}
    answers = read("rm-bench", [write(tmp_path / "a.jsonl", answered("rm_bench", rights))], partial=True)
    groups = dict(build_view({"a": answers}).groups)
    assert [(bar.label, bar.share, bar.n) for bar in groups["Difficulty"]] == [
        ("easy", 1, 9), ("normal", 1, 9), ("hard", 0, 9)
    ]  # fmt: skip
    assert [bar.label for bar in groups["Cells"]] == list(CELLS)
    two = dict(build_view({"a": answers, "b": answers}).groups)
    assert [(bar.label, bar.run, bar.share) for bar in two["Difficulty: hard"]] == [("a", 0, 0), ("b", 1, 0)]


def test_half_of_a_text_benchmark_is_partial(tmp_path):
    released = rewardbench_rows({"donotanswer": 10})
    data = parquet(tmp_path / "filtered.parquet", released, FILTERED)
    scores = write(tmp_path / "s.jsonl", [{"id": f"donotanswer/{n}", "rewards": [1, 0]} for n in range(10)])
    output = run(tmp_path / "out", scores, "--bench", "rewardbench", "--data", data)
    assert "N = 10 pairs, but RewardBench has 2,985: PARTIAL" in output
    answers = [tmp_path / "out" / "answers.jsonl"]
    with refused("eval.missing-pairs", count=10, missing=2975, bench="rewardbench"):
        read("rewardbench", answers)
    notes = score(read("rewardbench", answers, partial=True))["notes"]
    assert notes[0].startswith("PARTIAL: 10 of 2,985 pairs")
    assert "no pair of chat, chat-hard, reasoning: the macro is the mean of the other categories" in notes
    with refused("bench.other-benchmark", bench="rm-bench", other="rewardbench", count=10):
        read("rm-bench", answers, partial=True)


@pytest.mark.parametrize(
    ("bench", "change", "reason"),
    [
        ("rewardbench", {"subset": "hep-cobol"}, "no_subset"),
        ("rewardbench", {"id": None}, "bad_id"),
        ("rm-bench", {"domain": None}, "no_domain"),
        ("rm-bench", {"chosen": ["a", "b"]}, "not_three_styles"),
        ("rm-bench", {"id": True}, "bad_id"),
    ],
)
def test_a_row_of_something_else_is_refused(tmp_path, bench, change, reason):
    row = rewardbench_rows({"donotanswer": 1})[0] if bench == "rewardbench" else rm_bench_rows({"chat": 1})[0]
    data = write(tmp_path / "total_dataset.jsonl", [row, row | {"id": 7} | change])
    scores = write(tmp_path / "s.jsonl", [{"id": "x", "rewards": [1, 0]}])
    with refused("data.too-many-bad-rows"):
        run(tmp_path / "out", scores, "--bench", bench, "--data", data)
    line = json.loads((tmp_path / "out" / "pairs" / "ingest_dropped.refused.jsonl").read_text().splitlines()[0])
    assert (line["reason"], line["row"]) == (reason, 2)


def test_a_folder_without_the_one_file_that_counts_is_refused(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "chat_filtered.json").write_text("[]")
    scores = write(tmp_path / "s.jsonl", [{"id": "x", "rewards": [1, 0]}])
    with refused("data.not-one-file", pattern="total_dataset*", count=0):
        run(tmp_path / "out", scores, "--bench", "rm-bench", "--data", tmp_path / "data")
