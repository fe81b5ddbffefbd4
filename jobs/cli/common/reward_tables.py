"""What `proxygrm reward score` prints at its end."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from data_tools.steps.account import Account
    from proxygrm.rewards import judgement_rows
    from proxygrm.rewards.rollouts import ScoreOptions, Tally


def of_judgements(tally: judgement_rows.Tally, account: Account, as_upstream: bool) -> Table:
    lost = tally.lost.total()
    return _figures(
        "R1-Reward's contract" + (", upstream's reading" if as_upstream else ""),
        [
            _rows_scored(tally.rows, account),
            ("mean score", _mean(tally.score_sum, tally.scored), f"over {tally.scored:,} rows"),
            ("accuracy", _share(tally.right, tally.rows), "verdict is the label"),
            ("format", _share(tally.well_formed, tally.rows), ""),
            ("judged", f"{tally.judged:,}", "right answers with a consistency"),
            ("counted as 0" if as_upstream else "unscored", f"{lost:,}", _reasons(tally.lost)),
            ("with a problem", f"{tally.problems.total():,}", _reasons(tally.problems)),
        ],
    )


def of_critiques(tally: Tally, account: Account, options: ScoreOptions) -> Table:
    compat = ", upstream's parsing" if options.as_upstream else ""
    title = f"aggregation {options.aggregation}" if options.use_proxy else "without a proxy"
    rewarded = tally.rows - (0 if options.as_upstream else tally.lost)
    lines: list[tuple[str, str, str]] = [
        _rows_scored(tally.rows, account),
        ("mean score", _mean(tally.score_sum, rewarded), f"over {rewarded:,} rows"),
        ("accuracy", _share(tally.right, tally.rows), "verdict is the label"),
        ("format", _share(tally.well_formed, tally.rows), _reasons(tally.malformed)),
        ("proxy agrees", _share(tally.agrees, tally.judged), f"of {tally.judged:,} judged"),
        ("nothing to judge", f"{tally.nothing_to_judge:,}", "no rubric for the proxy"),
        ("proxy failed" if options.as_upstream else "unscored", f"{tally.lost:,}", _reasons(tally.unscored)),
        ("names the winner", f"{tally.leaks:,}", f"rubrics{', denied' if options.deny_leaks else ''}"),
    ]
    of_the_proxy = () if options.use_proxy else ("proxy agrees", "unscored", "proxy failed")
    return _figures(title + compat, [line for line in lines if line[0] not in of_the_proxy])


def _rows_scored(rows: int, account: Account) -> tuple[str, str, str]:
    bad = f"{sum(account.bad.values()):,} bad{': ' * bool(account.bad)}{_reasons(account.bad)}"
    return "rows scored", f"{rows:,}", f"of {account.read:,} read, {bad}"


def _figures(title: str, lines: list[tuple[str, str, str]]) -> Table:
    """A name, a figure, and what it is of."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE, show_header=False)
    table.add_column("")
    table.add_column("", justify="right")
    table.add_column("", overflow="fold")
    for line in lines:
        table.add_row(*line)
    return table


def _mean(total: float, count: int) -> str:
    return f"{total / count:.3f}" if count else "-"


def _share(part: float, count: int) -> str:
    return f"{part / count:.1%}" if count else "-"


def _reasons(counts: Counter[str]) -> str:
    return ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in counts.most_common())
