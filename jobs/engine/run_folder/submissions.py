"""Rows of submissions.json: a stage's last job, what it was sent with, and its earlier jobs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def all_jobs(row: Mapping[str, Any]) -> list[str]:
    """The jobs of one stage, the last one at the end."""
    return [*row.get("earlier", []), row["job_id"]]


def orders_of(row: Mapping[str, Any]) -> dict[str, float]:
    """Job -> its place among the stage's jobs. Records of an earlier version only have the times of first and last."""
    first = row.get("first", row["submitted"])
    return {**dict.fromkeys(row.get("earlier", []), first), row["job_id"]: row["submitted"], **row.get("order", {})}


def submission_row(before: Mapping[str, Any] | None, job_id: str, fingerprint: str, sent: float) -> dict[str, Any]:
    orders = {job: order for job, order in (orders_of(before) if before else {}).items() if job != job_id}
    return {
        "job_id": job_id,
        "fingerprint": fingerprint,
        "submitted": sent,
        # For logs and cost: the stage's earlier jobs.
        "earlier": [job for job in all_jobs(before) if job != job_id] if before else [],
        "first": min(before.get("first", before["submitted"]), sent) if before else sent,
        # Which of them is the newest, independent of clocks.
        "order": {**orders, job_id: max([sent, *(order + 0.001 for order in orders.values())])},
    }
