"""The papers' table in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from proxygrm.report.papers import LEGEND, Cell, Papers


def show(papers: Papers, console: Console) -> None:
    main = papers.main
    table = Table(title=main.title, title_justify="left")
    table.add_column("")
    for title, about in main.columns:
        table.add_column(Text("\n".join([title.replace("-Reward", "-\nReward"), about])), justify="right")
    for row in main.ours:
        table.add_row(Text(row.title, "bold"), *map(_text, row.cells))
    table.add_section()
    for row in main.published:
        table.add_row(Text(row.title, "dim"), *map(_text, row.cells))
    console.print(table)
    console.print(LEGEND, style="dim", highlight=False)
    shown = sorted({cell.note for row in main.published for cell in row.cells if cell.note})
    for number in shown:
        console.print(f"{number} {papers.notes[number - 1]}", style="dim", highlight=False, markup=False)


def _text(cell: Cell) -> Text:
    """The interval on a line of its own, so that four columns fit 80 characters."""
    mark = f" {cell.mark}{cell.note or ''}" if cell.mark else ""
    text = Text(f"{cell.text}{mark}")
    return text.append(f"\n{cell.interval}", "dim") if cell.interval else text
