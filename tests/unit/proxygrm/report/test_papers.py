"""The papers' table: which published rows stand beside ours, how they are marked, and why."""

from __future__ import annotations

import io
import json
import random

import pytest
from rich.console import Console

from proxygrm.report.contents import Report, Results, read_report
from proxygrm.report.page import write_report
from proxygrm.report.papers import Papers, papers
from proxygrm.report.tables.papers import show
from support.evaluate.answers import answer, scored, vl_rows
from support.run_folders.report_runs import Page, make_run

TITLES = {"start": "before training", "rl": "after RL"}
MM_SIZES = {"mcq": (42, 10), "long": (37, 10), "short": (34, 10), "safety": (32, 6), "video": (25, 10)}
"""Pairs and ids of each category of MM-RLHF-RewardBench."""


def mm_rows() -> list[dict]:
    texts = {"chosen": "a", "rejected": "b"}
    return [
        answer(f"{name}-{at % ids}", at % 3 > 0, image=f"{name}/{at}.png", prompt=f"{name} {at}", **texts)
        for name, (pairs, ids) in MM_SIZES.items()
        for at in range(pairs)
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict:
    """Both models on all of VL-RewardBench, one on all of MM-RLHF-RewardBench."""
    folder = tmp_path_factory.mktemp("scores")
    vl = {model: scored(folder, vl_rows(random.Random(seed))) for seed, model in enumerate(TITLES)}
    return {"vl-rewardbench": vl, "mm-rlhf-rewardbench": {"rl": scored(folder, mm_rows(), "mm-rlhf-rewardbench")}}


def marks(found: Papers, table, model) -> list[tuple[str, str]]:
    """(mark, reason) of each published figure of one row."""
    (row,) = [row for row in table.published if row.title == model]
    return [
        (cell.mark, found.notes[cell.note - 1].partition(": ")[2] if cell.note else "")
        for cell in row.cells
        if cell.mark
    ]


def test_ours_have_intervals_in_the_order_of_training_and_what_was_not_judged_is_a_dash(whole):
    found = papers(whole, TITLES)
    assert found
    assert found.main.columns == [
        ("VL-RewardBench", "1,250 pairs, one order"),
        ("MM-RLHF-RewardBench", "170 pairs, one order"),
        ("MM-RLHF-RewardBench", "acc+, 170 pairs, one order"),
    ]
    assert [row.title for row in found.main.ours] == ["before training", "after RL"]
    figures = whole["vl-rewardbench"]["rl"]
    cell = found.main.ours[1].cells[0]
    low, high = figures["overall_interval"]
    assert (cell.text, cell.interval) == (f"{100 * figures['overall']:.2f}", f"{100 * low:.1f}–{100 * high:.1f}")
    assert [cell.text for cell in found.main.ours[0].cells][1:] == ["–", "–"]
    assert found.main.ours[1].cells[2].text == f"{100 * whole['mm-rlhf-rewardbench']['rl']['acc_plus']:.2f}"


def test_published_rows_are_marked_with_the_reason(whole):
    found = papers(whole, TITLES)
    assert found
    vl, _, mm = found.details
    assert marks(found, found.main, "R1-Reward (200k pairs)") == [("≈", "")] * 3
    assert marks(found, found.main, "Proxy-GRM 7B") == [("≠", "75.22 is 938/1,247, yours are 1,250 rows"), ("≈", "")]
    (base, *_) = marks(found, found.main, "BaseReward 7B (2.8M pairs)")
    assert base[0] == "≠"
    assert base[1].startswith("its categories make an overall of 86.09")
    r1 = marks(found, vl, "R1-Reward (200k pairs)")
    assert [mark for mark, _ in r1] == ["≈", "≠", "≠", "≠", "≠"]
    assert {reason.partition(" as general")[0] for _, reason in r1[1:]} == {
        "its script counts the 301 RLAIF-V and RLHF-V rows"
    }
    assert [title for title, _ in mm.columns] == ["overall", "macro", "acc+", "mcq", "long", "short", "safety", "video"]
    reasons = [reason for _, reason in marks(found, mm, "BaseReward 7B (2.8M pairs)")]
    assert reasons == [
        "", "", "95.74 is not possible with 42 pairs", "97.38 is not possible with 37 pairs",
        "94.13 is not possible with 34 pairs", "", "",
    ]  # fmt: skip
    assert len(found.notes) == len(set(found.notes))


def test_categories_stand_beside_a_published_row_by_the_partition_that_it_really_used(whole):
    found = papers(whole, TITLES)
    assert found
    (table,) = [table for table in found.details if "484/448/318" in table.title]
    assert [title for title, _ in table.columns] == ["overall", "macro", "general", "hallucination", "reasoning"]
    assert [row.title for row in table.published] == ["R1-Reward (200k pairs)", "R1-Reward, 15 votes"]
    assert [cell.text for cell in table.published[0].cells] == ["71.92", "71.44", "63.84", "85.71", "64.78"]
    assert {cell.mark for cell in table.published[0].cells} == {"≈"}, "309/484, 384/448 and 206/318 are possible"
    assert {cell.mark for cell in table.published[1].cells} == {"≠"}, "76.46 is no count of 1,250"
    figures = whole["vl-rewardbench"]["rl"]
    recounted, official = figures["as_published"]["upstream"]["categories"], figures["categories"]
    assert [recounted[name]["n"] for name in recounted] == [484, 448, 318]
    assert [official[name]["n"] for name in official] == [183, 749, 318]
    row = next(row for row in table.ours if row.title == "after RL")
    shown = [f"{100 * recounted[name]['accuracy']:.2f}" for name in recounted]
    assert [cell.text for cell in row.cells][2:] == shown
    assert row.cells[0].text == f"{100 * figures['overall']:.2f}"


def test_a_part_of_a_benchmark_is_marked_and_nothing_is_comparable_with_it(tmp_path):
    figures = scored(tmp_path, vl_rows(random.Random(0))[:600], partial=True)
    found = papers({"vl-rewardbench": {"rl": figures}}, TITLES)
    assert found
    assert found.main.columns == [("VL-RewardBench", "PARTIAL: 600 of 1,250, one order")]
    assert {cell.mark for row in found.main.published for cell in row.cells} == {"≠"}
    assert found.notes == ["VL-RewardBench: your file is partial: 600 of 1,250 pairs"]


def test_a_benchmark_judged_in_one_order_and_in_both_says_its_size_once(tmp_path):
    one = scored(tmp_path, vl_rows(random.Random(0))[:600], partial=True)
    both = one | {"orders": 2}

    def heading(*models):
        found = papers({"vl-rewardbench": dict(zip(("before", "after"), models, strict=False))}, TITLES)
        assert found
        return found.main.columns[0][1]

    assert heading(one, both) == heading(both, one) == "PARTIAL: 600 of 1,250, one order or both"
    assert heading(both, both) == "PARTIAL: 600 of 1,250"


def test_no_scores_make_no_table():
    assert papers({}, TITLES) is None
    assert papers({"vl-rewardbench": {"rl": {"bench": "vl-rewardbench"}}}, TITLES) is None


def test_the_terminal_has_each_figure_in_80_characters(whole):
    out = io.StringIO()
    found = papers(whole, TITLES)
    assert found
    show(found, Console(file=out, width=80))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    for words in ("75.22 ≠1", "71.92 ≈", "after RL", "1 VL-RewardBench: 75.22 is 938/1,247"):
        assert words in text


def test_the_page_begins_with_the_table(tmp_path, whole):
    run = make_run(tmp_path / "run")
    for name, models in whole.items():
        folder = run / f"bench_{name}"
        folder.mkdir()
        (folder / "summary.json").write_text(json.dumps(models))
    files = (*(f"bench_{name}/summary.json" for name in whole), "bench_gone/summary.json")
    report = Report(results=Results("evaluate/summary.json", models=TITLES), benchmarks=files)
    page = Page(write_report(run, tmp_path / "report.html", report))
    assert page.text.index("Benchmarks") < page.text.index("Results on held-out pairs")
    for words in (
        "R1-Reward (200k pairs)",
        "arXiv 2505.02835",
        "71.92",
        "938/1,247",
        "MM-RLHF-RewardBench by category",
    ):
        assert words in page.text
    (run / files[0]).write_text('{"rl": {"bench": "vl-rewardbench", "rows": NaN}, "x": 3}')
    assert "MM-RLHF-RewardBench" in Page(write_report(run, tmp_path / "report.html", report)).text


def test_the_record_of_a_run_keeps_which_benchmarks_it_shows():
    row = json.loads('{"benchmarks": ["a/summary.json"], "curves": []}')
    assert read_report(row).benchmarks == ("a/summary.json",)
    assert read_report({}).benchmarks == ()
