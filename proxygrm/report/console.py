"""The result table in the terminal: a line a figure, a column a model, so that three models fit 80 characters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxygrm.errors import UserError
from proxygrm.report.results import COLUMNS, result_rows

if TYPE_CHECKING:
    from rich.table import Table


def result_table(summary: Path | Mapping[str, Mapping[str, Any]]) -> Table:
    """A rich Table of a summary.json or of its content. UserError when the file is not there or not whole."""
    from rich.table import Table
    from rich.text import Text

    if isinstance(summary, Path):
        try:
            summary = json.loads(summary.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"no results in {summary}: {error}") from error
    assert isinstance(summary, Mapping)
    rows = result_rows(summary)
    table = Table(title="Held-out pairs, both orders", title_justify="left")
    table.add_column("")
    for name, *_ in rows:
        table.add_column(Text(name), justify="right")
    for index, column in enumerate(COLUMNS, 1):
        table.add_row(column.title, *(Text(row[index]) for row in rows))
    return table
