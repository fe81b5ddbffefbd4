"""Rubric transfer on the page: a table per reward model and judge, from its figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proxygrm.report.contents import Report
from proxygrm.report.gather import read_object
from proxygrm.report.numbers import between, counts_text, points, share_text

RUBRICS = {"none": "none", "own": "own, for this pair", "other": "own, for another pair", "base": "base model's"}


def transfer_tables(run_dir: Path, report: Report, notes: list[str]) -> dict[str, Any] | None:
    """What the template shows: {n, judges, cells}; None without the file. An invalid one is noted."""
    figures = read_object(run_dir / report.transfer, notes) if report.transfer else {}
    if not figures:
        return None
    try:
        return {
            "n": f"{figures['pairs']:,} pairs, {'both orders' if figures['orders'] == 2 else 'one order'}",
            "judges": [(name, judge["is"], judge["note"]) for name, judge in figures["judges"].items()],
            "cells": [_cell(cell, report) for cell in figures["cells"]],
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        notes.append(f"{report.transfer} cannot be read: {type(error).__name__} {error}")
        return None


def _cell(cell: Mapping[str, Any], report: Report) -> dict[str, Any]:
    rows = [
        [RUBRICS.get(name, name), f"{of['judgements']:,}", share_text(of["accuracy"]), between(of["low"], of["high"]),
         f"{of['unparsed']:,}", f"{of['refused']:,}", counts_text(of["not_sent"]) or "0",
         *_gain(cell["gains"].get(name))]
        for name, of in cell["conditions"].items()
    ]  # fmt: skip
    title = f"{report.model_title(cell['grm'])}, judge {cell['judge']}"
    return {"title": title, "rows": rows, "notes": list(cell["notes"])}


def _gain(gain: Mapping[str, Any] | None) -> list[str]:
    """Own rubric minus this condition: points, interval, p, and points where both have a verdict, with their pairs."""
    if gain is None or gain["difference"] is None:
        return ["", "", "", ""]
    clear = gain["clear"]
    clear_points = f"{points(clear['difference'])} of {clear['pairs']:,} pairs" if clear["pairs"] else "no such pair"
    return [points(gain["difference"]), between(gain["low"], gain["high"]), f"{gain['p']:.2g}", clear_points]
