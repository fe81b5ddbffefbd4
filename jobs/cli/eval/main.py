"""`proxygrm eval ...`: scoring, comparing and ranking existing judgements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from jobs.cli.common.options import FiniteNumber, refuse_idle
from jobs.cli.common.say import echo, secho
from jobs.cli.eval.audit import audit_of
from jobs.cli.eval.bench import ANY_BENCH_NAME, BENCH_NAME
from jobs.cli.eval.best_of_n import best_of_n
from jobs.cli.eval.ensemble import ensemble
from jobs.cli.eval.export import export
from jobs.cli.eval.run import run
from jobs.cli.eval.steps import score_steps
from jobs.cli.eval.transfer import transfer
from proxygrm.evaluate.benchmarks import POLICIES
from proxygrm.evaluate.layouts import LAYOUTS
from proxygrm.evaluate.steps.benchmark import STEP_BENCHMARKS

_FILE = click.Path(path_type=Path)

BENCH = click.option("--bench", type=BENCH_NAME, required=True)
PAIRS = click.option(
    "--pairs", "pairs", type=_FILE, default=None, help="The pairs that should have been judged (folder or JSONL)."
)  # fmt: skip
PARTIAL = click.option("--partial", is_flag=True, help="Score a file with missing rows, marked as partial.")
POLICY = click.option(
    "--policy",
    type=click.Choice(POLICIES),
    default="wrong",
    show_default=True,
    help="Unparsed verdicts and ties: wrong, left out, as in the official script, or as recorded in the file.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Figures as JSON on standard output.")


@click.group("eval")
def evaluation() -> None:
    """Benchmarks: judging, exact scores with intervals, comparisons, best-of-N."""


evaluation.add_command(run)
evaluation.add_command(transfer)
evaluation.add_command(ensemble)
evaluation.add_command(export)
evaluation.add_command(best_of_n)


@evaluation.command()
@click.option("--bench", type=ANY_BENCH_NAME, required=True)
@click.option("--answers", type=_FILE, multiple=True, help="A file of answers; several files are samples that vote.")
@click.option(
    "--layout", type=click.Choice(list(LAYOUTS)), default=None, help="Of another suite's results.  [recognised]"
)
@PAIRS
@click.option("--partition", default="official", show_default=True, help="official, upstream, or split (Multimodal).")
@POLICY
@click.option("--votes", type=click.IntRange(0), default=0, help="Majority of the first K samples.  [all]")
@PARTIAL
@click.option("--audit", is_flag=True, help="Check that the figures add up, and which partition --published fits.")
@click.option(
    "--published", default="", metavar="NAME=NUMBER,...", help="e.g. general=60.1,reasoning=59.0,overall=71.9"
)
@click.option(
    "--threshold", type=FiniteNumber(), default=None, help="Of steps: `scores` above it are right, e.g. 0.85."
)
@JSON
def score(
    bench: str,
    answers: tuple[Path, ...],
    layout: str | None,
    pairs: Path | None,
    partition: str,
    policy: str,
    votes: int,
    partial: bool,
    audit: bool,
    published: str,
    threshold: float | None,
    as_json: bool,
) -> None:
    """Score answers: upstream's files (id, rewards, reverse, critic), this suite's judgement rows, or the result files
    of lmms-eval, VLMEvalKit, RewardBench and RM-Bench.

    \b
    proxygrm eval score --bench vl-rewardbench --answers answers.jsonl
    proxygrm eval score --bench vl-rewardbench --audit \\
        --published general=60.1,hallucination=75.2,reasoning=59,overall=71.9

    All shares in the JSON are between 0 and 1. N is checked against the benchmark: missing, repeated, truncated or
    foreign rows end with exit status 2 and their row numbers.

    \b
    proxygrm eval score --bench visualprocessbench --answers rows.jsonl     {data_source, label: [...], pred: [...]}
    """
    from proxygrm.core.errors import UserError
    from proxygrm.evaluate.benchmarks import benchmark
    from proxygrm.evaluate.scores import score as scoring

    of_steps = bench in STEP_BENCHMARKS
    refuse_idle("layout pairs votes partition policy audit published", "on steps", unless=not of_steps)
    refuse_idle("threshold", "on pairs", unless=of_steps)
    if of_steps:
        return score_steps(STEP_BENCHMARKS[bench], answers, partial, threshold, as_json)
    if not answers and not published:
        raise UserError(
            "nothing to score: pass --answers FILE (or only --audit --published NUMBERS)", code="eval.needs-answers"
        )
    refuse_idle("layout pairs votes partial partition policy", "without --answers", unless=bool(answers))
    figures: dict[str, Any] = {}
    checked = None
    if answers:
        checked = scoring.read(bench, answers, partial, _expected(pairs), layout or "", pairs)
        figures = scoring.score(checked, partition, policy, votes)
    if audit or published:
        figures["audit"] = audit_of(benchmark(bench), checked, figures, published)
    if as_json:
        echo(json.dumps(figures, indent=2))
        for note in figures.get("notes", []):
            if note.startswith("PARTIAL"):
                secho(f"proxygrm: {note}", err=True, fg="red")
        return
    from jobs.cli.common.console import out
    from proxygrm.report.tables.score import show, show_audit

    if checked:
        show(figures, out)
    if "audit" in figures:
        show_audit(figures["audit"], out)


def _expected(pairs: Path | None) -> list[str] | None:
    if pairs is None:
        return None
    from proxygrm.evaluate.scores.expected import ids_of

    return ids_of(pairs)


@evaluation.command()
@BENCH
@click.argument("runs", nargs=-1, required=True, metavar="[NAME=]ANSWERS...")
@PAIRS
@click.option("--partition", default="official", show_default=True)
@POLICY
@click.option("--common", is_flag=True, help="Where runs judged different pairs, compare on those both have.")
@PARTIAL
@JSON
def compare(
    bench: str,
    runs: tuple[str, ...],
    pairs: Path | None,
    partition: str,
    policy: str,
    common: bool,
    partial: bool,
    as_json: bool,
) -> None:
    """The first run against the others on the same pairs, with published results.

    \b
    proxygrm eval compare --bench vl-rewardbench sft=sft.jsonl rl=rl.jsonl

    Differences come with a paired bootstrap interval and McNemar's exact test (Holm-corrected for several runs).
    """
    from proxygrm.evaluate.scores import score as scoring
    from proxygrm.evaluate.scores.compare import compare as compare_runs

    expected = _expected(pairs)
    files = _named_files(runs)
    answers = {name: scoring.read(bench, [path], partial, expected, pairs=pairs) for name, path in files.items()}
    figures = compare_runs(answers, partition, policy, common)
    if as_json:
        echo(json.dumps(figures, indent=2))
        return
    from jobs.cli.common.console import out
    from proxygrm.report.tables.compare import show

    show(figures, out)


@evaluation.command()
@BENCH
@click.argument("runs", nargs=-1, required=True, metavar="[NAME=]ANSWERS...")
@click.option("--out", type=_FILE, default=Path("report.html"), show_default=True, help="The page to write.")
@PAIRS
@click.option("--partition", default="official", show_default=True)
@POLICY
@click.option("--common", is_flag=True, help="Where runs judged different pairs, compare on those both have.")
@PARTIAL
def report(
    bench: str,
    runs: tuple[str, ...],
    out: Path,
    pairs: Path | None,
    partition: str,
    policy: str,
    common: bool,
    partial: bool,
) -> None:
    """Scores, published results and every judgement as one HTML page that needs no network.

    \b
    proxygrm eval report --bench vl-rewardbench sft=sft.jsonl rl=rl.jsonl --out report.html

    The page holds the images as thumbnails and stays below 5 MB; what does not fit is counted on it.
    """
    from jobs.cli.eval.report import write

    write(bench, _named_files(runs), out, partition, policy, partial, common, _expected(pairs))


def _named_files(runs: tuple[str, ...]) -> dict[str, Path]:
    """ "sft=a/rl.jsonl" -> {"sft": path}; without a name the file's stem, with its folder where two share one."""
    from proxygrm.core.errors import UserError

    files: dict[str, Path] = {}
    for text in runs:
        name, sign, path = text.partition("=")
        file = Path(path) if sign and not Path(text).exists() else Path(text)
        label = name if file != Path(text) else file.stem
        label = f"{file.parent.name}/{label}" if label in files else label
        if label in files:
            raise UserError(
                f"two runs have the name {label!r}; name them: compare a=FILE b=FILE",
                code="option.repeated-name",
                name=label,
            )
        files[label] = file
    return files
