"""The figures of `eval score` and `eval compare` arranged for a page: bars, tables, published results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from proxygrm.core.errors import UserError
from proxygrm.evaluate.benchmarks import benchmark
from proxygrm.evaluate.benchmarks.anchors import right_of
from proxygrm.evaluate.scores.compare import ORDERS_DIFFER, beside_anchors, compare_pairs, mcnemar_cells
from proxygrm.evaluate.scores.metrics import Figures
from proxygrm.evaluate.scores.notes import Answers
from proxygrm.evaluate.scores.score import score
from proxygrm.report.numbers import NONE, between, points, share_text

MARKS = {"yes": "=", "nearly": "≈", "no": "≠"}


@dataclass(frozen=True)
class Bar:
    """A share between 0 and 1 with its 95 % interval; `run` is the index of its run, None for a published number."""

    label: str
    share: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    run: int | None = 0
    mark: str = ""

    @property
    def value(self) -> str:
        return NONE if self.share is None else f"{100 * self.share:.1f}"

    @property
    def interval(self) -> str:
        return between(self.low, self.high, " – ")


@dataclass(frozen=True)
class View:
    """Everything that the page shows of one benchmark; `figures` are those of `eval score`, by run."""

    title: str
    settings: str
    runs: list[str]
    groups: list[tuple[str, list[Bar]]]
    facts: list[tuple[str, str, list[str]]]  # (measure, what it means, one value per run)
    policies: list[tuple[str, list[str]]]
    against: list[list[str]]
    compared: str  # the figure whose differences `against` has
    anchors: list[dict[str, str]]
    anchor_note: str
    notes: list[tuple[str, str]]  # (run, note)
    figures: Mapping[str, Figures] = field(default_factory=dict)


def build_view(
    runs: Mapping[str, Answers], partition: str = "official", policy: str = "wrong", common: bool = False
) -> View:
    """runs: {name: answers} of one benchmark, the first one is the baseline. UserError as in `score`.

    Runs on different pairs are shown side by side, with a note that they cannot be compared pair by pair.
    """
    figures = {name: score(answers, partition, policy) for name, answers in runs.items()}
    bench = benchmark(next(iter(figures.values()))["bench"])
    notes = _notes(figures)
    against: list[Figures] = []
    if len(runs) > 1:
        try:
            against = compare_pairs(runs, _comparisons(list(runs)), policy, common, partition)
        except UserError as error:
            notes.append(("pair by pair", str(error)))
    anchors, anchor_note = _anchors(runs, policy)
    about = bench.partitions[partition].about
    return View(
        title=bench.title,
        settings=f"partition {partition}: {about}; unparsed verdicts and ties: {_rule(policy, bench.official_about)}",
        runs=list(figures),
        groups=_groups(figures, anchors),
        facts=_facts(figures),
        policies=_policies(figures, bench.official_about),
        against=[_against(row) for row in against],
        compared=bench.headline,
        anchors=anchors,
        anchor_note=anchor_note,
        notes=notes,
        figures=figures,
    )


def _comparisons(names: Sequence[str]) -> list[tuple[str, str]]:
    """(baseline, run): each run against the first; of three runs also the last against the second, because what a
    second training adds to the first is not what both add to the start."""
    last_step = [(names[1], names[2])] if len(names) == 3 else []
    return [*((names[0], name) for name in names[1:]), *last_step]


def _notes(figures: Mapping[str, Figures]) -> list[tuple[str, str]]:
    """(run, note); a note on all runs appears once, without a name."""
    runs_of: dict[str, list[str]] = {}
    for name, f in figures.items():
        for note in f["notes"]:
            runs_of.setdefault(note, []).append(name)
    return [("" if len(names) == len(figures) else ", ".join(names), note) for note, names in runs_of.items()]


def _rule(policy: str, official: str) -> str:
    return {
        "wrong": "not right",
        "drop": "left out",
        "official": f"as the official script ({official})",
        "recorded": "by the numbers in the file",
    }[policy]


def _groups(figures: Mapping[str, Figures], anchors: Sequence[Mapping[str, str]]) -> list[tuple[str, list[Bar]]]:
    """Measures and their bars; the bars are labelled by measure with one run, by run with several."""
    first = next(iter(figures.values()))
    measures: list[tuple[str, Callable[[Figures, str, int], Bar]]] = [
        ("Overall", lambda f, label, run: _bar(label, run, f["overall"], f["overall_interval"], f["n"])),
        ("Macro", lambda f, label, run: _bar(label, run, f["macro"], f["macro_interval"])),
    ]
    if "acc_plus" in first:
        measures.append(
            ("acc+", lambda f, label, run: _bar(label, run, f["acc_plus"], f["acc_plus_interval"], f["acc_plus_ids"]))
        )
    names = list(dict.fromkeys(name for f in figures.values() for name in f["categories"]))
    if len(names) > 1:
        measures += [(name, _category(name)) for name in names]
    views = _views(figures)
    published = [
        Bar(anchor["name"], float(anchor["per_cent"]) / 100, run=None, mark=anchor["mark"]) for anchor in anchors
    ]
    votes = _votes(figures)
    if len(figures) == 1:
        groups = [("", [bar(first, title, 0) for title, bar in measures])]
        return [*groups, *views, *votes, *([("Published, overall", published)] if published else [])]
    groups = [(title, [bar(f, name, run) for run, (name, f) in enumerate(figures.items())]) for title, bar in measures]
    groups[0][1].extend(published)
    return groups + views + votes


def _views(figures: Mapping[str, Figures]) -> list[tuple[str, list[Bar]]]:
    """The other partitions that the benchmark is read by: a group each with one run, one for each category with
    several."""
    groups: dict[str, list[Bar]] = {}
    for run, (name, f) in enumerate(figures.items()):
        for view, shares in f.get("views", {}).items():
            for category, share in shares.items():
                title, label = (view, category) if len(figures) == 1 else (f"{view}: {category}", name)
                bar = Bar(label, share["accuracy"], share["low"], share["high"], share["n"], run)
                groups.setdefault(title.capitalize(), []).append(bar)
    return list(groups.items())


def _votes(figures: Mapping[str, Figures]) -> list[tuple[str, list[Bar]]]:
    """The curves over the number of votes, where there are several."""
    return [
        (
            title,
            [
                Bar(f"K = {k}" if len(figures) == 1 else f"{name}, K = {k}", share=of_k[key], n=of_k["n"], run=run)
                for run, (name, f) in enumerate(figures.items())
                for k, of_k in f.get("votes", {}).items()
            ],
        )
        for title, key in (("Majority of K votes", "overall"), ("Any of K votes right", "any"))
        if any("votes" in f for f in figures.values())
    ]


def _bar(label: str, run: int, share: float | None, interval: Sequence[float] | None, n: int | None = None) -> Bar:
    low, high = interval or (None, None)
    return Bar(label, share, low, high, n, run)


def _category(name: str) -> Callable[[Figures, str, int], Bar]:
    def bar(figures: Figures, label: str, run: int) -> Bar:
        category = figures["categories"].get(name)
        if category is None:
            return Bar(label, None, run=run)
        return Bar(label, category["accuracy"], category["low"], category["high"], category["n"], run)

    return bar


def _facts(figures: Mapping[str, Figures]) -> list[tuple[str, str, list[str]]]:
    def line(title: str, about: str, text: Callable[[Figures], str]) -> tuple[str, str, list[str]]:
        return title, about, [text(f) for f in figures.values()]

    def position(name: str) -> Callable[[Figures], str]:
        return lambda f: share_text(f["position"][name])

    return [
        line("Pairs", "judged, of those expected", _size),
        line("Orders", "in which each pair was shown", lambda f: "both" if f["orders"] == 2 else "one"),
        line("Judgements", "orders and votes counted", lambda f: f"{f['judgements']:,}"),
        line("Unparsed", "judgements without a readable verdict", lambda f: _count(f, "unparsed")),
        line("Ties", "judgements for neither response", lambda f: _count(f, "ties")),
        *([
            line("Tied votes", "pairs in an order with as many clear votes for one response as for the other",
                 lambda f: _ballots(f, "tied")),
            line("No vote", "pairs in an order without a clear vote", lambda f: _ballots(f, "no_verdict")),
        ] if any("ballots" in f for f in figures.values()) else []),
        line("Order consistency", "of pairs with clear verdicts in both orders: the same response chosen",
             position("consistency")),
        line("Right in all", "pairs right in every judgement", position("right_in_all")),
        line("Says 1", "verdicts for the response shown first", _says_1),
        line("Position bias", "says 1 minus how often the better response was first; 0 is none", _bias),
        line("Better first", "right verdicts when the better response was shown first",
             position("accuracy_better_first")),
        line("Better second", "right verdicts when it was shown second", position("accuracy_better_second")),
    ]  # fmt: skip


def _size(figures: Figures) -> str:
    expected = f" of {figures['expected']:,}" if figures["expected"] is not None else ""
    revision = f", {figures['revision']}" if figures["revision"] else ""
    return f"{figures['rows']:,}{expected}{revision}{', PARTIAL' if figures['partial'] else ''}"


def _count(figures: Figures, name: str) -> str:
    return f"{figures[name]:,} ({share_text(figures[f'{name}_share'])})"


def _ballots(figures: Figures, name: str) -> str:
    ballots = figures.get("ballots")
    return f"{ballots[name]:,} of {ballots['ballots']:,}" if ballots else NONE


def _says_1(figures: Figures) -> str:
    position = figures["position"]
    if position["says_1"] is None:
        return NONE
    return f"{share_text(position['says_1'])} ({between(position['says_1_low'], position['says_1_high'], ' – ')})"


def _bias(figures: Figures) -> str:
    bias = figures["position_bias"]
    return NONE if bias is None else f"{points(bias)} points"


def _policies(figures: Mapping[str, Figures], official: str) -> list[tuple[str, list[str]]]:
    first = next(iter(figures.values()))
    return [
        (
            f"{name}: {_rule(name, official)}",
            [
                f"{share_text(p['overall'])} · macro {share_text(p['macro'])} · n {p['n']:,}"
                for p in (f["policies"][name] for f in figures.values())
            ],
        )
        for name in first["policies"]
    ]


def _against(row: Figures) -> list[str]:
    return [
        f"{row['run']} ({ORDERS_DIFFER})" if row["orders_differ"] else str(row["run"]),
        str(row["baseline"]),
        f"{row['pairs']:,}",
        points(row["difference"], 2),
        f"{points(row['low'], 2)} to {points(row['high'], 2)}",
        *mcnemar_cells(row),
    ]


def _anchors(runs: Mapping[str, Answers], policy: str) -> tuple[list[dict[str, str]], str]:
    """Published numbers compared with the first run: what is the same, what differs, and what is unknown."""
    (name, answers), *others = runs.items()
    bench, rows = answers.bench, len(answers.arranged.pairs)
    anchors, yes_no = [], {True: "yes", False: "no"}
    for anchor in beside_anchors(answers, policy):
        possible = [r for r in bench.revisions if right_of(anchor["per_cent"], r.rows) is not None]
        sizes = " or ".join(f"{r.rows:,}" for r in possible)
        names = " or ".join(r.name for r in possible)
        same_rows = bool(possible) and not answers.partial and any(r.rows == rows for r in possible)
        same_revision = bool(possible) and not answers.partial and answers.revision in possible
        anchors.append({
            "mark": MARKS[anchor["comparable"]],
            "comparable": {"yes": "comparable", "nearly": "nearly comparable", "no": "not comparable"}[
                anchor["comparable"]
            ],
            "name": anchor["name"],
            "per_cent": anchor["per_cent"],
            "rows": f"{yes_no[same_rows]} (theirs {sizes}, yours {rows:,})" if possible
            else "unknown: not possible with any known size",
            "revision": f"{yes_no[same_revision]} (theirs: {names})" if possible else "unknown",
            "partition": "does not matter: an overall" if possible else "unknown: perhaps a macro",
            "why": anchor["why"],
        })  # fmt: skip
    note = ""
    if anchors and others:
        same = all(len(a.arranged.pairs) == rows and a.partial == answers.partial for a in runs.values())
        note = "The same holds for every run." if same else f"This is for {name}; the other runs have other pairs."
    return anchors, note
