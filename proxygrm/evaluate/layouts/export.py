"""This suite's judgement rows, written in the layout of another suite's result files: one judgement per pair."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import numbered_lines, value_of
from proxygrm.core.files.whole_file import whole_file
from proxygrm.evaluate.layouts.base import Layout, Row
from proxygrm.evaluate.rows.text import rows_text

_TEXTS = ("question", "response_1", "response_2")


def export(answers: Path, layout: Layout, out: Path, sample: int = 0) -> dict[str, int]:
    """Write `out` and return {written, other_orders, other_samples}: judgements written, and left out because the
    layout has one judgement a pair.

    answers: checked by `scores.score.read` before. Of both orders, the one is written that the other suite would have
    shown. UserError for rows that do not hold what the layout needs, and for a sample that does not exist.
    """
    if layout.suffixes and out.suffix.lower() not in layout.suffixes:
        raise UserError(
            f"{out} cannot be a file of {layout.title}; name it {' or '.join(layout.suffixes)}",
            code="eval.export-suffix",
            path=out,
            suffixes=list(layout.suffixes),
        )
    rows = _own_rows(answers)
    of_sample = [row for row in rows if (row.get("sample") or 0) == sample]
    if not of_sample:
        samples = sorted({row.get("sample") or 0 for row in rows})
        raise UserError(
            f"{answers} has no sample {sample}; it has {', '.join(map(str, samples))}",
            code="eval.no-such-sample",
            sample=sample,
            samples=samples,
        )
    by_pair: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in of_sample:
        by_pair[str(row["id"]), row.get("copy") or 0].append(row)
    chosen = [next((row for row in both if layout.order(row)), both[0]) for both in by_pair.values()]
    with whole_file(out) as scratch:
        named = scratch.with_name(f"{scratch.name}{out.suffix}")  # the suffix decides on the kind of table
        try:
            layout.write(named, chosen)
            named.rename(scratch)
        finally:
            named.unlink(missing_ok=True)
    return {
        "written": len(chosen),
        "other_orders": len(of_sample) - len(chosen),
        "other_samples": len(rows) - len(of_sample),
    }


def _own_rows(path: Path) -> list[Row]:
    rows, without = [], []
    for number, line in numbered_lines(path):
        row = value_of(line)
        if set(row) == {"made_by"}:
            continue
        rows.append(row)
        if "verdict" not in row or "label" not in row or any(not isinstance(row.get(name), str) for name in _TEXTS):
            without.append(number)
    if without:
        raise UserError(
            f"{path}: no judgement with its texts in {rows_text(without)}; only answers of `eval run` can be exported "
            f"({', '.join(_TEXTS)}, label, verdict)",
            code="eval.not-exportable",
            path=path,
            rows=without,
        )
    return rows
