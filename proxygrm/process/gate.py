"""The gate: a step that leans on the image counts as far as the image was read reliably."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from proxygrm.core.bad_row import BadRow
from proxygrm.process.aggregate import aggregates
from proxygrm.process.audit import reliability_in
from proxygrm.process.checklist import checklist_of, steps_in
from proxygrm.process.verdict import read_verdict

UNREADABLE_AUDIT = ("keep", "zero", "drop")


def gate(
    raw: Sequence[float | None],
    visual_indices: Collection[int],
    reliability: float | None,
    unreadable_audit: str = "keep",
) -> list[float | None]:
    """raw with every visual step times `reliability`, unless it is -1: an error stays one however well the image was
    read. Other steps, and unreadable verdicts (None), stay as they are.

    unreadable_audit: what a reliability of None does to the steps it would scale: `keep` leaves them, `zero` takes 0,
    `drop` makes them None, so that the solution has no gated score.
    """
    if reliability is None:
        reliability = {"keep": 1.0, "zero": 0.0, "drop": None}[unreadable_audit]
    visual = frozenset(visual_indices)
    return [
        score if score is None or score == -1 or index not in visual
        else None if reliability is None else score * reliability
        for index, score in enumerate(raw)
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gated:
    row: dict[str, Any]
    """The input row with `checklist`, `visual_indices`, `reliability`, `raw`, `final` and `aggregates`."""
    unreadable_verdicts: int
    audit_unreadable: bool
    """The reliability could not be read, or, as upstream, is 0.0 for that reason."""
    no_steps: bool


def gate_row(row: Any, as_upstream: bool = False, unreadable_audit: str = "keep") -> Gated:
    """Gate one row {steps, audit, verdicts} of `process gate`. Raises BadRow."""
    if not isinstance(row, dict):
        raise BadRow("not_an_object", "the line is not a JSON object")
    steps, verdicts = steps_in(row.get("steps")), row.get("verdicts")
    if not isinstance(verdicts, list):
        raise BadRow("no_verdicts", f"verdicts is {type(verdicts).__name__}, it must be a list of the judge's texts")
    if len(verdicts) != len(steps):
        raise BadRow("verdict_count", f"{len(verdicts)} verdicts for {len(steps)} steps; give one for each step")
    audit = row.get("audit")
    if not (audit is None or isinstance(audit, str)):
        raise BadRow("bad_audit", f"audit is {type(audit).__name__}, it must be the auditor's text, or null")
    checklist = checklist_of(steps)
    strict = reliability_in(audit)
    reliability = reliability_in(audit, as_upstream=True) if as_upstream else strict
    raw = [None if verdict is None else float(verdict) for verdict in (read_verdict(v, as_upstream) for v in verdicts)]
    final = gate(raw, checklist.visual_indices, reliability, unreadable_audit)
    added = {
        "checklist": checklist.text,
        "visual_indices": list(checklist.visual_indices),
        "reliability": reliability,
        "raw": raw,
        "final": final,
        "aggregates": {"raw": aggregates(raw), "final": aggregates(final)},
    }
    return Gated(
        row=row | added,
        unreadable_verdicts=sum(read_verdict(v) is None for v in verdicts) if as_upstream else raw.count(None),
        audit_unreadable=strict is None and bool(checklist.items),
        no_steps=not steps,
    )
