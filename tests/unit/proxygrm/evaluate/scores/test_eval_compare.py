from __future__ import annotations

import io
import json
import random

import pytest
from rich.console import Console

from proxygrm.evaluate.benchmarks import benchmark
from proxygrm.evaluate.benchmarks.anchors import ANCHORS, right_of
from proxygrm.evaluate.scores.audit import fitting_partitions, fitting_revisions, published_numbers
from proxygrm.evaluate.scores.compare import beside_anchors, compare
from proxygrm.evaluate.scores.paired import holm
from proxygrm.evaluate.scores.score import read
from proxygrm.report.tables.compare import show
from support.refusals import refused


def rows_of(outcomes: dict[str, bool | None], texts: bool = True, seed: int = 0) -> list[dict]:
    rng = random.Random(seed)
    rows = []
    for id_, right in outcomes.items():
        reverse = rng.random() < 0.5
        rewards = [0, 0] if right is None else [1, 0] if right != reverse else [0, 1]
        rows.append({"id": id_, "rewards": rewards, "reverse": reverse})
        if texts:
            rows[-1] |= {"prompt": f"p {id_}", "chosen": "a", "rejected": "b"}
    rng.shuffle(rows)
    return rows


def run(tmp_path, outcomes, bench="pairs", name="run", **options):
    file = tmp_path / f"{name}{len(list(tmp_path.iterdir()))}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows_of(outcomes, **options)))
    return read(bench, [file], partial=True)


def outcomes(right: str) -> dict[str, bool | None]:
    return {f"id{at:02}": {"r": True, "w": False, ".": None}[letter] for at, letter in enumerate(right)}


def test_a_comparison_counted_by_hand_whatever_the_order_of_the_rows(tmp_path):
    a = run(tmp_path, outcomes("rrrrwwwwww"), seed=1)
    b = run(tmp_path, outcomes("rrrwrrrrww"), seed=2)
    (row,) = compare({"a": a, "b": b})["against"]
    assert (row["pairs"], row["only_baseline"], row["only_run"]) == (10, 1, 4)
    assert row["difference"] == pytest.approx(0.3)
    assert row["p"] == pytest.approx(2 * (1 + 5) / 32)
    assert row["low"] < 0.3 < row["high"]
    (back,) = compare({"b": b, "a": a})["against"]
    assert (back["difference"], back["p"]) == (pytest.approx(-0.3), row["p"])


def test_a_run_against_itself_differs_in_nothing(tmp_path):
    a = run(tmp_path, outcomes("rwr.wr"))
    (row,) = compare({"a": a, "again": a})["against"]
    assert (row["difference"], row["low"], row["high"], row["p"]) == (0, 0, 0, 1)


def test_a_run_in_both_orders_is_not_tested_against_one_in_a_single_order(tmp_path):
    rng, ids = random.Random(0), [f"id{at:03}" for at in range(200)]
    one = run(tmp_path, {id_: rng.random() < 0.5 for id_ in ids})
    rows = [
        {"id": id_, "source": "", "order": order, "label": label, "verdict": rng.choice([1, 2]), "question": f"p {id_}",
         "response_1": "ab"[label - 1], "response_2": "ba"[label - 1]}
        for id_ in ids for order, label in (("as_is", 1), ("swapped", 2))
    ]  # fmt: skip
    (tmp_path / "both.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    both = read("pairs", [tmp_path / "both.jsonl"])
    figures = compare({"one": one, "both": both, "same": one})
    both_orders, same = figures["against"]
    assert both_orders["low"] < 0 < both_orders["high"]  # two coins
    columns = ("orders_differ", "p", "p_holm", "only_run")
    assert tuple(both_orders[name] for name in columns) == (True, None, None, None)
    assert (same["orders_differ"], same["p"], same["p_holm"]) == (False, 1, 1)
    shown = io.StringIO()
    show(figures, Console(file=shown, width=200))
    assert "no McNemar" in shown.getvalue()
    assert "won, lost: pairs right in both orders" in shown.getvalue()


def test_what_the_policy_leaves_out_for_one_is_left_out_for_both(tmp_path):
    a, b = run(tmp_path, outcomes("rr.w")), run(tmp_path, outcomes("r.rr"))
    (row,) = compare({"a": a, "b": b}, policy="drop")["against"]
    assert (row["pairs"], row["left_out"], row["difference"]) == (2, 2, 0.5)


def test_runs_on_different_pairs_are_refused_without_common(tmp_path):
    a, b = run(tmp_path, outcomes("rrw")), run(tmp_path, outcomes("rrww"))
    with refused("eval.different-pairs", runs=["a", "b"], shared=3):
        compare({"a": a, "b": b})
    (row,) = compare({"a": a, "b": b}, common=True)["against"]
    assert (row["pairs"], row["not_shared"]) == (3, 1)
    with refused("eval.different-pairs", shared=0):
        compare({"a": a, "b": run(tmp_path, {"other": True})}, common=True)
    with refused("eval.one-run"):
        compare({"a": a})


def test_runs_without_texts_are_matched_by_id_only_when_ids_do_not_repeat(tmp_path):
    a, b = run(tmp_path, outcomes("rrw")), run(tmp_path, outcomes("rww"), texts=False)
    (row,) = compare({"a": a, "b": b})["against"]
    assert (row["pairs"], row["only_baseline"], row["only_run"]) == (3, 1, 0)
    file = tmp_path / "repeats.jsonl"
    file.write_text('{"id": "id00", "rewards": [1, 0], "reverse": false}\n' * 3)
    with refused("eval.repeated-ids", run="b"):
        compare({"a": a, "b": read("pairs", [file], partial=True)})


MM_RLHF = "mm-rlhf-rewardbench"


def test_holm_corrects_step_by_step():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_published_decimals_tell_how_many_rows_were_counted():
    assert right_of("75.22", 1250) is None
    assert right_of("75.22", 1247) == 938
    assert right_of("71.92", 1250) == 899
    assert right_of("73.80", 1247) == 920  # a padded 73.8
    counted = {anchor.name: right_of(value, 170) for anchor in ANCHORS if (value := anchor.values.get(MM_RLHF))}
    assert list(counted.values()) == [141, 138, 137, 147, 156, 154, 158, 121, 139, 140]
    assert right_of("85.62", 4711) is None
    assert right_of("85.62", 5211) is None
    assert right_of("50.04", 1250, halves=True) == 625.5
    found = fitting_revisions(benchmark("vl-rewardbench"), "75.22")
    assert [(revision.rows, right) for revision, right in found] == [(1250, None), (1247, 938)]


def test_published_results_have_the_reason_why_they_are_not_comparable(tmp_path):
    partial = beside_anchors(run(tmp_path, {"mmmu_1": True}, "vl-rewardbench"), "wrong")
    assert len(partial) == sum("vl-rewardbench" in anchor.values for anchor in ANCHORS)
    assert {anchor["comparable"] for anchor in partial} == {"no"}
    assert "partial: 1 of 1,250" in partial[0]["why"]
    whole = run(tmp_path, {f"mmmu_{at}": True for at in range(1250)}, "vl-rewardbench")
    marks = {
        anchor["name"].split()[0]: (anchor["comparable"], anchor["why"]) for anchor in beside_anchors(whole, "drop")
    }
    assert marks["Proxy-GRM"][0] == "no"
    assert "938/1,247" in marks["Proxy-GRM"][1]
    assert marks["R1-Reward"][0] == "nearly"
    assert "yours: policy drop" in marks["R1-Reward"][1]
    assert marks["BaseReward"][0] == "no"
    assert marks["BaseReward"][1].startswith("its categories make an overall of 86.09")
    assert beside_anchors(run(tmp_path, {"a": True}), "wrong") == []


def test_every_published_row_has_a_source_and_figures_that_its_benchmark_has():
    assert len({anchor.name for anchor in ANCHORS}) == len(ANCHORS)
    for anchor in ANCHORS:
        assert anchor.source
        assert anchor.counted
        for name, figures in anchor.figures.items():
            bench = benchmark(name)
            known = {"overall", "macro", *bench.partitions["official"].names} | (
                {"acc_plus"} & {"acc_plus" * bench.acc_plus}
            )
            assert {"overall", "macro"} & set(figures)
            assert figures.keys() <= known
            assert all(0 < float(value) <= 100 for value in figures.values())
            assert anchor.doubts.get(name, {}).keys() <= known


def test_the_doubts_about_published_rows_hold_by_their_own_numbers():
    rows = {anchor.name: anchor.figures["vl-rewardbench"] for anchor in ANCHORS}
    sizes = {name: benchmark("vl-rewardbench").partitions[name].sizes for name in ("official", "upstream")}

    def weighted(model, partition):
        return sum(float(rows[model][name]) * size for name, size in sizes[partition].items()) / 1250

    assert weighted("R1-Reward (200k pairs)", "upstream") == pytest.approx(71.92, abs=0.005)
    assert weighted("R1-Reward (200k pairs)", "official") == pytest.approx(77.18, abs=0.005)
    assert weighted("BaseReward 7B (2.8M pairs)", "official") == pytest.approx(86.09, abs=0.005)
    assert weighted("BaseReward 7B (2.8M pairs)", "upstream") == pytest.approx(80.40, abs=0.005)
    assert weighted("BaseReward, Qwen2-VL 7B", "official") == pytest.approx(80.94, abs=0.005)
    assert weighted("BaseReward, Qwen2-VL 7B", "upstream") == pytest.approx(75.48, abs=0.005)
    assert weighted("BaseReward, both together", "official") == pytest.approx(87.17, abs=0.005)
    assert weighted("BaseReward, both together", "upstream") == pytest.approx(82.34, abs=0.005)


def test_the_audit_names_the_partition_that_published_numbers_fit():
    bench = benchmark("vl-rewardbench")
    # 110/183, 560/749, 200/318 and 310/484, 360/448, 200/318: both make 870/1,250.
    official = published_numbers(
        "general=60.11, hallucination=74.77, reasoning=62.89, overall=69.60, macro=65.92", bench
    )
    upstream = published_numbers("general=64.05,hallucination=80.36,reasoning=62.89%,overall=69.60", bench)
    for published, fits in ((official, [True, False]), (upstream, [False, True])):
        assert [found["fits"] for found in fitting_partitions(bench, published)] == fits
    assert published_numbers("general=0.6011,overall=0.6960", bench) == {"general": "60.11", "overall": "69.60"}
    for text, code, values in (
        ("generally=1,overall=2", "eval.published-name", {"name": "generally"}),
        ("general=x,overall=2", "eval.published-number", {"name": "general", "value": "x"}),
        ("general=101,overall=2", "eval.published-number", {"name": "general", "value": "101"}),
        (" ,", "eval.published-empty", {}),
    ):
        with refused(code, **values):
            published_numbers(text, bench)


def test_the_audit_recognises_a_macro_that_includes_the_overall():
    bench = benchmark("multimodal-rewardbench")
    names = bench.partitions["split"].names
    accuracy = dict(zip(names, (60, 70, 50, 80, 40, 90, 20, 75), strict=True))
    sizes = dict(zip(names, (60, 70, 60, 50, 60, 100, 50, 120), strict=True))
    overall = sum(accuracy[name] * sizes[name] for name in names) / sum(sizes.values())
    for with_all, fits in ((False, {"split": True, "upstream": False}), (True, {"split": False, "upstream": True})):
        macro = sum([*accuracy.values(), *([overall] if with_all else [])]) / (8 + with_all)
        published = {name: f"{value:.2f}" for name, value in accuracy.items()}
        published |= {"overall": f"{overall:.2f}", "macro": f"{macro:.2f}"}
        found = fitting_partitions(bench, published, {"split": sizes, "upstream": sizes})
        assert {f["partition"]: f["fits"] for f in found if f["partition"] != "official"} == fits
    # Without sizes, the macro is still decisive.
    fits = {f["partition"]: f["fits"] for f in fitting_partitions(bench, published)}
    assert fits == {"official": None, "split": False, "upstream": True}
