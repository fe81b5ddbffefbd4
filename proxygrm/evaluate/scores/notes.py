"""Checked answers of one judge, and what a reader of their figures must know."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from proxygrm.evaluate.benchmarks import Benchmark, Partition, Revision
from proxygrm.evaluate.rows.answers import TruncatedLine
from proxygrm.evaluate.rows.text import rows_text
from proxygrm.evaluate.scores.metrics import Figures
from proxygrm.evaluate.scores.pairs import Arranged

EXPECTED_UNKNOWN = "the expected number of pairs is unknown; pass the pairs with --pairs"


@dataclass(frozen=True)
class Answers:
    """The answers of one judge, read, grouped by pair and checked for completeness."""

    bench: Benchmark
    arranged: Arranged
    revision: Revision | None
    expected: int | None  # pairs that should be present
    partial: bool  # some are missing
    truncated: list[TruncatedLine]
    layouts: tuple[str, ...] = ()
    """Of the files that are another suite's."""
    found: tuple[str, ...] = ()
    """What reading those files has found."""
    rowless: Path | None = None
    """A file made of shares: how many rows are right is known, but not which."""


def notes_on(answers: Answers, counted: Arranged, cut: Partition, figures: Figures) -> list[str]:
    """What a reader of the figures must know, one sentence each. counted: the votes of `answers` that are counted."""
    arranged, bench = answers.arranged, answers.bench
    notes = []
    if answers.partial:
        missing = (answers.expected or 0) - len(arranged.pairs)
        notes.append(
            f"PARTIAL: {len(arranged.pairs):,} of {answers.expected or len(arranged.pairs):,} pairs; "
            "not comparable with any complete score"
        )
        if arranged.uneven:
            notes.append(f"{arranged.uneven:,} pairs have fewer judgements than the others")
        notes += [f"{line.file}: the last line (row {line.row}) is cut off and left out" for line in answers.truncated]
        if missing and (empty := [name for name in cut.names if name not in figures["categories"] and name != "none"]):
            notes.append(f"no pair of {', '.join(empty)}: the macro is the mean of the other categories")
    if answers.expected is None:
        notes.append(EXPECTED_UNKNOWN)
    if answers.revision and not answers.partial and figures["partition"] == "official":
        for name, size in answers.revision.sizes.items():
            count = sum(
                name in (cut.category(pair.facts), bench.splits(pair.facts) if bench.splits else None)
                for pair in arranged.pairs
            )
            if count != size:
                notes.append(f"{name} has {count:,} pairs where the {answers.revision.name} has {size:,}")
    ids = len({pair.facts.id for pair in arranged.pairs})
    if answers.revision and answers.revision.ids and ids > answers.revision.ids:
        notes.append(f"{ids:,} distinct ids where the {answers.revision.name} has {answers.revision.ids:,}")
    if arranged.repeated:
        notes.append(f"{rows_text(arranged.repeated)} repeat other rows word for word and count as rows of their own")
    notes += answers.found
    if not answers.layouts and all(j.swapped is None for pair in arranged.pairs for j in pair.judgements):
        notes.append("the rows have no `reverse`: the better response was always shown first, so position bias counts")
    if cut.macro_with_all:
        notes.append("this partition's macro includes the overall as one more group, as upstream's script does")
    if bench.headline == "macro":
        notes.append(f"papers print the macro, the mean of the {len(cut.names)} groups; overall is of all pairs")
    if guessed := sum(j.guessed for pair in counted.pairs for j in pair.judgements):
        notes.append(f"{guessed:,} verdicts come from critiques without <answer>: the script took a digit in them")
    if bench.acc_plus and arranged.both_orders:
        notes.append("acc+ requires every pair of an id right in both orders, which is harder than in one")
    if blind := sum(j.blind for pair in counted.pairs for j in pair.judgements):
        notes.append(f"{blind:,} judgements were made with a blank image where one was missing")
    recorded = figures["policies"]["recorded"]["overall"]
    wrong = figures["policies"]["wrong"]["overall"]
    if recorded != wrong:
        notes.append(
            f"critiques without any verdict were recorded as verdicts: counted as recorded, overall would be "
            f"{recorded:.2%} instead of {wrong:.2%}"
        )
    return notes
