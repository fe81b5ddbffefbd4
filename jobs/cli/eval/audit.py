"""The `audit` of `eval score`: do the figures add up, and which counting do published numbers fit."""

from __future__ import annotations

from typing import Any


def audit_of(bench: Any, answers: Any, figures: dict[str, Any], published: str) -> dict[str, Any]:
    from proxygrm.evaluate.scores.audit import fitting_partitions, fitting_revisions, published_numbers, weighted_check
    from proxygrm.evaluate.scores.score import category_sizes

    audit: dict[str, Any] = {}
    if answers and not bench.partitions[figures["partition"]].stratum:
        audit["weighted"] = weighted_check(figures)
    if published:
        numbers = published_numbers(published, bench)
        audit["published"] = numbers
        audit["partitions"] = fitting_partitions(bench, numbers, category_sizes(answers) if answers else None)
        if "overall" in numbers:
            audit["revisions"] = [
                {"name": revision.name, "rows": revision.rows, "right": right}
                for revision, right in fitting_revisions(bench, numbers["overall"])
            ]
    return audit
