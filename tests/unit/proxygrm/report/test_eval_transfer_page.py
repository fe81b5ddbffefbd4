"""The transfer table on the run's page."""

from __future__ import annotations

import json

from proxygrm.evaluate.transfer.run import Transfer, measure_transfer
from proxygrm.report.page import write_report
from support.evaluate.runs import write
from support.evaluate.transfers import SETTINGS, critique, pairs, reading, rows
from support.run_folders.report_runs import Page, make_run


def test_the_page_has_a_table_per_model_and_the_note_on_the_judge(tmp_path):
    run = make_run(tmp_path / "run")
    eval_pairs = pairs(6)
    files = {tag: write(tmp_path / f"{tag}.jsonl", rows(eval_pairs)) for tag in ("sft", "rl")}
    base = write(tmp_path / "start.jsonl", rows(eval_pairs, lambda s: critique(f"Names {s.pair.id} badly")))
    with reading(eval_pairs) as (_, endpoint):
        note = "seen <b>in training"
        measure_transfer(Transfer(files, {"proxy": endpoint}, run / "transfer", SETTINGS, base, notes={"proxy": note}))
    page = Page(write_report(run, tmp_path / "report.html"))
    for words in ("Rubric transfer", "6 pairs, both orders", note, "Rubrics after SFT, judge proxy", "own gains"):
        assert words.lower() in page.text.lower()
    assert "Rubrics after RL, judge proxy" in page.text


def test_a_broken_transfer_file_is_noted_and_the_page_is_still_written(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "transfer").mkdir()
    for broken in ('{"pairs": 1', "[]", json.dumps({"pairs": 1, "orders": 2, "judges": {}, "cells": [{}]})):
        (run / "transfer" / "transfer.json").write_text(broken)
        text = Page(write_report(run, tmp_path / "report.html")).text
        assert "transfer/transfer.json cannot be read" in text or "transfer/transfer.json is not a JSON object" in text
        assert "Rubric transfer" not in text
