"""The figures of `eval score` and `eval compare` arranged for a page: bars, a table of what decides them, anchors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from proxygrm.core.errors import UserError
from proxygrm.evaluate.benchmarks import benchmark
from proxygrm.evaluate.benchmarks.anchors import right_of
from proxygrm.evaluate.scores.compare import ORDERS_DIFFER, beside_anchors, mcnemar_cells, paired
from proxygrm.evaluate.scores.score import Answers, Figures, score
from proxygrm.report.gather import tag_name

MARKS = {"yes": "=", "nearly": "≈", "no": "≠"}


@dataclass(frozen=True)
class Bar:
    """A share between 0 and 1 with its 95 % interval; `run` is the place of its run, None for a published number."""

    label: str
    share: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    run: int | None = 0
    mark: str = ""

    @property
    def value(self) -> str:
        return "–" if self.share is None else f"{100 * self.share:.1f}"

    @property
    def interval(self) -> str:
        return "" if self.low is None or self.high is None else f"{100 * self.low:.1f} – {100 * self.high:.1f}"


@dataclass(frozen=True)
class View:
    """All that the page shows of one benchmark; `figures` are those of `eval score`, by run."""

    title: str
    settings: str
    runs: list[str]
    groups: list[tuple[str, list[Bar]]]
    facts: list[tuple[str, str, list[str]]]  # (measure, what it means, a value a run)
    policies: list[tuple[str, list[str]]]
    against: list[list[str]]
    anchors: list[dict[str, str]]
    anchor_note: str
    notes: list[tuple[str, str]]  # (run, note)
    figures: Mapping[str, Figures] = field(default_factory=dict)


def view(runs: Mapping[str, Answers], partition: str = "official", policy: str = "wrong", common: bool = False) -> View:
    """runs: {name: answers} of one benchmark, the first one is the baseline. Raises UserError as `score` does.

    Runs on different pairs are shown side by side all the same; that they cannot be compared pair by pair is a note.
    """
    figures = {name: score(answers, partition, policy) for name, answers in runs.items()}
    bench = benchmark(next(iter(figures.values()))["bench"])
    notes = _notes(figures)
    against: list[Figures] = []
    if len(runs) > 1:
        try:
            against = paired(runs, _comparisons(list(runs)), policy, common)
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
        anchors=anchors,
        anchor_note=anchor_note,
        notes=notes,
        figures=figures,
    )


def _comparisons(names: Sequence[str]) -> list[tuple[str, str]]:
    """(baseline, run): each run against the first; of a chain, and of any three runs, also the last step alone: what RL
    adds to SFT is not what both add to the start."""
    sft, rl = tag_name("sft"), tag_name("rl")
    step = (sft, rl) if sft in names and rl in names else tuple(names[1:3]) if len(names) == 3 else ()
    found = [(names[0], name) for name in names[1:]]
    return [*found, (step[0], step[1])] if step and step not in found else found


def _notes(figures: Mapping[str, Figures]) -> list[tuple[str, str]]:
    """(run, note); what holds for all runs stands once, without a name."""
    said: dict[str, list[str]] = {}
    for name, f in figures.items():
        for note in f["notes"]:
            said.setdefault(note, []).append(name)
    return [("" if len(names) == len(figures) else ", ".join(names), note) for note, names in said.items()]


def _rule(policy: str, official: str) -> str:
    return {
        "wrong": "not right",
        "drop": "left out",
        "official": f"as the official script ({official})",
        "recorded": "by the numbers recorded in the file",
    }[policy]


def _groups(figures: Mapping[str, Figures], anchors: Sequence[Mapping[str, str]]) -> list[tuple[str, list[Bar]]]:
    """Measures and their bars; with one run the bars carry the measures' names, with several the runs'."""
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
    published = [
        Bar(anchor["name"], float(anchor["per_cent"]) / 100, run=None, mark=anchor["mark"]) for anchor in anchors
    ]
    if len(figures) == 1:
        groups = [("", [bar(first, title, 0) for title, bar in measures])]
        return [*groups, ("Published, overall", published)] if published else groups
    groups = [(title, [bar(f, name, run) for run, (name, f) in enumerate(figures.items())]) for title, bar in measures]
    groups[0][1].extend(published)
    return groups


def _bar(label: str, run: int, share: float | None, interval: Sequence[float] | None, n: int | None = None) -> Bar:
    low, high = interval or (None, None)
    return Bar(label, share, low, high, n, run)


def _category(name: str) -> Callable[[Figures, str, int], Bar]:
    def bar(figures: Figures, label: str, run: int) -> Bar:
        found = figures["categories"].get(name)
        if found is None:
            return Bar(label, None, run=run)
        return Bar(label, found["accuracy"], found["low"], found["high"], found["n"], run)

    return bar


def _facts(figures: Mapping[str, Figures]) -> list[tuple[str, str, list[str]]]:
    def line(title: str, about: str, text: Callable[[Figures], str]) -> tuple[str, str, list[str]]:
        return title, about, [text(f) for f in figures.values()]

    def position(name: str) -> Callable[[Figures], str]:
        return lambda f: per_cent(f["position"][name])

    return [
        line("Pairs", "judged, of those there should be", _size),
        line("Orders", "in which each pair was shown", lambda f: "both" if f["orders"] == 2 else "one"),
        line("Judgements", "orders and votes counted", lambda f: f"{f['judgements']:,}"),
        line("Unparsed", "judgements without a readable verdict", lambda f: _count(f, "unparsed")),
        line("Ties", "judgements for neither response", lambda f: _count(f, "ties")),
        line("Order consistency", "of pairs clear in both orders: the same response named", position("consistency")),
        line("Right in all", "pairs right in every judgement", position("right_in_all")),
        line("Says 1", "verdicts for the response shown first", _says_1),
        line("Position bias", "says 1, less how often the better one stood first; 0 is none", _bias),
        line("Better one first", "right verdicts when the better response was shown first",
             position("accuracy_better_first")),
        line("Better one second", "right verdicts when it was shown second", position("accuracy_better_second")),
    ]  # fmt: skip


def per_cent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _size(figures: Figures) -> str:
    expected = f" of {figures['expected']:,}" if figures["expected"] is not None else ""
    revision = f", {figures['revision']}" if figures["revision"] else ""
    return f"{figures['rows']:,}{expected}{revision}{', PARTIAL' if figures['partial'] else ''}"


def _count(figures: Figures, name: str) -> str:
    return f"{figures[name]:,} ({per_cent(figures[f'{name}_share'])})"


def _says_1(figures: Figures) -> str:
    position = figures["position"]
    if position["says_1"] is None:
        return "–"
    return f"{per_cent(position['says_1'])} ({100 * position['says_1_low']:.1f} – {100 * position['says_1_high']:.1f})"


def _bias(figures: Figures) -> str:
    bias = figures["position_bias"]
    return "–" if bias is None else f"{100 * bias:+.1f} points"


def _policies(figures: Mapping[str, Figures], official: str) -> list[tuple[str, list[str]]]:
    first = next(iter(figures.values()))
    return [
        (
            f"{name}: {_rule(name, official)}",
            [
                f"{per_cent(p['overall'])} · macro {per_cent(p['macro'])} · n {p['n']:,}"
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
        f"{100 * row['difference']:+.2f}",
        f"{100 * row['low']:+.2f} to {100 * row['high']:+.2f}",
        *mcnemar_cells(row),
    ]


def _anchors(runs: Mapping[str, Answers], policy: str) -> tuple[list[dict[str, str]], str]:
    """Published numbers beside the first run: what is the same, what is not, and what nobody can tell."""
    (name, answers), *others = runs.items()
    bench, rows = answers.bench, len(answers.arranged.pairs)
    found = []
    for anchor in beside_anchors(answers, policy):
        fits = [r for r in bench.revisions if right_of(anchor["per_cent"], r.rows) is not None]
        sizes = " or ".join(f"{r.rows:,}" for r in fits)
        names = " or ".join(r.name for r in fits)
        same_rows = bool(fits) and not answers.partial and any(r.rows == rows for r in fits)
        same_revision = bool(fits) and not answers.partial and answers.revision in fits
        found.append({
            "mark": MARKS[anchor["comparable"]],
            "comparable": {"yes": "comparable", "nearly": "nearly comparable", "no": "not comparable"}[
                anchor["comparable"]
            ],
            "name": anchor["name"],
            "per_cent": anchor["per_cent"],
            "rows": _same(same_rows, f"theirs {sizes}, yours {rows:,}") if fits else "unknown: it is no count of rows",
            "revision": _same(same_revision, f"theirs the {names}") if fits else "unknown",
            "partition": "does not matter: an overall" if fits else "unknown: perhaps a macro",
            "why": anchor["why"],
        })  # fmt: skip
    note = ""
    if found and others:
        same = all(len(a.arranged.pairs) == rows and a.partial == answers.partial for a in runs.values())
        note = "The same holds for every run." if same else f"Said for {name}; the other runs have other pairs."
    return found, note


def _same(same: bool, detail: str) -> str:
    return f"yes ({detail})" if same else f"no ({detail})"
