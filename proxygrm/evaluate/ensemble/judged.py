"""The ensemble of models that were judged together (`evaluate.models`), beside the models.

OUT/MODEL.jsonl     the judgements of each model, as they are
OUT/ensemble.jsonl  those by the weighted scores of all
OUT/summary.json    {MODEL or "ensemble": figures}
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxygrm.core.files.whole_file import beside, write_json
from proxygrm.evaluate.ensemble.combine import Ensemble, combine
from proxygrm.evaluate.models import PAIRS, figures_of
from proxygrm.evaluate.rows.row_file import Row
from proxygrm.evaluate.scores.metrics import summarise

ENSEMBLE = "ensemble"
SUMMARY = "summary.json"


@dataclass(frozen=True)
class Judged:
    """A folder with the summary and the judgements of several models over the same pairs."""

    folder: Path

    @property
    def summary(self) -> dict[str, Row]:
        found: dict[str, Row] = json.loads((self.folder / SUMMARY).read_text(encoding="utf-8"))
        return found

    @property
    def files(self) -> list[Path]:
        return [self.folder / f"{model}.jsonl" for model in self.summary]


def add_ensemble(judged: Judged, out: Path, weights: str, validation: Judged | None = None) -> Ensemble | None:
    """Write `out`. validation: the same models on other pairs, for weights that are taken from there. A single model
    is its own ensemble: it stays alone, and None is returned. Raises UserError: those of `combine`."""
    out.mkdir(parents=True, exist_ok=True)
    summary = judged.summary
    made = None
    if len(summary) > 1:
        file = out / f"{ENSEMBLE}.jsonl"
        made = combine(judged.files, file, weights, validation.files if validation else ())
        one, *_ = summary.values()
        summary[ENSEMBLE] = _figures(file, one) | {"weights": _by_model(made, judged.files)}
    for each in judged.files:
        _link(each, out / each.name)
    write_json(out / SUMMARY, summary)
    return made


def _figures(file: Path, one: Row) -> Row:
    """one: figures of a member, which say what the pairs are."""
    with file.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    ids = list(dict.fromkeys((row["id"], row["copy"], row["source"]) for row in rows))
    bench = str(one.get("bench", PAIRS))
    figures: dict[str, Any] = figures_of(file, bench, [(id_, source) for id_, _, source in ids], not one.get("partial"))
    return figures | summarise(rows)


def _by_model(made: Ensemble, files: Sequence[Path]) -> dict[str, float]:
    return {file.stem: made.weights[str(file)] for file in files}


def _link(file: Path, target: Path) -> None:
    scratch = beside(target)
    try:
        os.link(file, scratch)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(file, scratch)
    scratch.replace(target)
