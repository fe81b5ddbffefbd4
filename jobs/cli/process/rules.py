"""`proxygrm process gate` and `proxygrm process aggregate`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click

from jobs.cli.common.options import refuse_idle
from jobs.cli.common.row_command import MAX_BAD, write_rows
from jobs.cli.process.options import COMPAT, INPUT, OUTPUT, say_rows


@click.command("gate", short_help="Judge's and auditor's texts (JSONL) -> gated scores.")
@INPUT
@OUTPUT
@COMPAT
@click.option(
    "--unreadable-audit",
    type=click.Choice(["keep", "zero", "drop"]),
    default="keep",
    show_default=True,
    help="Steps whose audit cannot be read: as judged, 0, or null.",
)
@MAX_BAD
def gate_command(source: Path, target: Path, compat: str | None, unreadable_audit: str, max_bad: float) -> None:
    """Read the auditor's and the judge's texts of every solution, and gate its steps.

    \b
    In:  {"id": 1, "steps": [{"steptext": "AB is 3.", "visualdependency": "AB = 3"}, ...],
          "audit": "{\\"p_score\\": 0.8, ...}", "verdicts": ["1", ...]}         one verdict for each step
    Out: the row with checklist (the distinct dependencies), visual_indices (from 0), reliability (0 to 1),
         raw (1 | -1), final (gated) and aggregates {"raw": {NAME: x}, "final": {NAME: x}}

    A step that leans on the image and is right (1) becomes the reliability; an error stays -1, and so does every step
    that leans on nothing visual.

    A verdict that is not 1 or -1 is null and makes the aggregates null. An audit without a p_score from 0 to 1 has the
    reliability null; --unreadable-audit says what that does. --compat upstream reads as the released code: each verdict
    is 1 or -1 and an unreadable audit is 0.0; the last line still counts both.

    Rows that are not solutions are left out, counted by cause, and listed in OUT.dropped.jsonl.
    """
    from proxygrm.process.gate import gate_row

    refuse_idle("unreadable_audit", "with --compat upstream: such an audit is 0.0", unless=compat is None)
    counts: Counter[str] = Counter()

    def convert(row: Any) -> dict[str, Any]:
        gated = gate_row(row, compat == "upstream", unreadable_audit)
        counts["verdicts"] += gated.unreadable_verdicts
        counts["audits"] += gated.audit_unreadable
        counts["empty"] += gated.no_steps
        return gated.row

    account = write_rows(source, target, convert, max_bad, "solutions")
    say_rows(
        account,
        target,
        (counts["verdicts"], "unreadable verdicts"),
        (counts["audits"], "unreadable audits"),
        (counts["empty"], "without steps"),
    )


@click.command("aggregate", short_help="Scores of steps (JSONL) -> one score of the solution, in eight ways.")
@INPUT
@OUTPUT
@MAX_BAD
def aggregate_command(source: Path, target: Path, max_bad: float) -> None:
    """Sum up the scores of a solution's steps.

    \b
    In:  {"scores": [1, 0.8, -1], ...}        from -1 to 1; null, an unknown score, makes every aggregate null
    Out: the row with
         correctness_rate       share of steps that are exactly 1
         weighted_correctness   (sum of i x score + W) / 2 W, W = n (n + 1) / 2: later steps weigh more
         streak_score           a right step earns the length of its streak, any other one costs 1; scaled to 0..1
         geometric_mean         of 1 for a right step and 0.1 for any other one
         first_error_position   steps before the first -1, as a share; 1 without an error
         minimum, product, mean of (score + 1) / 2

    No steps: all are 0. Rows without scores are left out, counted by cause, and listed in OUT.dropped.jsonl.
    """
    from proxygrm.process.aggregate import aggregated_row

    say_rows(write_rows(source, target, aggregated_row, max_bad, "scores"), target)
