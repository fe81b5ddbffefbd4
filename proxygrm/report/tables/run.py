"""The result table in the terminal: a row per figure, a column per model, so that three models fit 80 characters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxygrm.core.errors import UserError
from proxygrm.core.files.user_text import read_user_text
from proxygrm.report.charts import MOST_PARTS, PART
from proxygrm.report.contents import Report, Results
from proxygrm.report.numbers import NONE
from proxygrm.report.tables.results import result_rows

if TYPE_CHECKING:
    from rich.table import Table

JUDGED = Results(file="")
"""Titles and columns for the summary of judges under their own names."""


def result_table(summary: Path | Mapping[str, Mapping[str, Any]], results: Results = JUDGED) -> Table:
    """A rich Table of a summary.json or of its content. results: titles and columns, by default those of judges.
    UserError when the file is missing or invalid."""
    from rich.table import Table
    from rich.text import Text

    if isinstance(summary, Path):
        try:
            summary = json.loads(read_user_text(summary))
        except (OSError, ValueError) as error:
            raise UserError(
                f"no results in {summary}: {error}", code="report.no-results", path=summary, reason=str(error)
            ) from error
    assert isinstance(summary, Mapping)
    rows = result_rows(Report(results=results).in_order(summary), results)
    table = Table(title=results.title, title_justify="left")
    table.add_column("")
    for name, *_ in rows:
        table.add_column(Text(name), justify="right")
    for index, column in enumerate(results.columns, 1):
        table.add_row(column.title, *(Text(row[index]) for row in rows))
    return table


_RL_FIGURES = {
    "Reward": ("reward/score_mean", "{:+.2f}"),
    "Right verdicts": ("reward/accuracy", "{:.1%}"),
    "Proxy agrees": ("reward/proxy_agreement", "{:.1%}"),
    "Consistent": ("reward/consistent", "{:.1%}"),
    "Format": ("reward/format", "{:.1%}"),
}


def training_table(metrics: Path, parts: int = 3) -> Table:
    """Means over RL's rollouts in `parts` ranges of steps: single steps have few prompts."""
    from rich.table import Table
    from rich.text import Text

    try:
        rows = [json.loads(line) for line in read_user_text(metrics).splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(
            f"no metrics in {metrics}: {error}", code="report.no-metrics", path=metrics, reason=str(error)
        ) from error
    rows = [row for row in rows if row["step"]]  # 0 is the validation before training: it has no rollouts
    parts = min(parts, len(rows))
    cuts = [len(rows) * i // parts for i in range(parts + 1)] if parts else []
    spans = [rows[a:b] for a, b in pairwise(cuts)]
    table = Table(title="Rollouts during RL", title_justify="left")
    table.add_column("")
    for span in spans:
        first, last = span[0]["step"], span[-1]["step"]
        table.add_column(f"steps {first}-{last}" if last > first else f"step {first}", justify="right")
    own_names = sorted({name for row in rows for name in row if name.startswith(PART)})
    own = {name.removeprefix(PART): (name, "{:.4g}") for name in own_names[:MOST_PARTS]}
    for title, (name, form) in {**_RL_FIGURES, **own}.items():
        values_by_span = [[row[name] for row in span if name in row] for span in spans]
        if not any(values_by_span):
            continue  # not a figure of this reward
        table.add_row(
            Text(title), *(form.format(sum(values) / len(values)) if values else NONE for values in values_by_span)
        )
    return table
