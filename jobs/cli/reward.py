"""`proxygrm reward ...`: score a file of rollouts, and print the table the scores come from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.cli.common import reward_tables
from jobs.cli.common.options import Renamed, refuse_idle
from jobs.cli.common.row_command import MAX_BAD, write_rows
from jobs.cli.common.say import echo
from proxygrm.core.errors import UserError

if TYPE_CHECKING:
    from data_tools.steps.account import Account
    from proxygrm.rewards import judgement_rows
    from proxygrm.rewards.rollouts import ScoreOptions, Tally

_FILE = click.Path(path_type=Path)


@click.group()
def reward() -> None:
    """The reward of a rollout: accuracy, proxy agreement and format combined."""


@reward.command("score", short_help="Rollouts (JSONL) -> the same rows with their reward.")
@click.option("--input", "source", type=_FILE, required=True, help="JSONL of rollouts.")
@click.option("--out", "--output", "target", cls=Renamed, type=_FILE, required=True, help="JSONL to write.")
@click.option(
    "--contract",
    type=click.Choice(["proxy", "r1"]),
    default="proxy",
    show_default=True,
    help="What the rows are: Proxy-GRM's critiques, or R1-Reward's judgements.",
)
@click.option("--aggregation", default="sum", show_default=True, help="A name or 0..10; see `proxygrm reward table`.")
@click.option("--compat", type=click.Choice(["upstream"]), help="Read and score as the authors' own code does.")
@click.option("--no-proxy", is_flag=True, help="score = accuracy + 0.5 x format; proxy_reward may be missing.")
@click.option("--deny-leaks", is_flag=True, help="A rubric that names the winner earns nothing from the proxy.")
@MAX_BAD
def score_command(
    source: Path,
    target: Path,
    contract: str,
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

    
    --contract r1, for "<think>...</think><answer>1</answer>":
    In:  {"response": "...", "ground_truth": 1, "consistency": 1, ...}
         ground_truth as above, or a list of which any will do; consistency: the number for the formula,
         accuracy x (1 + 0.5 x consistency) + 0.5 x format, or null
    Out: the row with accuracy and format (0 | 1), score, judge_excerpt and judge_answer_phrase (what a consistency
         judge is shown), and reason. A right answer with consistency null is unscored; --compat upstream takes 0

    Rows that are not rollouts are left out, counted by cause, and listed in OUT.dropped.jsonl.
    """
    from jobs.cli.common.console import out as console

    if contract == "r1":
        why = "with --contract r1: its score is accuracy x (1 + 0.5 x consistency) + 0.5 x format"
        refuse_idle("aggregation no_proxy deny_leaks", why)
        judgements, account = score_judgements(source, target, compat == "upstream", max_bad)
        console.print(reward_tables.of_judgements(judgements, account, compat == "upstream"))
        return
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
    console.print(reward_tables.of_critiques(tally, account, options))
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
    """Score `source` into `target`, row by row. Raises UserError."""
    from proxygrm.rewards.rollouts import Tally, score_row

    tally = Tally()

    def score(row: Any) -> dict[str, Any]:
        tally.add(scored := score_row(row, options))
        return scored.row

    return tally, write_rows(source, target, score, max_bad, "rollouts")


def score_judgements(
    source: Path, target: Path, as_upstream: bool, max_bad: float
) -> tuple[judgement_rows.Tally, Account]:
    """The same by R1-Reward's contract."""
    from proxygrm.rewards.judgement_rows import Tally, score_row

    tally = Tally()

    def score(row: Any) -> dict[str, Any]:
        tally.add(scored := score_row(row, as_upstream))
        return scored.row

    return tally, write_rows(source, target, score, max_bad, "rollouts")
