"""Rubric transfer arranged for the page: a table for each reward model and judge, from the stage's `transfer.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proxygrm.report.gather import number, tag_name

RUBRICS = {"none": "none", "own": "own, for this pair", "other": "own, for another pair", "base": "base model's"}


def view(run_dir: Path, notes: list[str]) -> dict[str, Any] | None:
    """What the template shows: {n, judges, cells}; None without the stage. What cannot be read is noted."""
    path = run_dir / "transfer" / "transfer.json"
    if not path.is_file():
        return None
    try:
        figures = json.loads(path.read_text(encoding="utf-8", errors="replace"))
        return {
            "n": f"{figures['pairs']:,} pairs, {'both orders' if figures['orders'] == 2 else 'one order'}",
            "judges": [(name, judge["is"], judge["note"]) for name, judge in figures["judges"].items()],
            "cells": [_cell(cell) for cell in figures["cells"]],
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        notes.append(f"transfer/transfer.json cannot be read: {type(error).__name__} {error}")
        return None


def _cell(cell: Mapping[str, Any]) -> dict[str, Any]:
    rows = [
        [RUBRICS.get(name, name), f"{of['judgements']:,}", _share(of["accuracy"]), _interval(of["low"], of["high"]),
         f"{of['unparsed']:,}", f"{of['refused']:,}", _why(of["not_sent"]), *_gain(cell["gains"].get(name))]
        for name, of in cell["conditions"].items()
    ]  # fmt: skip
    return {"title": f"{tag_name(cell['grm'])}, judge {cell['judge']}", "rows": rows, "notes": list(cell["notes"])}


def _gain(of: Mapping[str, Any] | None) -> list[str]:
    """Own rubric less this condition: points, interval, p, and points where both have a verdict, with their pairs."""
    if of is None or of["difference"] is None:
        return ["", "", "", ""]
    clear = of["clear"]
    points = f"{100 * clear['difference']:+.1f} of {clear['pairs']:,} pairs" if clear["pairs"] else "no such pair"
    return [f"{100 * of['difference']:+.1f}", _interval(of["low"], of["high"]), f"{of['p']:.2g}", points]


def _why(not_sent: Mapping[str, Any]) -> str:
    return ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in not_sent.items()) or "0"


def _share(value: Any) -> str:
    return "–" if number(value) is None else f"{100 * value:.1f} %"


def _interval(low: Any, high: Any) -> str:
    return "" if number(low) is None or number(high) is None else f"{100 * low:.1f} to {100 * high:.1f}"
