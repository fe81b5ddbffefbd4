"""`proxygrm reward ...`: score a file of rollouts, and print the table the scores come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.cli.common.options import Renamed, refuse_idle
from jobs.cli.common.say import echo
from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import whole_file, writing

if TYPE_CHECKING:
    from rich.table import Table

    from data_tools.steps.account import Account
    from proxygrm.rewards.rollouts import ScoreOptions, Tally

MAX_SHOWN_BAD_ROWS = 20
_FILE = click.Path(path_type=Path)


@click.group()
def reward() -> None:
    """The reward of a rollout: accuracy, proxy agreement and format combined."""


@reward.command("score", short_help="Rollouts (JSONL) -> the same rows with their reward.")
@click.option("--input", "source", type=_FILE, required=True, help="JSONL of rollouts.")
@click.option("--out", "--output", "target", cls=Renamed, type=_FILE, required=True, help="JSONL to write.")
@click.option("--aggregation", default="sum", show_default=True, help="A name or 0..10; see `proxygrm reward table`.")
@click.option("--compat", type=click.Choice(["upstream"]), help="Read and score as the authors' own code does.")
@click.option("--no-proxy", is_flag=True, help="score = accuracy + 0.5 x format; proxy_reward may be missing.")
@click.option("--deny-leaks", is_flag=True, help="A rubric that names the winner earns nothing from the proxy.")
@click.option(
    "--max-bad", type=click.FloatRange(0, 1), default=0.01, show_default=True, help="Largest share of bad rows."
)
def score_command(
    source: Path,
    target: Path,
    aggregation: str,
    compat: str | None,
    no_proxy: bool,
    deny_leaks: bool,
    max_bad: float,
) -> None:
    """Score rollouts.

    \b
    In:  {"response": "<rubric>...", "ground_truth": 1, "proxy_reward": 1, ...}
         ground_truth 1 | 2 | "<answer>1</answer>" | ["<answer>1</answer>"]; proxy_reward 1 (the proxy agrees
         with the label), -1 or null (no opinion); "cause" may say why it is null
         Also RL's rollouts/step_*.jsonl (critique, label, proxy), verl's rollout_data_dir (output, gts) and
         upstream's names (solution_str, reward_model.ground_truth, answer)
    Out: the row with accuracy (1 | -1), format (1 | 0), rubric (all the proxy may see; null: nothing), score,
         and reason, if there is a problem with the rollout

    A rollout without a rubric to judge takes the "failed" column of the table. One whose rubric got no opinion is
    unscored: score null, reason "unscored"; leave it out of its group. --compat upstream scores it by the "failed"
    column, with reason "proxy_failed".

    Rows that are not rollouts are left out, counted by cause, and listed in OUT.dropped.jsonl.
    """
    from jobs.cli.common.console import out as console
    from proxygrm.rewards.proxy_agreement import resolve_aggregation
    from proxygrm.rewards.rollouts import ScoreOptions

    if compat and deny_leaks:
        raise UserError(
            "--deny-leaks and --compat upstream exclude each other: upstream rewards leaks; drop one",
            code="option.conflict",
            names=["--deny-leaks", "--compat"],
        )
    refuse_idle("aggregation", "with --no-proxy: accuracy + 0.5 x format", unless=not no_proxy)
    options = ScoreOptions(resolve_aggregation(aggregation), not no_proxy, deny_leaks, compat == "upstream")
    tally, account = score_file(source, target, options, max_bad)
    console.print(_summary(tally, account, options))
    if tally.lost and not tally.judged:
        echo("no row has the proxy's opinion; --no-proxy scores by accuracy and format alone", err=True)


@reward.command("table")
def table_command() -> None:
    """Every aggregation: score before the format term, by accuracy and proxy."""
    from dataclasses import astuple

    from rich import box
    from rich.table import Table

    from jobs.cli.common.console import out as console
    from proxygrm.rewards.proxy_agreement import AGGREGATIONS

    table = Table(box=box.SIMPLE, pad_edge=False, collapse_padding=True)
    table.add_column("id", justify="right", no_wrap=True)
    table.add_column("name", no_wrap=True)
    for column in ("+,+", "+,-", "-,+", "-,-", "+,failed", "-,failed"):
        table.add_column(column, justify="right", no_wrap=True)
    for number, (name, row) in enumerate(AGGREGATIONS.items()):
        table.add_row(str(number), name, *(f"{cell:g}" for cell in astuple(row)))
    console.print(table)
    console.print("score = cell + 0.5 x format (1 | 0); without a proxy the cell is accuracy (1 | -1)", soft_wrap=True)


def score_file(source: Path, target: Path, options: ScoreOptions, max_bad: float) -> tuple[Tally, Account]:
    """Score `source` into `target`, row by row; `target` appears only when complete. Raises UserError."""
    from data_tools.steps.account import Account
    from proxygrm.rewards.rollouts import Tally

    if not source.is_file():
        exists = source.exists()
        raise UserError(
            f"--input {source} {'is not a file' if exists else 'does not exist'}; give a JSONL of rollouts",
            code="file.not-a-file" if exists else "file.missing",
            path=source,
        )
    if target.is_dir():
        raise UserError(f"--out {target} is a folder; name another file", code="file.not-a-file", path=target)
    if target.exists() and target.samefile(source):
        raise UserError(f"--out {target} is the input; name another file", code="option.out-is-input", path=target)
    log, tally = target.with_name(f"{target.name}.dropped.jsonl"), Tally()
    try:
        with (
            whole_file(target) as scratch,
            Account(log, max_bad) as account,
            writing(target),
            scratch.open("wb") as file,
        ):
            for line in _scored_lines(source, options, account, tally):
                file.write(line)
            if not account.read:
                raise UserError(
                    f"--input {source} has no rows; give a JSONL of rollouts", code="file.empty", path=source
                )
    except OSError as error:
        path = error.filename or target
        raise UserError(
            f"{path}: {error.strerror}; free space or fix the permissions, and run again",
            code="file.cannot-write",
            path=str(path),
        ) from error
    if not account.bad:
        log.unlink()
    return tally, account


def _scored_lines(source: Path, options: ScoreOptions, account: Account, tally: Tally) -> Iterator[bytes]:
    from data_tools.steps.account import RowLocation
    from proxygrm.rewards.rollouts import BadRow, score_row

    for number, line in _lines_with_progress(source):
        account.read += 1
        row: Any = None
        try:
            row = _parsed(line)
            scored = score_row(row, options)
        except BadRow as error:
            row_id = str(row.get("id", "")) if isinstance(row, dict) else ""
            account.exclude(RowLocation(str(source), number), row_id, error.cause, bad=True, detail=str(error))
            _show_bad(source, number, error, sum(account.bad.values()))
            continue
        account.kept += 1
        tally.add(scored)
        yield _line(scored.row)


def _parsed(line: bytes) -> Any:
    import json

    from proxygrm.rewards.rollouts import BadRow

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
        task, done = bar.add_task("score", total=source.stat().st_size), 0
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


def _summary(tally: Tally, account: Account, options: ScoreOptions) -> Table:
    from rich import box
    from rich.table import Table

    compat = ", upstream's parsing" if options.as_upstream else ""
    title = f"aggregation {options.aggregation}" if options.use_proxy else "without a proxy"
    table = Table(title=title + compat, title_justify="left", box=box.SIMPLE, show_header=False)
    table.add_column("")
    table.add_column("", justify="right")
    table.add_column("", overflow="fold")
    bad = f"{sum(account.bad.values()):,} bad{': ' * bool(account.bad)}{_reasons(account.bad)}"
    rewarded = tally.rows - (0 if options.as_upstream else tally.lost)
    lines: list[tuple[str, str, str]] = [
        ("rows scored", f"{tally.rows:,}", f"of {account.read:,} read, {bad}"),
        ("mean score", _mean(tally.score_sum, rewarded), f"over {rewarded:,} rows"),
        ("accuracy", _share(tally.right, tally.rows), "verdict is the label"),
        ("format", _share(tally.well_formed, tally.rows), _reasons(tally.malformed)),
        ("proxy agrees", _share(tally.agrees, tally.judged), f"of {tally.judged:,} judged"),
        ("nothing to judge", f"{tally.nothing_to_judge:,}", "no rubric for the proxy"),
        ("proxy failed" if options.as_upstream else "unscored", f"{tally.lost:,}", _reasons(tally.unscored)),
        ("names the winner", f"{tally.leaks:,}", f"rubrics{', denied' if options.deny_leaks else ''}"),
    ]
    for line in lines:
        if options.use_proxy or line[0] not in ("proxy agrees", "unscored", "proxy failed"):
            table.add_row(*line)
    return table


def _mean(total: float, count: int) -> str:
    return f"{total / count:.3f}" if count else "-"


def _share(part: float, count: int) -> str:
    return f"{part / count:.1%}" if count else "-"


def _reasons(counts: Counter[str]) -> str:
    return ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in counts.most_common())
