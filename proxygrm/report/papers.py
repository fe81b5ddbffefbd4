"""The papers' table: every model on every benchmark with its interval, and published rows beside it, marked where they
are not comparable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from proxygrm.evaluate.benchmarks import BENCHMARKS, Benchmark, Revision
from proxygrm.evaluate.benchmarks.anchors import (
    ANCHORS,
    Anchor,
    Comparability,
    comparability,
    published_partitions,
    right_of,
)
from proxygrm.report.numbers import NONE, between, number, per_cent

MARKS = {"yes": "=", "nearly": "≈", "no": "≠"}
LEGEND = "≈ comparable except for how it was counted; ≠ not comparable, for the reason of that number."
MAIN = "Benchmarks"
TITLES = {"overall": "overall", "macro": "macro", "acc_plus": "acc+"}

Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    text: str
    interval: str = ""
    mark: str = ""
    note: int = 0
    """Number of the reason why it is not comparable; 0 for none."""


@dataclass(frozen=True)
class Row:
    title: str
    cells: list[Cell]
    source: str = ""
    counted: str = ""
    """Of a published row: where it is printed, and how it was counted."""


@dataclass(frozen=True)
class Table:
    title: str
    columns: list[tuple[str, str]]
    """(title, size or kind) of each."""
    ours: list[Row]
    published: list[Row]


@dataclass
class Papers:
    """main: the headline figures of all benchmarks; details: one benchmark each, with its categories."""

    main: Table
    details: list[Table]
    notes: list[str] = field(default_factory=list)
    """Reasons why published figures are not comparable, numbered from 1."""


def papers(scores: Mapping[str, Mapping[str, Figures]], titles: Mapping[str, str]) -> Papers | None:
    """scores: {benchmark: {model: figures of `eval score`}}; titles: of models. None without any score."""
    benches = [bench for name, bench in BENCHMARKS.items() if any(map(_is_scored, scores.get(name, {}).values()))]
    if not benches:
        return None
    made = Papers(Table("", [], [], []), [])
    headline = [(bench, [bench.headline, *(["acc_plus"] if bench.acc_plus else [])]) for bench in benches]
    made.main = _table(MAIN, headline, scores, titles, made.notes)
    made.details = [
        table
        for bench in benches
        for table in (
            _table(bench.title, [(bench, _figures_of(bench, scores[bench.name]))], scores, titles, made.notes),
            *_as_published(bench, scores[bench.name], titles, made.notes),
        )
    ]
    return made


def _as_published(
    bench: Benchmark, models: Mapping[str, Figures], titles: Mapping[str, str], notes: list[str]
) -> list[Table]:
    """Ours and the published rows by each partition that is not the official one and that some of them really used."""
    tables = []
    for name in published_partitions(bench.name):
        cut = bench.partitions[name]
        anchors = [anchor for anchor in ANCHORS if anchor.partitions.get(bench.name) == name]
        undoubted = [replace(anchor, doubts={**anchor.doubts, bench.name: {}}) for anchor in anchors]
        recounted = {
            model: {**figures, **figures["as_published"][name], "macro_interval": None}
            for model, figures in models.items()
            if _is_scored(figures) and name in figures.get("as_published", {})
        }
        if recounted:
            sizes = "/".join(str(size) for size in cut.sizes.values())
            title = f"{bench.title} ({sizes}, as {' and '.join(anchor.name for anchor in anchors)} counted)"
            columns = [(bench, ["overall", "macro", *cut.names])]
            tables.append(_table(title, columns, {bench.name: recounted}, titles, notes, undoubted, cut.sizes))
    return tables


def _is_scored(figures: Any) -> bool:
    return isinstance(figures, Mapping) and number(figures.get("rows")) is not None


def _figures_of(bench: Benchmark, models: Mapping[str, Figures]) -> list[str]:
    """Names of the figures of one benchmark, its categories last."""
    found = [name for figures in models.values() if _is_scored(figures) for name in _categories(figures)]
    order = [name for name in bench.partitions["official"].names if name in found]
    names = dict.fromkeys([*order, *found])
    return ["overall", "macro", *(["acc_plus"] if bench.acc_plus else []), *names]


def _categories(figures: Figures) -> Mapping[str, Any]:
    categories = figures.get("categories")
    return categories if isinstance(categories, Mapping) else {}


def _table(
    title: str,
    wanted: Sequence[tuple[Benchmark, Sequence[str]]],
    scores: Mapping[str, Mapping[str, Figures]],
    titles: Mapping[str, str],
    notes: list[str],
    anchors: Sequence[Anchor] = ANCHORS,
    sizes: Mapping[str, int] | None = None,
) -> Table:
    """wanted: the figures to show of each benchmark. anchors: the published rows. sizes: of the categories, where they
    are not a revision's own."""
    columns = [(bench, name) for bench, names in wanted for name in names]
    single = title != MAIN
    models = [model for model in titles if any(model in scores[bench.name] for bench, _ in wanted)]
    models += [model for bench, _ in wanted for model in scores[bench.name]]

    def heading(bench: Benchmark, name: str) -> tuple[str, str]:
        return TITLES.get(name, name) if single else bench.title, _about(bench, name, scores, single)

    def own(model: str) -> Row:
        cells = [_own(scores[bench.name].get(model), name) for bench, name in columns]
        return Row(titles.get(model, model), cells)

    def printed(anchor: Anchor) -> Row:
        cells = [_printed(anchor, bench, name, scores[bench.name], notes, sizes) for bench, name in columns]
        return Row(anchor.name, cells, anchor.source, anchor.counted)

    known = [anchor for anchor in anchors if any(name in anchor.figures.get(b.name, {}) for b, name in columns)]
    headings = [heading(bench, name) for bench, name in columns]
    return Table(title, headings, [own(model) for model in dict.fromkeys(models)], [printed(one) for one in known])


def _about(bench: Benchmark, name: str, scores: Mapping[str, Mapping[str, Figures]], single: bool) -> str:
    """Pairs judged of those expected; in the table of all benchmarks the kind of figure too."""
    sizes = size_texts(list(filter(_is_scored, scores[bench.name].values())))
    kind = [] if single or name == "overall" else [TITLES[name]]
    return ", ".join([*kind, *([] if single and name != "overall" else sizes)])


def size_texts(models: Sequence[Figures]) -> list[str]:
    """`1,250 pairs`, `PARTIAL: 40 of 1,250`, each once, and whether only one order of the responses was judged."""
    one_order: dict[str, set[bool]] = {}
    for figures in models:
        rows, expected = int(figures["rows"]), number(figures.get("expected"))
        of_all = f" of {int(expected):,}" if expected is not None else ""
        size = f"PARTIAL: {rows:,}{of_all}" if figures.get("partial") else f"{rows:,} pairs"
        one_order.setdefault(size, set()).add(figures.get("orders") == 1)
    return [
        f"{size}, one order{' or both' if False in orders else ''}" if True in orders else size
        for size, orders in one_order.items()
    ]


def _own(figures: Any, name: str) -> Cell:
    if not _is_scored(figures):
        return Cell(NONE)
    if name in TITLES:
        low, high = figures.get(f"{name}_interval") or (None, None)
        value = figures.get(name)
    else:
        category = _categories(figures).get(name) or {}
        value, low, high = (category.get(key) for key in ("accuracy", "low", "high"))
    value = number(value)
    return Cell(NONE) if value is None else Cell(per_cent(value), between(low, high, "–"))


def _printed(
    anchor: Anchor,
    bench: Benchmark,
    name: str,
    models: Mapping[str, Figures],
    notes: list[str],
    sizes: Mapping[str, int] | None = None,
) -> Cell:
    value = anchor.figures.get(bench.name, {}).get(name)
    if value is None:
        return Cell(NONE)
    judged = next(figures for figures in models.values() if _is_scored(figures))
    comparable, reason = _comparability(anchor, bench, name, judged, sizes)
    if comparable != "no":
        return Cell(value, mark=MARKS[comparable])
    text = f"{bench.title}: {reason}"
    if text not in notes:
        notes.append(text)
    return Cell(value, mark=MARKS[comparable], note=notes.index(text) + 1)


def _comparability(
    anchor: Anchor, bench: Benchmark, name: str, figures: Figures, sizes: Mapping[str, int] | None = None
) -> Comparability:
    """As of the overall; a category, the macro or acc+ may have a doubt or an impossible fraction of its own."""
    rows, expected = int(figures["rows"]), number(figures.get("expected"))
    revision = next((r for r in bench.revisions if r.name == figures.get("revision")), None)
    missing_from = int(expected or rows) if figures.get("partial") else None
    found = comparability(anchor, bench, rows, revision, missing_from)
    if name == "overall" or found.comparable == "no":
        return found
    if doubt := anchor.doubts.get(bench.name, {}).get(name):
        return Comparability("no", doubt)
    size = (sizes or {}).get(name) or _size_of(revision, name)
    value = anchor.figures[bench.name][name]
    if size and right_of(value, size) is None:
        return Comparability("no", f"{value} is not possible with {size:,} {'ids' if name == 'acc_plus' else 'pairs'}")
    return found


def _size_of(revision: Revision | None, name: str) -> int | None:
    if revision is None:
        return None
    return revision.ids if name == "acc_plus" else revision.sizes.get(name)
