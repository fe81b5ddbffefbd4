"""Commands that read a JSONL, convert each row, and write a JSONL: bad rows are named, counted and listed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.cli.common.options import Share
from jobs.cli.common.say import echo
from proxygrm.core.bad_row import BadRow
from proxygrm.core.errors import UserError
from proxygrm.core.files.output_file import LOGS, check_output
from proxygrm.core.files.whole_file import whole_file, writing

if TYPE_CHECKING:
    from data_tools.steps.account import Account

MAX_SHOWN_BAD_ROWS = 20
MAX_BAD = click.option(
    "--max-bad", type=Share(), default=0.01, show_default=True, help="Largest share of bad rows, 0 to 1."
)


def write_rows(
    source: Path, target: Path, convert: Callable[[Any], dict[str, Any]], max_bad: float, what: str
) -> Account:
    """Write `convert` of every row of `source` to `target`, which appears only when complete.

    Rows for which `convert` raises BadRow, and lines that are not JSON, are named on standard error, left out, counted
    by cause, and listed in TARGET.dropped.jsonl. what: the rows in words, "rollouts". Raises UserError, also where more
    than the share `max_bad` of the rows is bad.
    """
    from data_tools.steps.account import Account

    if not source.is_file():
        exists = source.exists()
        raise UserError(
            f"--input {source} {'is not a file' if exists else 'does not exist'}; give a JSONL of {what}",
            code="file.not-a-file" if exists else "file.missing",
            path=source,
        )
    check_output(target, [source], beside=LOGS)
    log = target.with_name(f"{target.name}{LOGS[0]}")
    try:
        with (
            whole_file(target) as scratch,
            Account(log, max_bad) as account,
            writing(target),
            scratch.open("wb") as file,
        ):
            for line in _converted_lines(source, convert, account):
                file.write(line)
            if not account.read:
                raise UserError(f"--input {source} has no rows; give a JSONL of {what}", code="file.empty", path=source)
    except OSError as error:
        path = error.filename or target
        raise UserError(
            f"{path}: {error.strerror}; free space or fix the permissions, and run again",
            code="file.cannot-write",
            path=str(path),
        ) from error
    if not account.bad:
        log.unlink()
    return account


def _converted_lines(source: Path, convert: Callable[[Any], dict[str, Any]], account: Account) -> Iterator[bytes]:
    from data_tools.steps.account import RowLocation

    for number, line in _lines_with_progress(source):
        account.read += 1
        row: Any = None
        try:
            row = _parsed(line)
            converted = convert(row)
        except BadRow as error:
            row_id = str(row.get("id", "")) if isinstance(row, dict) else ""
            account.exclude(RowLocation(str(source), number), row_id, error.cause, bad=True, detail=str(error))
            _show_bad(source, number, error, sum(account.bad.values()))
            continue
        account.kept += 1
        yield _line(converted)


def _parsed(line: bytes) -> Any:
    import json

    try:
        return json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BadRow("not_json", f"the line is not JSON: {error}") from None


def _line(row: dict[str, Any]) -> bytes:
    """UTF-8; only a line with a lone surrogate, which UTF-8 cannot encode, is escaped."""
    import json

    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(row).encode() + b"\n"


def _lines_with_progress(source: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines, blank ones left out; a bar over the file's bytes when the output is a terminal."""
    from rich.progress import Progress

    from jobs.cli.common.console import out as console
    from proxygrm.core.files.json_lines import numbered_lines

    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task, done = bar.add_task("rows", total=source.stat().st_size), 0
        for number, line in numbered_lines(source):
            done += len(line)
            if number % 500 == 0:
                bar.update(task, completed=done)
            yield number, line


def _show_bad(source: Path, number: int, error: Exception, count: int) -> None:
    if count <= MAX_SHOWN_BAD_ROWS:
        echo(f"{source} line {number}: {error}", err=True)
    elif count == MAX_SHOWN_BAD_ROWS + 1:
        echo("further bad rows are only counted here; OUT.dropped.jsonl lists all of them", err=True)
