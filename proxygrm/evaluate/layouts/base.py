"""What a layout of other suites' result files defines, and what reading such a file gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.evaluate.benchmarks import Benchmark
from proxygrm.evaluate.layouts.known_pairs import KnownPairs
from proxygrm.evaluate.rows.answers import Judgement
from proxygrm.evaluate.rows.text import rows_text

Row = dict[str, Any]
_SHOWN = 160


class Unusable(ValueError):
    """Why a row of a foreign file cannot be used."""


@dataclass(frozen=True)
class Document:
    """A result file, parsed: a table, JSON lines or one JSON array are `rows`; one JSON object is `fields`."""

    path: Path
    rows: Sequence[Any] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    numbers: Sequence[int] = ()
    """Of the rows, as an editor counts; from 1 where none are given."""

    @property
    def first(self) -> Any:
        """What the layout is recognised by."""
        return self.rows[0] if self.rows else dict(self.fields)

    @property
    def numbered(self) -> Iterator[tuple[int, Any]]:
        return zip(self.numbers, self.rows, strict=True) if self.numbers else enumerate(self.rows, 1)

    def has(self, *names: str) -> bool:
        """Whether the first row, or the object, has all these fields."""
        return isinstance(self.first, dict) and all(name in self.first for name in names)


@dataclass
class Reading:
    """Judgements of a foreign file, and what its reader must know."""

    judgements: list[Judgement] = field(default_factory=list)
    unusable: dict[str, list[int]] = field(default_factory=dict)
    """Reason -> rows."""
    shown: str = ""
    """The first unusable row."""
    notes: list[str] = field(default_factory=list)
    rowless: bool = False
    """Made from shares: how many rows are right is known, but not which."""

    def refuse(self, number: int, row: Any, reason: str) -> None:
        self.unusable.setdefault(reason, []).append(number)
        self.shown = self.shown or f"row {number:,} is {shown(row)}"

    def note_repeated_ids(self) -> None:
        """Of a layout without texts, by which rows of one id could be told apart."""
        rows: dict[str, list[int]] = {}
        for judgement in self.judgements:
            rows.setdefault(judgement.facts.id, []).append(judgement.row)
        repeats = sorted({row for each in rows.values() for row in each[1:]})
        if repeats:
            self.notes.append(
                f"ids of earlier rows in {rows_text(repeats)}, which count as rows of their own: copies, if the "
                "release has these ids once"
            )


@dataclass(frozen=True)
class Layout:
    name: str
    title: str
    bench: str
    certain: str
    """What is known of it, and from where."""
    recognises: Callable[[Document], bool]
    read: Callable[[Document, Benchmark, int, KnownPairs], Reading]
    """The document, the benchmark, the number of the file among the samples, and the pairs of --pairs."""
    write: Callable[[Path, Sequence[Row]], None]
    """Own judgement rows, one per pair, into a file."""
    order: Callable[[Row], bool]
    """Where both orders were judged: whether the row has the order that the other suite would have shown."""
    suffixes: tuple[str, ...] = ()
    """Of a file to write; any where there are none."""


def shown(row: Any) -> str:
    """The start of a row, on one line."""
    text = json.dumps(row, ensure_ascii=False, default=str) if not isinstance(row, str) else row
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def needs_pairs(path: Path, title: str, why: str) -> UserError:
    return UserError(
        f"{path} is of {title}, and {why}: pass the pairs with --pairs (`proxygrm data ingest BENCHMARK RELEASE --out "
        "PAIRS` makes them)",
        code="eval.layout-needs-pairs",
        path=path,
        layout=title,
    )
