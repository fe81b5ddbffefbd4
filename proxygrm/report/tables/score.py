"""The figures of `eval score` as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from proxygrm.evaluate.benchmarks import benchmark
from proxygrm.evaluate.layouts import LAYOUTS
from proxygrm.report.numbers import between, per_cent


def show(figures: Mapping[str, Any], console: Console) -> None:
    """N against the expected N comes first and warnings last, so that neither is missed."""
    bench = benchmark(figures["bench"])
    expected = f"{figures['expected']:,}" if figures["expected"] is not None else "an unknown number"
    revision = f" ({figures['revision']})" if figures["revision"] else ""
    console.print(f"[bold]{bench.title}[/]  N = {figures['rows']:,} of {expected} expected{revision}", highlight=False)
    for name in figures["layouts"]:
        layout = LAYOUTS[name]
        console.print(f"layout: {layout.title} ({layout.certain})", highlight=False)
    about = bench.partitions[figures["partition"]].about
    console.print(
        f"partition {figures['partition']}: {about}; policy {figures['policy']}; "
        f"{'both orders' if figures['orders'] == 2 else 'one order'}"
        + (f", votes of {figures['votes_counted']}" if figures["samples"] > 1 else ""),
        highlight=False,
    )
    table = Table("", "n", "accuracy %", "95 %")
    for name, c in figures["categories"].items():
        table.add_row(name, f"{c['n']:,}", per_cent(c["accuracy"]), between(c["low"], c["high"]))
    table.add_section()
    finer = {name: c for name, c in figures.get("splits", {}).items() if name not in figures["categories"]}
    for name, c in finer.items():
        table.add_row(f"[dim]{name}[/]", f"{c['n']:,}", per_cent(c["accuracy"]), between(c["low"], c["high"]))
    if finer:
        table.add_section()
    headline = figures["headline"]
    table.add_row(
        _marked("overall", headline),
        f"{figures['n']:,}",
        per_cent(figures["overall"]),
        between(*figures["overall_interval"]),
    )
    table.add_row(
        _marked("macro", headline),
        "",
        per_cent(figures["macro"]),
        between(*(figures["macro_interval"] or (None, None))),
    )
    if "acc_plus" in figures:
        ids, interval = figures["acc_plus_ids"], figures["acc_plus_interval"]
        table.add_row("acc+", f"{ids} ids", per_cent(figures["acc_plus"]), between(*interval))
    console.print(table)
    for view, categories in figures.get("views", {}).items():
        other = Table(view, "n", "accuracy %", "95 %")
        for name, c in categories.items():
            other.add_row(name, f"{c['n']:,}", per_cent(c["accuracy"]), between(c["low"], c["high"]))
        console.print(other)
    policies = Table("unparsed and ties", "n", "overall %", "macro %")
    for name, p in figures["policies"].items():
        chosen = "[bold]*[/] " if name == figures["policy"] else ""
        about = f" ({bench.official_about})" if name == "official" else ""
        policies.add_row(f"{chosen}{name}{about}", f"{p['n']:,}", per_cent(p["overall"]), per_cent(p["macro"]))
    console.print(policies)
    if votes := figures.get("votes"):
        console.print(
            "votes of K: " + ", ".join(f"{k}: {per_cent(v['overall'])}" for k, v in votes.items()), highlight=False
        )
        console.print(
            "any of K:   " + ", ".join(f"{k}: {per_cent(v['any'])}" for k, v in votes.items()) + " (upper bound)",
            highlight=False,
        )
        ballots = figures["ballots"]
        console.print(
            f"{ballots['tied']:,} of {ballots['ballots']:,} votes are tied, {ballots['no_verdict']:,} have no verdict",
            highlight=False,
        )
    console.print(_lines(figures), highlight=False)
    for note in figures["notes"]:
        style = "bold red" if note.startswith("PARTIAL") else "yellow"
        console.print(note, style=style, highlight=False)


def _marked(name: str, headline: str) -> str:
    return f"[bold]{name}[/]" if name == headline else name


def _lines(figures: Mapping[str, Any]) -> str:
    position = figures["position"]
    lines = [
        f"unparsed {figures['unparsed']:,} ({per_cent(figures['unparsed_share'])} %), "
        f"ties {figures['ties']:,} ({per_cent(figures['ties_share'])} %) of {figures['judgements']:,} judgements"
    ]
    if position["consistency"] is not None:
        lines.append(
            f"the same response in both orders: {per_cent(position['consistency'])} % "
            f"of {position['consistency_pairs']:,} pairs"
        )
        lines[-1] += f"; right in both: {per_cent(position['right_in_all'])} %"
    if position["says_1"] is not None:
        better = position["better_first"]
        interval = between(position["says_1_low"], position["says_1_high"])
        lines.append(
            f"says 1: {per_cent(position['says_1'])} % ({interval})"
            + ("" if better is None else f"; the better response was first in {per_cent(better)} %")
        )
    if position["accuracy_better_first"] is not None and position["accuracy_better_second"] is not None:
        lines.append(
            f"right when the better response is first {per_cent(position['accuracy_better_first'])} %, "
            f"second {per_cent(position['accuracy_better_second'])} %"
        )
    return "\n".join(lines)


def show_audit(audit: Mapping[str, Any], console: Console) -> None:
    if weighted := audit.get("weighted"):
        holds = "equals" if weighted["holds"] else "[bold red]does not equal[/]"
        console.print(
            f"audit: overall {holds} the weighted categories ({per_cent(weighted['weighted'])})", highlight=False
        )
    for verdict in audit.get("partitions", []):
        result = {True: "[bold green]fits[/]", False: "does not fit", None: "cannot be checked"}[verdict["fits"]]
        console.print(f"audit: the published numbers: partition {verdict['partition']} {result}", highlight=False)
        if verdict["detail"]:
            console.print(f"       {verdict['detail']}", highlight=False)
    for revision in audit.get("revisions", []):
        right = revision["right"]
        result = (
            f"is {right:g}/{revision['rows']:,}" if right is not None else f"is not possible with {revision['rows']:,}"
        )
        console.print(f"audit: overall {audit['published']['overall']} {result} ({revision['name']})", highlight=False)
