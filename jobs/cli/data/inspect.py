"""`proxygrm data check PATH`, `data stats PATH`, `data show PATH --out page.html`"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from jobs.cli.common.say import echo
from proxygrm.core.files.output_file import check_output

_PATH = click.Path(path_type=Path)
_root = click.option("--images-root", type=_PATH, help="Folder of the image paths.  [the folder of the file]")
_json = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.command(short_help="Tell the kind of a file, and the problems of its rows.")
@click.argument("path", type=_PATH)
@_root
@click.option(
    "--decode/--no-decode", default=True, show_default=True, help="Read every pixel, which finds truncated images."
)
@_json
def check(path: Path, images_root: Path | None, decode: bool, as_json: bool) -> None:
    """Check every row of PATH: a pairs folder, a downloaded release or benchmark, preference JSONL, critiques, or
    rows for ms-swift or verl. Its fields tell which. The exit code is 1 if there are problems."""
    from data_tools.inspect.check import check as check_file
    from jobs.cli.common.quiet import quiet

    with quiet("data check"):
        result = check_file(path, images_root, decode)
    if as_json:
        echo(json.dumps(result.as_json(), indent=2, ensure_ascii=True))
    else:
        _print_check(result)
    if not result.ok:
        click.get_current_context().exit(1)


def _print_check(result: Any) -> None:
    from rich.markup import escape
    from rich.table import Table

    from jobs.cli.common.console import out

    out.print(f"{escape(result.path)}: {result.kind}, {result.rows:,} rows, {result.images:,} images", soft_wrap=True)
    if result.problems:
        table = Table("problem", "rows", "first", "id", "detail")
        table.columns[1].justify = "right"
        for reason, problem in result.problems.items():
            for i, row in enumerate(problem.rows):
                name, count = (reason.replace("_", " "), f"{problem.count:,}") if i == 0 else ("", "")
                file = row["file"] if row["file"] != Path(result.path).name else ""
                where = f"{file} row {row['row']}".strip() if "row" in row else file
                table.add_row(name, count, *(escape(_line(text)) for text in (where, row.get("id", ""), row["detail"])))
        out.print(table)
    if "missing_image" in result.problems:
        out.print("if the images are in another folder: --images-root DIR")
    for remark, count in result.remarks.items():
        out.print(f"remark: {remark.replace('_', ' ')} {count:,}")
    for row in result.contradictions:
        out.print(
            f"  {escape(_line(row['file']))} row {row['row']} ({escape(_line(row['id'][:60]))}) {escape(row['detail'])}"
        )
    out.print("no problems" if result.ok else f"{result.bad_rows:,} of {result.rows:,} rows have problems")


def _line(text: str) -> str:
    """The text for a table cell, without line ends and control characters."""
    return "".join(c if c.isprintable() else " " for c in text)


@click.command(short_help="Counts, lengths, labels, images and tokens of a file.")
@click.argument("path", type=_PATH)
@_root
@click.option("--out", type=_PATH, help="Also a page with the distributions of each source: one file.")
@_json
def stats(path: Path, images_root: Path | None, out: Path | None, as_json: bool) -> None:
    """Count what is in PATH (any kind that `check` knows): rows, labels, lengths, image sizes, and an estimate of the
    tokens; of each source also how often the better response is longer, and its repeats."""
    from rich.markup import escape
    from rich.table import Table

    from data_tools.inspect.stats import stats as count_file
    from data_tools.inspect.stats_page import write_stats_page
    from jobs.cli.common.console import out as console
    from jobs.cli.common.quiet import quiet

    if out is not None:
        check_output(out, _files(path), "--out")
    with quiet("data stats"):
        report = count_file(path, images_root)
        if out is not None:
            write_stats_page(report, out)
    if as_json:
        echo(json.dumps(report, indent=2, ensure_ascii=True))
        return
    summary = f"{report['kind']}, {report['rows']:,} rows, {report['rows_with_problems']:,} of them with problems"
    console.print(f"{escape(str(path))}: {summary}", soft_wrap=True)
    facts = {
        "label": report["labels"], "source": report["sources"], "images per row": report["images"]["a_row"],
        "format": report["images"]["formats"],
    }  # fmt: skip
    for name, counts in facts.items():
        if counts:
            listed = ", ".join(f"{escape(_line(value))} {number:,}" for value, number in list(counts.items())[:20])
            console.print(f"{name}: {listed}", soft_wrap=True)
    table = Table("", "min", "5 %", "median", "95 %", "99 %", "max")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, values in report["quantiles"].items():
        table.add_row(escape(_line(name)), *(f"{value:,}" for value in values.values()))
    console.print(table)
    if len(report["by_source"]) > 1:
        console.print(_sources_table(report["by_source"]))
    console.print(f"about {report['tokens_in_all']:,} tokens in all; {report['token_estimate']}", soft_wrap=True)
    if out is not None:
        console.print(str(out), soft_wrap=True)


def _sources_table(by_source: dict[str, Any]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    from data_tools.inspect.by_source import COLUMNS, cells

    titles = ("rows", "share", "label 1", "better longer", "text only", "repeats", "in others")
    table = Table("source", *titles)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, source in list(by_source.items())[:20]:
        by_title = dict(zip(COLUMNS, cells(source), strict=True))
        table.add_row(escape(_line(name)), *(by_title[title] for title in titles))
    return table


def _files(path: Path) -> Iterable[Path]:
    """That a page must not replace."""
    return [path] if path.is_file() else (each for each in path.rglob("*") if each.suffix.lower() != ".html")


@click.command(short_help="Show rows as an HTML page with their images.")
@click.argument("path", type=_PATH)
@click.option("--rows", type=click.IntRange(1, 500), default=12, show_default=True, help="Number of rows.")
@click.option("--first", type=click.IntRange(1), default=1, show_default=True, help="The first row to show.")
@click.option("--out", type=_PATH, required=True, help="The page to write: one file without external resources.")
@_root
def show(path: Path, rows: int, first: int, out: Path, images_root: Path | None) -> None:
    """Write rows of PATH (any kind that `check` knows) as one HTML page."""
    from data_tools.inspect.show import show as write_page
    from jobs.cli.common.quiet import quiet

    check_output(out, _files(path), "--out")
    with quiet("data show"):
        count = write_page(path, out, rows, first, images_root)
    echo(f"{out}: {count} rows")
