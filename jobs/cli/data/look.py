"""`proxygrm data check PATH`, `data stats PATH`, `data show PATH --out page.html`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from jobs.cli.common.say import echo

_PATH = click.Path(path_type=Path)
_root = click.option("--images-root", type=_PATH, help="Where picture paths begin.  [the folder of the file]")
_json = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.command(short_help="What a file is, and what is wrong with its rows.")
@click.argument("path", type=_PATH)
@_root
@click.option(
    "--decode/--no-decode", default=True, show_default=True, help="Read every pixel, which finds images that break off."
)
@_json
def check(path: Path, images_root: Path | None, decode: bool, as_json: bool) -> None:
    """Look at every row of PATH: a pairs folder, a downloaded release or benchmark, preference JSONL, critiques, or
    rows for ms-swift or verl. What it is shows in its fields. Exit code 1 when anything is wrong."""
    from data_tools.inspect.check import check as look
    from jobs.cli.common.quiet import quiet

    with quiet("data check"):
        found = look(path, images_root, decode)
    if as_json:
        echo(json.dumps(found.as_json(), indent=2, ensure_ascii=True))
    else:
        _print_check(found)
    if not found.ok:
        click.get_current_context().exit(1)


def _print_check(found: Any) -> None:
    from rich.markup import escape
    from rich.table import Table

    from jobs.cli.common.console import out

    out.print(f"{escape(found.path)}: {found.kind}, {found.rows:,} rows, {found.pictures:,} pictures", soft_wrap=True)
    if found.problems:
        shown = Table("problem", "rows", "first", "id", "what")
        shown.columns[1].justify = "right"
        for reason, problem in found.problems.items():
            for i, row in enumerate(problem.rows):
                name, count = (reason.replace("_", " "), f"{problem.count:,}") if i == 0 else ("", "")
                file = row["file"] if row["file"] != Path(found.path).name else ""
                where = f"{file} row {row['row']}".strip() if "row" in row else file
                shown.add_row(name, count, *(escape(_line(text)) for text in (where, row.get("id", ""), row["detail"])))
        out.print(shown)
    if "missing_picture" in found.problems:
        out.print("pictures that lie elsewhere: --images-root DIR")
    for remark, count in found.remarks.items():
        out.print(f"remark: {remark.replace('_', ' ')} {count:,}")
    for row in found.contradictions:
        out.print(
            f"  {escape(_line(row['file']))} row {row['row']} ({escape(_line(row['id'][:60]))}) {escape(row['detail'])}"
        )
    out.print("nothing is wrong" if found.ok else f"{found.bad_rows:,} of {found.rows:,} rows have problems")


def _line(text: str) -> str:
    """For one cell: no line ends, no control characters."""
    return "".join(c if c.isprintable() else " " for c in text)


@click.command(short_help="Counts, lengths, labels, pictures and tokens of a file.")
@click.argument("path", type=_PATH)
@_root
@_json
def stats(path: Path, images_root: Path | None, as_json: bool) -> None:
    """Count what is in PATH (as `check` knows it): rows, labels, sources, lengths, picture sizes, and about how many
    tokens they make."""
    from rich.markup import escape
    from rich.table import Table

    from data_tools.inspect.stats import stats as count
    from jobs.cli.common.console import out
    from jobs.cli.common.quiet import quiet

    with quiet("data stats"):
        found = count(path, images_root)
    if as_json:
        echo(json.dumps(found, indent=2, ensure_ascii=True))
        return
    out.print(f"{escape(str(path))}: {found['kind']}, {found['rows']:,} rows, {found['rows_with_problems']:,} of them "
              "with problems", soft_wrap=True)  # fmt: skip
    facts = {"label": found["labels"], "source": found["sources"], "pictures a row": found["pictures"]["a_row"],
             "format": found["pictures"]["formats"]}  # fmt: skip
    for name, counts in facts.items():
        if counts:
            listed = ", ".join(f"{escape(_line(value))} {number:,}" for value, number in list(counts.items())[:20])
            out.print(f"{name}: {listed}", soft_wrap=True)
    shown = Table("", "least", "5 %", "median", "95 %", "99 %", "most")
    for column in shown.columns[1:]:
        column.justify = "right"
    for name, values in found["quantiles"].items():
        shown.add_row(escape(_line(name)), *(f"{value:,}" for value in values.values()))
    out.print(shown)
    out.print(f"about {found['tokens_in_all']:,} tokens in all; {found['token_estimate']}", soft_wrap=True)


@click.command(short_help="A few rows as an HTML page with their pictures.")
@click.argument("path", type=_PATH)
@click.option("--rows", type=click.IntRange(1, 500), default=12, show_default=True, help="How many.")
@click.option("--first", type=click.IntRange(1), default=1, show_default=True, help="The row to begin with.")
@click.option("--out", type=_PATH, required=True, help="The page to write: one file, no network.")
@_root
def show(path: Path, rows: int, first: int, out: Path, images_root: Path | None) -> None:
    """Write rows of PATH (as `check` knows it) as one HTML page."""
    from data_tools.inspect.show import show as write
    from jobs.cli.common.quiet import quiet

    with quiet("data show"):
        count = write(path, out, rows, first, images_root)
    echo(f"{out}: {count} rows")
