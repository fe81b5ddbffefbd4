from __future__ import annotations

import base64
import gzip
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from jobs.cli.eval.main import evaluation
from proxygrm.evaluate.benchmarks import benchmark
from proxygrm.evaluate.scores.compare import compare, compare_pairs
from proxygrm.evaluate.scores.score import read, score
from proxygrm.report import judgements
from proxygrm.report.benchmark import build_view
from proxygrm.report.eval_page import write_eval_report
from proxygrm.report.images import SIZES, gather_images
from proxygrm.report.judgements import OUTCOMES, Packed, embed, pack
from proxygrm.report.page import benchmark_of_rows
from support.evaluate.answers import answer
from support.refusals import refused
from support.rows.report_rows import NASTY, rows, write, write_images

pytestmark = pytest.mark.slow

CUT = benchmark("vl-rewardbench").partitions["official"]


def unpacked(packed: Packed) -> dict:
    return json.loads(gzip.decompress(base64.b64decode(packed.data)) if packed.compressed else packed.data)


def test_the_table_has_the_counts_of_eval_score(tmp_path):
    judged_rows = rows(0.7, 1, length=20)
    figures = score(read("vl-rewardbench", [write(tmp_path / "a.jsonl", judged_rows)]))
    data = unpacked(pack({"a": judged_rows}, CUT, 4_000_000))
    found = Counter(data["outcomes"][row[6]] for row in data["runs"][0]["rows"])
    assert found["unparsed"] == figures["unparsed"] > 0
    assert found["right"] / 2500 == pytest.approx(figures["overall"])
    by_category: Counter[str] = Counter()
    for row in data["runs"][0]["rows"]:
        by_category[data["pairs"][row[0]][2]] += data["outcomes"][row[6]] == "right"
    for name, category in figures["categories"].items():
        assert by_category[name] / 2 / category["n"] == pytest.approx(category["accuracy"])


def test_several_votes_have_their_curves(tmp_path):
    voted = [{**row, "sample": vote} for vote in range(3) for row in rows(0.6, vote, length=5)]
    answers = {"a": read("vl-rewardbench", [write(tmp_path / "a.jsonl", voted)])}
    figures, groups = score(answers["a"]), dict(build_view(answers).groups)
    assert [bar.label for bar in groups["Majority of K votes"]] == ["K = 1", "K = 3"]
    for title, key in (("Majority of K votes", "overall"), ("Any of K votes right", "any")):
        assert [bar.share for bar in groups[title]] == [votes[key] for votes in figures["votes"].values()]
    facts = {title: values for title, _, values in build_view(answers).facts}
    assert facts["Tied votes"] == [f"{figures['ballots']['tied']:,} of 2,500"]


def test_the_bars_are_eval_scores_figures(tmp_path):
    files = {
        name: write(tmp_path / f"{name}.jsonl", rows(skill, 1, length=5)) for name, skill in (("a", 0.6), ("b", 0.8))
    }
    answers = {name: read("vl-rewardbench", [path]) for name, path in files.items()}
    page_view, figures = build_view(answers), score(answers["b"])
    groups = dict(page_view.groups)
    assert (groups["Overall"][1].share, groups["Overall"][1].n) == (figures["overall"], 1250)
    assert [groups["Overall"][1].low, groups["Overall"][1].high] == figures["overall_interval"]
    assert [groups["Macro"][1].low, groups["Macro"][1].high] == figures["macro_interval"]
    for name, category in figures["categories"].items():
        assert (groups[name][1].share, groups[name][1].low) == (category["accuracy"], category["low"])
    assert [row[:2] for row in page_view.against] == [["b", "a"]]


def test_of_three_runs_the_last_is_also_compared_with_the_second_on_the_same_pairs(tmp_path):
    skills = {"before training": 0.5, "after SFT": 0.7, "after RL": 0.8, "another": 0.7}
    answers = {
        name: read("vl-rewardbench", [write(tmp_path / f"{name}.jsonl", rows(skill, at, count=1250, length=5))])
        for at, (name, skill) in enumerate(skills.items())
    }
    three = {name: answers[name] for name in list(skills)[:3]}
    wanted = [["after SFT", "before training"], ["after RL", "before training"], ["after RL", "after SFT"]]
    assert [row[:2] for row in build_view(three).against] == wanted
    assert [row[:2] for row in build_view(answers).against] == [*wanted[:2], ["another", "before training"]]
    (alone,) = compare({"after SFT": answers["after SFT"], "after RL": answers["after RL"]})["against"]
    row = compare_pairs(three, [("before training", "after SFT"), ("after SFT", "after RL")])[1]
    for name in ("pairs", "difference", "low", "high", "only_baseline", "only_run", "p"):
        assert row[name] == alone[name]
    assert row["p_holm"] >= row["p"]


def test_published_numbers_are_below_the_bars_of_the_runs(tmp_path):
    answers = {"a": read("vl-rewardbench", [write(tmp_path / "a.jsonl", rows(0.6, 1, length=5))]),
               "b": read("vl-rewardbench", [write(tmp_path / "b.jsonl", rows(0.8, 1, length=5))])}  # fmt: skip
    page_view = build_view(answers)
    groups = dict(page_view.groups)
    assert [bar.label for bar in groups["Overall"] if bar.run is None] == [a["name"] for a in page_view.anchors]


def test_a_published_number_names_the_differences(tmp_path):
    answers = {"a": read("vl-rewardbench", [write(tmp_path / "a.jsonl", rows(0.7, 1, length=5))])}
    anchors = {a["name"]: a for a in build_view(answers).anchors}
    assert anchors["Proxy-GRM 7B"]["mark"] == "≠"
    assert anchors["Proxy-GRM 7B"]["rows"] == "no (theirs 1,247, yours 1,250)"
    assert anchors["R1-Reward (200k pairs)"]["mark"] == "≈"
    part = {"a": read("vl-rewardbench", [write(tmp_path / "p.jsonl", rows(0.7, 1, count=80, length=5))], partial=True)}
    assert {a["mark"] for a in build_view(part).anchors} == {"≠"}


def test_runs_on_other_pairs_are_shown_side_by_side_with_a_note(tmp_path):
    a, b = (write(tmp_path / f"{n}.jsonl", rows(0.7, 1, count=60, length=5)[40 * n :]) for n in (0, 1))
    page_view = build_view({"a": read("pairs", [a], partial=True), "b": read("pairs", [b], partial=True)})
    assert not page_view.against
    assert any("did not judge the same pairs" in note for _, note in page_view.notes)


def test_upstream_answers_are_browsed_like_our_own(tmp_path):
    judged_rows = [
        answer("mmmu_1", True, reverse=True, prompt="q?", chosen="good", rejected=NASTY),
        answer("mmmu_1", None),
    ]
    data = unpacked(pack({"up": judged_rows}, CUT, 100_000))
    (first, second) = data["runs"][0]["rows"]
    assert data["pairs"][first[0]][2:] == ["reasoning", "q?", "good", NASTY]
    assert first[4:7] == [2, 2, OUTCOMES.index("right")]  # the better response was second, and was chosen
    assert OUTCOMES[second[6]] == "unparsed"


def test_texts_and_images_are_included_once_however_often_they_are_judged(tmp_path):
    shots = write_images(tmp_path / "p", 3, kinds=1)
    shots[2].write_bytes(shots[0].read_bytes())
    packed = pack({"a": rows(0.6, 1, shots, count=9), "b": rows(0.8, 2, shots, count=9)}, CUT, 4_000_000)
    assert len(unpacked(packed)["pairs"]) == 9
    assert len(json.loads(packed.images)["images"]) == 2
    assert not [note for note in packed.notes if "left out" in note]


def test_what_does_not_fit_is_left_out_counted_and_the_disputed_stay(tmp_path):
    judged_rows = rows(0.7, 1, count=400)
    whole = pack({"a": judged_rows}, CUT, 10_000_000)
    budget = int(0.7 * whole.bytes)
    packed = pack({"a": judged_rows}, CUT, budget)
    assert packed.bytes <= budget
    data = unpacked(packed)
    run = data["runs"][0]
    gone = [row for row, text in zip(run["rows"], run["texts"], strict=True) if text is None]
    assert f"critiques of {len(gone):,} judgements left out" in packed.notes[0]
    assert {OUTCOMES[row[6]] for row in gone} == {"right"}
    assert all(pair[3] is not None for pair in data["pairs"])
    small = pack({"a": judged_rows}, CUT, 60_000)
    assert small.bytes <= 60_000
    assert any("question and responses of" in note for note in small.notes)


def test_a_run_too_large_for_any_page_is_thinned_by_whole_pairs(monkeypatch):
    monkeypatch.setattr(judgements, "MAX_JUDGEMENTS", 60)
    packed = pack({"a": rows(0.6, 1, count=50, length=5), "b": rows(0.7, 2, count=50, length=5)}, CUT, 4_000_000)
    assert packed.shown <= 60 < packed.judgements == 200
    assert "35 pairs left out" in packed.notes[0]
    first, second = ([row[0] for row in run["rows"]] for run in unpacked(packed)["runs"])
    assert first == second


def test_images_shrink_until_they_fit_and_the_rest_is_counted(tmp_path):
    shots = [str(path) for path in write_images(tmp_path / "p", 36, kinds=3)]
    wide, narrow = gather_images(shots, 4_000_000), gather_images(shots, 90_000)
    assert (wide.side_px, wide.left_out, len(wide.index)) == (SIZES[0][0], 0, 36)
    assert narrow.side_px is not None
    assert narrow.side_px < SIZES[0][0]
    assert (narrow.left_out, len(narrow.index)) == (0, 36)
    assert sum(len(p.webp) for p in narrow.images) <= 90_000
    least = gather_images(shots, 9_000)
    assert least.left_out + len(least.index) == 36
    assert (least.images[0].width, least.images[0].height) == (1000, 1000)


def test_paths_that_are_not_images_are_counted(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    Image.new("RGBA", (9, 9)).save(tmp_path / "small.png")
    paths = [str(tmp_path / "text.png"), str(tmp_path / "small.png"), "x" * 9000, "a\0b", "", str(tmp_path)]
    found = gather_images(paths, 10_000)
    assert (len(found.images), found.unreadable, found.missing) == (1, 1, 4)


def test_nothing_in_the_data_can_end_its_script_element():
    for text in (embed([NASTY]), pack({"a": rows(0.7, 1, count=3)}, CUT, 10**6).data):
        assert not re.search(r"[<>&]|[^\x00-\x7f]", text)


def test_a_lone_surrogate_survives_compression():
    packed = pack({"a": rows(0.7, 1, count=200)}, CUT, 10**7)
    assert packed.compressed
    assert unpacked(packed)["pairs"][0][3] == NASTY


def test_rows_that_are_not_judgements_are_counted():
    packed = pack({"a": [{"id": "x"}, {"id": 1, "label": 1, "verdict": 7}, *rows(0.7, 1, count=1)]}, CUT, 10**6)
    assert packed.shown == 2
    assert len([note for note in packed.notes if "not judgements" in note]) == 2


def test_the_command_writes_a_page_and_refuses_what_eval_score_refuses(tmp_path):
    whole, part = write(tmp_path / "a b.jsonl", rows(0.7, 1, length=5)), rows(0.7, 1, count=9, length=5)
    out = tmp_path / "out" / "r.html"
    done = CliRunner().invoke(evaluation, ["report", "--bench", "vl-rewardbench", f"x <b>={whole}", "--out", str(out)])
    assert done.exit_code == 0, done.output
    page = out.read_text()
    assert "x &lt;b&gt;" in page
    assert "<b>=" not in page
    assert "unsafe-inline" not in page
    with refused("eval.missing-pairs"):
        write_eval_report("vl-rewardbench", {"p": write(tmp_path / "p.jsonl", part)}, tmp_path / "p.html")
    assert not (tmp_path / "p.html").exists()


def test_a_run_on_a_benchmark_is_shown_as_that_benchmark():
    assert benchmark_of_rows({"sft": rows(0.7, 1, count=2)}).name == "vl-rewardbench"
    assert benchmark_of_rows({"sft": [{"source": "demo"}], "rl": rows(0.7, 1, count=2)}).name == "pairs"
    assert benchmark_of_rows({}).name == "pairs"


def test_the_policy_has_the_hashes_of_style_and_script(tmp_path):
    import hashlib

    page = write_eval_report(
        "pairs", {"a": write(tmp_path / "a.jsonl", rows(0.7, 1, count=4))}, Path(tmp_path / "r.html")
    ).read_text()
    for tag in ("style", "script"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.S)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode().replace("+", "&#43;")
        assert f"sha256-{digest}".replace("&#43;", "+") in page
    assert not re.search(r'\sstyle="|\son\w+="', page)
