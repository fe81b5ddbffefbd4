"""Published results to compare with (`published.toml`), and what is known about how they were counted."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from proxygrm.evaluate.benchmarks.base import Benchmark, Revision

FILE = Path(__file__).with_name("published.toml")


@dataclass(frozen=True)
class Anchor:
    name: str
    source: str
    """Where it is printed."""
    counted: str
    """What is known of order and parse failures."""
    figures: Mapping[str, Mapping[str, str]]
    """benchmark -> figure -> per cent, as printed: the decimals give the rounding."""
    doubts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """benchmark -> figure -> why it cannot be compared whatever the rows are."""
    partitions: Mapping[str, str] = field(default_factory=dict)
    """benchmark -> the partition by which its categories were counted, where it is not the official one."""

    @cached_property
    def values(self) -> dict[str, str]:
        """The overall of each benchmark that it has."""
        return {bench: figures["overall"] for bench, figures in self.figures.items() if "overall" in figures}


class Comparability(NamedTuple):
    """comparable: yes, nearly, no. reason: the one that decides."""

    comparable: str
    reason: str


def _read(file: Path) -> tuple[Anchor, ...]:
    anchors = []
    for row in tomllib.loads(file.read_text(encoding="utf-8"))["published"]:
        benches: dict[str, dict[str, Any]] = {name: value for name, value in row.items() if isinstance(value, dict)}
        doubts = {
            name: dict.fromkeys(found["of"], found["why"])
            for name, table in benches.items()
            if (found := table.pop("doubts", None))
        }
        cuts = {name: cut for name, table in benches.items() if (cut := table.pop("partition", None))}
        anchors.append(Anchor(row["name"], row["source"], row["counted"], benches, doubts, cuts))
    return tuple(anchors)


ANCHORS = _read(FILE)


def published_partitions(bench: str) -> list[str]:
    """Those by which categories of a benchmark are published, but for the official one."""
    return list(dict.fromkeys(anchor.partitions[bench] for anchor in ANCHORS if bench in anchor.partitions))


def comparability(
    anchor: Anchor, bench: Benchmark, rows: int, revision: Revision | None, missing_from: int | None = None
) -> Comparability:
    """Whether a published overall can be compared with one counted over so many rows. revision: the one that these are
    all of, if any. missing_from: where some are missing, how many there should be.

    The number of rows it was counted over follows from its decimals: 75.22 % is not possible with 1,250 rows, but is
    938 of 1,247. None is fully comparable, because they were counted in one random order.
    """
    value = anchor.values.get(bench.name, "")
    possible = [r for r in bench.revisions if value and right_of(value, r.rows) is not None]
    counts = " or ".join(f"{right_of(value, r.rows):,.0f}/{r.rows:,}" for r in possible)
    if missing_from is not None:
        return Comparability("no", f"your file is partial: {rows:,} of {missing_from:,} pairs")
    if revision is None:
        return Comparability("no", f"yours are {rows:,} pairs of your own choice")
    if doubt := anchor.doubts.get(bench.name, {}).get("overall"):
        return Comparability("no", doubt)
    if not value:
        return Comparability("no", "its overall is not known, so neither are the rows it was counted over")
    if not possible:
        return Comparability("no", f"{value} is not possible with {bench.sizes} rows: a macro, a mean, or other rows")
    if revision not in possible:
        return Comparability("no", f"{value} is {counts}, yours are {rows:,} rows")
    return Comparability("nearly", f"{value} is {counts}")


def decimals(value: str) -> int:
    return len(value.partition(".")[2])


def right_of(value: str, rows: int, *, halves: bool = False) -> float | None:
    """How many of `rows` are right if `value` per cent of them are; None when no count gives that value.

    halves: rows may count half (two orders, or the expectation of a coin flip). A trailing zero may be padding, so the
    value is also read with one decimal less.
    """
    for text in (value, value[:-1]) if value.endswith("0") and "." in value else (value,):
        step, tolerance = (2 if halves else 1), 0.5 * 10 ** -decimals(text) + 1e-9
        nearest = round(float(text) / 100 * rows * step) / step
        if abs(nearest / rows * 100 - float(text)) <= tolerance:
            return nearest
    return None
