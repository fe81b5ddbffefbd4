"""The result table in the terminal: a line a figure, a column a model, so that three models fit 80 characters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from proxygrm.report.results import COLUMNS, result_rows

if TYPE_CHECKING:
    from rich.table import Table


def result_table(summary: Mapping[str, Mapping[str, Any]]) -> Table:
    """A rich Table of evaluate/summary.json; `rich.print` it."""
    from rich.table import Table
    from rich.text import Text

    rows = result_rows(summary)
    table = Table(title="Held-out pairs, both orders", title_justify="left")
    table.add_column("")
    for name, *_ in rows:
        table.add_column(Text(name), justify="right")
    for index, column in enumerate(COLUMNS, 1):
        table.add_row(column.title, *(Text(row[index]) for row in rows))
    return table
