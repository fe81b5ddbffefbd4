from __future__ import annotations

import json
import math
import re

import pytest

from jobs.engine.stage import plain
from jobs.recipes.proxy_grm import REPORT
from proxygrm.report.charts import line_chart, series, stage_charts
from proxygrm.report.contents import JUDGE_COLUMNS, Column, Report, Results, read_report
from proxygrm.report.gather import gather
from proxygrm.report.page import duration, funnel, write_report
from proxygrm.report.tables.results import cell_text, result_rows
from proxygrm.report.tables.run import result_table
from support.refusals import refused
from support.run_folders.report_runs import NASTY, START, Page, make_run


def test_a_finished_run_is_shown_with_its_stages_results_curves_and_pairs(tmp_path):
    page = Page(write_report(make_run(tmp_path / "run"), tmp_path / "out" / "report.html"))
    for words in ("before training", "after SFT", "after RL", "0123456789ab-dirty", "1 min 10 s", "3.0 GiB", "n1, n2"):
        assert words in page.text
    assert sum(dict(a).get("role") == "img" for tag, a in page.elements if tag == "svg") == 2 * 2 + 7
    assert page.text.count("done") >= 6
    assert "Pair by pair" in page.text
    assert "--pairs" not in page.text
    assert "writes this page" in page.text
    assert list(page.runs) == ["start", "sft", "rl"]
    assert all(len(run["rows"]) == len(run["texts"]) == 24 for run in page.runs.values())
    assert len(page.images) == 3
    items = next(texts[1] for texts in page.runs["rl"]["texts"] if texts[1])
    assert items == [["Names the colour red", 80], ["Answers in one clear sentence", 20]]


def test_the_page_loads_nothing_from_anywhere(tmp_path):
    page = Page(write_report(make_run(tmp_path / "run"), tmp_path / "report.html"))
    assert not [e for e in page.elements if e[0] in ("link", "iframe", "img", "object")]
    assert not [a for _, a in page.elements if "src" in a or a.get("href", "#")[0] != "#"]
    assert not re.findall(r"https?://", page.source)


def test_text_from_data_and_models_stays_text(tmp_path):
    page = Page(write_report(make_run(tmp_path / "run"), tmp_path / "report.html"))
    assert sum(tag == "script" for tag, _ in page.elements) == 3
    assert not [a for _, a in page.elements if "onerror" in a]
    assert next(pair[3] for pair in page.data["pairs"] if pair[0] == "demo:0") == NASTY


def test_a_run_whose_stages_have_not_started_still_gives_a_page(tmp_path):
    (tmp_path / "run").mkdir()
    record = {"report": plain(REPORT), "fingerprints": dict.fromkeys(("distill", "split", "grm_rl", "report"), "f")}
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    page = Page(write_report(tmp_path / "run", tmp_path / "report.html"))
    assert page.text.count("missing") == 3
    for words in ("Not evaluated yet", "Not split yet", "No training metrics yet", "No judged pairs yet"):
        assert words in page.text


def test_an_empty_folder_and_another_versions_report_still_give_a_page(tmp_path):
    assert "No training metrics yet" in Page(write_report(tmp_path, tmp_path / "report.html")).text
    for row, words in ({"kind": "x"}, "unknown setting 'kind'"), ({"results": {}}, "cannot be read: KeyError"):
        (tmp_path / "run.json").write_text(json.dumps({"report": row}))
        assert words in Page(write_report(tmp_path, tmp_path / "report.html")).text


def test_a_recipes_own_report_shows_its_files_under_its_own_titles(tmp_path):
    columns = (Column("Solved", "solved"), Column("Problems", "n", count=True))
    results = Results("score/all.json", {"b": "Theirs", "a": "Ours"}, heading="Sums", note="", columns=columns)
    report = Report("Sums run", {"score": "every sum"}, results, counts="mix/kept.json", curves=("fit",))
    for folder, name, content in (
        ("score", "all.json", '{"c": {"n": 3}, "a": {"solved": 0.5, "n": 1200}, "b": {"solved": 0.25}}'),
        ("mix", "kept.json", '{"rows": 7}'),
        ("fit", "metrics.jsonl", '{"step": 1, "loss": 2}\n'),
        ("other", "metrics.jsonl", '{"step": 1, "loss": 3}\n'),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(content)
    record = {"report": plain(report), "fingerprints": dict.fromkeys(("mix", "fit", "score"), "f")}
    (tmp_path / "run.json").write_text(json.dumps(record))
    facts = gather(tmp_path)
    assert (facts.report, list(facts.curves), facts.funnel) == (report, ["fit"], {"rows": 7})
    rows = [["Theirs", "25.0 %", "–"], ["Ours", "50.0 %", "1,200"], ["c", "–", "3"]]
    assert result_rows(facts.summary, results) == rows
    page = Page(write_report(tmp_path, tmp_path / "page.html"))
    for words in ("Sums run", "every sum", "Theirs", "Solved"):
        assert words in page.text
    assert "both orders" not in page.text
    assert "writes this page" not in page.text


def test_the_report_of_a_recipe_survives_run_json():
    assert read_report(json.loads(json.dumps(plain(REPORT)))) == REPORT
    assert read_report(None) == Report()


def test_an_ablation_adds_its_cells_to_the_page_of_its_chain_or_has_one_of_its_own(tmp_path):
    run = make_run(tmp_path)
    chain = [stage.name for stage in gather(run).stages]
    cell = run / "cells" / "seed-1" / "grm_rl"
    cell.mkdir(parents=True)
    (cell / "DONE.json").write_text(json.dumps({"stage": "cells/seed-1/grm_rl", "started": START, "finished": START}))
    record = run / "ablations" / "seeds" / "run.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"name": "seeds", "fingerprints": {"split": "f", "cells/seed-1/grm_rl": "g"}}))
    both = gather(run)
    assert [stage.name for stage in both.stages] == [*chain, "cells/seed-1/grm_rl"]
    assert (both.stages[-1].status, both.about["name"]) == ("done", "demo")
    (run / "run.json").unlink()
    alone = gather(run)
    assert [stage.name for stage in alone.stages][:2] == ["split", "cells/seed-1/grm_rl"]
    assert alone.about["name"] == "seeds"


def test_a_missing_run_folder_is_a_user_error(tmp_path):
    with refused("run.not-found", path=tmp_path / "nowhere"):
        write_report(tmp_path / "nowhere", tmp_path / "report.html")


def test_truncated_and_invalid_files_are_named_on_the_page_and_lose_nothing_else(tmp_path):
    run = make_run(tmp_path / "run")
    with (run / "grm_rl" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 60, "reward/acc')
    (run / "split" / "report.json").write_text("{not json")
    (run / "distill" / "DONE.json").write_text("[1, 2]")
    (run / "evaluate" / "rl.jsonl").write_bytes(b'\xff\xfe\n{"id": "x"}\n')
    page = Page(write_report(run, tmp_path / "report.html"))
    assert "1 unreadable line of grm_rl/metrics.jsonl left out" in page.text
    assert "split/report.json cannot be read" in page.text
    assert "distill/DONE.json is not a JSON object" in page.text
    assert "1 unreadable line of evaluate/rl.jsonl left out" in page.text
    assert "after SFT" in page.text


@pytest.mark.parametrize(
    ("files", "status"),
    [
        ({"progress.0.json": {"done": 3, "total": 9, "note": "judging"}}, "running"),
        ({"FAILED.0.json": {"reason": "out of memory"}}, "failed"),
        (
            {
                "DONE.0.json": {"started": 1, "finished": 5},
                "progress.0.json": {"done": 9},
                "progress.1.json": {"done": 1},
            },
            "running",
        ),
        ({"DONE.0.json": {"started": 1, "finished": 5}, "DONE.1.json": {"started": 2, "finished": 9}}, "done"),
        ({}, "missing"),
    ],
)
def test_the_status_of_a_stage_follows_from_its_files(tmp_path, files, status):
    (tmp_path / "distill").mkdir()
    (tmp_path / "run.json").write_text(json.dumps({"fingerprints": {"distill": "f"}}))
    for name, content in files.items():
        (tmp_path / "distill" / name).write_text(json.dumps(content))
    stage = gather(tmp_path).stages[0]
    assert stage.status == status
    if status == "done":
        assert (stage.wall_s, stage.parts) == (8, 2)
    if status == "failed":
        assert stage.note == "out of memory"


def test_a_missing_or_broken_image_leaves_the_rest_in_place(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "images" / "red.png").unlink()
    (run / "images" / "blue.png").write_bytes(b"no image")
    page = Page(write_report(run, tmp_path / "report.html"))
    assert len(page.images) == 1
    assert "1 images no longer exist at the paths in the rows" in page.text
    assert "1 images cannot be read" in page.text


def test_rows_with_the_minimal_fields_are_shown(tmp_path):
    (tmp_path / "evaluate").mkdir()
    row = {"id": 7, "order": "as_is", "label": 1, "verdict": None, "critique": None, "question": "q"}
    (tmp_path / "evaluate" / "m.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "evaluate" / "summary.json").write_text('{"m": {"accuracy": NaN, "pairs": 1}}')
    page = Page(write_report(tmp_path, tmp_path / "report.html", REPORT))
    assert page.data["reasons"][page.runs["m"]["rows"][0][8][0]] == "empty"


def test_a_curve_keeps_the_later_value_of_a_repeated_step_and_skips_what_is_not_a_number():
    rows = [
        {"step": 2, "a": 2},
        {"step": 1, "a": 1},
        {"step": 2, "a": 5},
        {"step": 3, "a": math.nan},
        {"step": 4, "a": "x"},
    ]
    assert series(rows, "a") == [(1, 1), (2, 5)]


def test_charts_survive_one_point_flat_and_huge_curves():
    for points in ([(0, 1.0)], [(0, 3.0), (1, 3.0)], [(i, i * 1e9) for i in range(5000)], [(0, -1e-9), (1, 1e-9)]):
        svg = line_chart(points, "<x>")
        assert "nan" not in svg
        assert "<x>" not in svg
        assert len(svg) < 40_000


def test_unknown_metric_names_are_drawn_under_their_own_names():
    assert [c["title"] for c in stage_charts([{"step": 1, "foo/bar": 1.0, "text": "x"}])] == ["foo/bar"]
    own = [{"step": 1, "reward/score_mean": 1.0, "reward/part/words": 3.0, "other": 1.0}]
    assert [c["title"] for c in stage_charts(own)] == ["Reward, mean", "words"]


def test_nested_counts_become_groups():
    groups = funnel({"pairs": 10, "dropped": {"too_long": 4, "why": {"x": 1}}, "note": "text", "seed": 3})
    assert [g["title"] for g in groups] == ["", "dropped", "dropped · why"]
    assert len(groups[0]["bars"]) == 1
    assert groups[1]["bars"] == [("too long", "4", 100.0)]


def test_result_cells_show_intervals_counts_and_dashes():
    figures = {"accuracy": 0.7123, "accuracy_low": 0.66, "accuracy_high": 0.759, "pairs": 1250}
    assert cell_text(figures, JUDGE_COLUMNS[1]) == "71.2 % (66.0–75.9)"
    assert cell_text(figures, JUDGE_COLUMNS[0]) == "1,250"
    assert cell_text({}, JUDGE_COLUMNS[1]) == "–"


def test_the_terminal_table_has_a_column_per_model_and_fits_80_characters(tmp_path):
    from rich.console import Console

    path = make_run(tmp_path / "run") / "evaluate" / "summary.json"
    summary = json.loads(path.read_text())
    console = Console(width=80, record=True)
    console.print(result_table(path, REPORT.results))
    text = console.export_text()
    assert all(name in text for name, *_ in result_rows(summary, REPORT.results))
    assert len(text.splitlines()) == len(JUDGE_COLUMNS) + 5
    with refused("report.no-results", path=tmp_path / "gone.json"):
        result_table(tmp_path / "gone.json")
    assert result_table({"[bold]x[/]": {}}).columns[1].header.plain == "[bold]x[/]"


def test_durations_are_readable():
    assert [duration(s) for s in (None, 4.4, 75, 3720)] == ["", "4 s", "1 min 15 s", "1 h 02 min"]


def test_the_training_table_shows_means_over_parts_of_the_steps(tmp_path):
    from rich.console import Console

    from proxygrm.report.tables.run import training_table

    path = tmp_path / "metrics.jsonl"
    rows = [{"step": i, "reward/score_mean": float(i), "reward/accuracy": 0.5} for i in range(1, 7)]
    rows[5]["reward/proxy_agreement"] = 0.75
    rows.insert(0, {"step": 0, "validation/score": 0.1})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    console = Console(width=100, record=True)
    console.print(training_table(path))
    shown = console.export_text()
    assert "steps 1-2" in shown
    assert "+1.50" in shown
    assert "+5.50" in shown
    assert "75.0%" in shown
    assert "Format" not in shown, "no rollout has this figure"
    path.write_text(json.dumps({**rows[1], "reward/part/[b]words": 12.5}) + "\n")
    console.print(training_table(path))
    shown = console.export_text()
    assert "[b]words" in shown, "a number of a user's own reward"
    assert "12.5" in shown
    assert len(training_table(path).columns) == 2
    with refused("report.no-metrics", path=tmp_path / "nowhere.jsonl"):
        training_table(tmp_path / "nowhere.jsonl")
