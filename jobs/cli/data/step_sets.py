"""`proxygrm data step-sets SOLUTIONS --out DIR`"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast, get_args

import click

from data_tools.export.step_rows import Auditor, Labels
from jobs.cli.common.options import FiniteRange
from jobs.cli.data.steps import show_step, step_options

_PATH = click.Path(path_type=Path)


@click.command("step-sets", short_help="Write the training sets of process reward.")
@click.argument("solutions", type=_PATH)
@click.option("--out", type=_PATH, required=True, help="The folder to write.")
@click.option("--descriptions", type=_PATH, required=True, help="What `process describe` wrote.")
@click.option("--judgements", type=_PATH, help="What `process judge` wrote.")
@click.option("--contradictions", type=_PATH, help="What `process contradict` wrote; without it there are no pairs.")
@click.option("--audits", type=_PATH, help="What `process audit` wrote.")
@click.option(
    "--labels", type=click.Choice(get_args(Labels)), default="teacher", show_default=True, help="Whose verdicts."
)
@click.option(
    "--auditor",
    type=click.Choice(get_args(Auditor)),
    default="judge",
    show_default=True,
    help="Who learns to audit: the step judge, a separate model, or nobody.",
)
@click.option(
    "--balance", type=FiniteRange(0), default=0.0, show_default=True, help="Frequent verdicts per rare one; 0: all."
)
@click.option("--history", type=click.IntRange(0), default=32, show_default=True, help="Earlier steps; 0: all.")
@click.option("--max-rows", type=click.IntRange(0), default=0, show_default=True, help="Of each set; 0: all.")
@click.option("--validation", type=float, default=0.01, show_default=True, help="Share of images set aside.")
@click.option("--seed", default=0, show_default=True, help="Which rows are left out, and which images set aside.")
@step_options
def step_sets(
    solutions: Path,
    out: Path,
    descriptions: Path,
    judgements: Path | None,
    contradictions: Path | None,
    audits: Path | None,
    labels: str,
    auditor: str,
    balance: float,
    history: int,
    max_rows: int,
    validation: float,
    seed: int,
    shards: int | None,
    shard: str | None,
    workers: int | None,
    max_bad: float,
) -> None:
    """Write the training sets of SOLUTIONS (a folder of `proxygrm data solutions`) for ms-swift: OUT/vision_sft.jsonl,
    vision_dpo.jsonl, step_judge.jsonl and audit.jsonl, each with a NAME_val.jsonl of images that are in none of them.

    The instructions are those of `process score`. OUT/report.json counts the rows, and by cause what was left out;
    OUT/dropped.jsonl lists it.

    \b
    proxygrm data step-sets data/solutions --descriptions data/descriptions --judgements data/judgements \\
        --contradictions data/contradictions --audits data/audits --out data/step-sets
    """
    from data_tools.export.step_rows import StepSetOptions
    from data_tools.export.step_sets import Sources, step_sets_step

    step = step_sets_step(
        Sources(solutions, descriptions, judgements, contradictions, audits),
        out,
        StepSetOptions(cast("Labels", labels), cast("Auditor", auditor), history, balance, max_rows, seed),
        validation=validation,
        max_bad=max_bad,
    )
    show_step(step, report_table, out, "delete report.json there to write it again", shards, shard, workers)


def report_table(report: dict[str, Any]) -> Any:
    """The rows of each set, and what was left out."""
    from rich.table import Table

    from proxygrm.report.numbers import counts_text

    table = Table("set", "rows", "right", "wrong", title="step sets", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, rows in report["rows"].items():
        verdicts = report["verdicts"].get(name, {})
        table.add_row(name, f"{rows:,}", *(f"{verdicts[each]:,}" if each in verdicts else "" for each in ("1", "-1")))
    lost = counts_text(report["bad"] | report["dropped"])
    table.caption = f"{report['kept']:,} of {report['read']:,} solutions used" + (f"; left out: {lost}" if lost else "")
    return table
