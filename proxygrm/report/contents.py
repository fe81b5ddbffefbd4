"""What a recipe says about its report: which files, their titles, columns and order. The report knows no stage by name.

It is written into run.json, so that the page of any run needs only the run folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.core.settings import require_known


@dataclass(frozen=True)
class Column:
    """One figure of the table of results."""

    title: str
    key: str
    """Its name in the summary."""
    interval: bool = False
    """Whether KEY_low and KEY_high are its interval."""
    count: bool = False
    """A whole number, not a share."""
    help: str = ""


JUDGE_COLUMNS = (
    Column("Pairs", "pairs", count=True, help="pairs judged, each in both orders"),
    Column("Accuracy", "accuracy", interval=True, help="share of verdicts that are right; 95 % interval in brackets"),
    Column("Unparsed wrong", "accuracy_unparsed_wrong", help="the same with unreadable verdicts counted as wrong"),
    Column("Both orders", "both_orders_accuracy", help="pairs judged right in both orders"),
    Column("Says 1", "says_1", help="share of verdicts for response 1: 50 % means no position bias"),
    Column("Format", "format_rate", help="share of well-formed critiques"),
    Column(
        "Proxy agrees",
        "proxy_agreement",
        interval=True,
        help="the proxy's verdicts by the rubric alone that equal the label",
    ),
    Column("Unparsed", "unparsed", count=True, help="judgements without a readable verdict"),
    Column("Names winner", "names_winner", count=True, help="rubrics that name the better response"),
)
"""The figures of a judge that writes critiques, as evaluation sums them up."""


SCORE_COLUMNS = (
    Column("Pairs", "pairs", count=True, help="pairs scored, each once"),
    Column(
        "Accuracy", "accuracy", interval=True, help="pairs whose better response has the higher score, without ties"
    ),
    Column("Ties wrong", "accuracy_unparsed_wrong", help="the same with equal scores counted as wrong"),
    Column("Prefers 1", "says_1", help="share of pairs whose response 1 has the higher score"),
    Column("Ties", "ties", count=True, help="equal scores"),
    Column("Unscored", "unparsed", count=True, help="pairs that could not be scored"),
)
"""The figures of a scalar reward model, as evaluation sums them up."""


CRITIC_COLUMNS = (
    Column("Pairs", "rows", count=True, help="pairs judged"),
    Column("Right", "overall", help="pairs judged right; a tie and an unreadable verdict are wrong"),
    Column("Without ties", "accuracy", interval=True, help="right verdicts among those for one of the responses"),
    Column("Macro", "macro", help="mean over the categories"),
    Column("Ties", "ties", count=True, help="verdicts that find both equally good: equal scores, or said so"),
    Column("Unparsed", "unparsed", count=True, help="judgements without a readable verdict or score"),
    Column("Format", "format_rate", help="share of well-formed answers"),
)
"""The figures of a critic on a benchmark, by comparisons and by scores."""


@dataclass(frozen=True)
class Results:
    """A table with a row for each model; the defaults are those of an evaluation of judges."""

    file: str
    """STAGE/FILE in the run folder: JSON, {model: {figure: number}}. Beside it MODEL.jsonl, its judgements, if any."""
    models: Mapping[str, str] = field(default_factory=dict)
    """Title of each model, in the table's order; others follow under their own names."""
    title: str = "Held-out pairs, both orders"
    """Of the table in the terminal."""
    heading: str = "Results on held-out pairs"
    """Of the page's section."""
    more: tuple[str, ...] = ()
    """Further files of this form, whose models follow."""
    note: str = (
        "Every pair is judged in both orders. Intervals are 95 % Wilson score intervals with the pair as the trial."
    )
    """Below what the columns mean."""
    columns: tuple[Column, ...] = JUDGE_COLUMNS


@dataclass(frozen=True)
class Report:
    """Paths are STAGE/FILE in the run folder; "" where the recipe has no such thing."""

    title: str = "Run"
    """What kind of run it is, above the page's title."""
    stages: Mapping[str, str] = field(default_factory=dict)
    """What each stage is, in words, by its name."""
    results: Results | None = None
    benchmarks: tuple[str, ...] = ()
    """The scores of each benchmark that there can be, as JSON, {model: figures of `eval score`}."""
    counts: str = ""
    """JSON of counts: what data went in, what was dropped."""
    curves: tuple[str, ...] = ()
    """Stages whose metrics.jsonl is drawn, in this order; () draws those of all stages."""
    transfer: str = ""
    """JSON of rubric transfer."""
    rollouts: str = ""
    """metrics.jsonl of RL, whose means over parts of the steps the demo prints."""
    page: str = "report.html"
    """The page itself."""

    @property
    def page_stage(self) -> str:
        """The stage that writes the page; "" for none."""
        return self.page.rpartition("/")[0]

    def model_title(self, name: str) -> str:
        return self.results.models.get(name, name) if self.results else name

    def in_order(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """By model: those with a title first, in their order."""
        titled = [name for name in (self.results.models if self.results else ()) if name in summary]
        return {name: summary[name] for name in [*titled, *(name for name in summary if name not in titled)]}


def read_report(row: Any) -> Report:
    """Back from run.json; an empty report where there is none. Raises UserError for the record of another version of
    the code: settings.unknown-name, report.unreadable."""
    if row is None:
        return Report()
    try:
        results = row.get("results")
        if results is not None:
            columns = tuple(Column(**_known(Column, column)) for column in results["columns"])
            more = tuple(results.get("more", ()))
            results = Results(**_known(Results, results | {"columns": columns, "more": more}))
        lists = {name: tuple(row.get(name, ())) for name in ("benchmarks", "curves")}
        return Report(**_known(Report, row | {"results": results, **lists}))
    except (AttributeError, TypeError, KeyError) as error:
        raise UserError(
            f"the report's entry in run.json cannot be read: {type(error).__name__}: {error}", code="report.unreadable"
        ) from error


def _known(kind: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    names = [*kind.__dataclass_fields__]
    return {require_known(key, names, "run.json: report"): value for key, value in row.items()}
