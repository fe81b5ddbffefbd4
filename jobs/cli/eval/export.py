"""`proxygrm eval export`: our answers in the layout of another suite's result files."""

from __future__ import annotations

from pathlib import Path

import click

from jobs.cli.common.say import echo
from jobs.cli.eval.bench import BENCH_NAME
from proxygrm.evaluate.layouts import LAYOUTS

_FILE = click.Path(path_type=Path)


@click.command("export", short_help="Write answers in the layout of another suite's result files.")
@click.option("--bench", type=BENCH_NAME, required=True)
@click.option("--answers", type=_FILE, required=True, help="answers.jsonl of `eval run`.")
@click.option("--layout", type=click.Choice(list(LAYOUTS)), required=True)
@click.option("--out", type=_FILE, required=True, help="The file to write; of vlmevalkit .xlsx, .tsv or .csv.")
@click.option("--sample", type=click.IntRange(0), default=0, show_default=True, help="Which of several votes.")
@click.option("--partial", is_flag=True, help="Export a file with missing rows.")
def export(bench: str, answers: Path, layout: str, out: Path, sample: int, partial: bool) -> None:
    """Write answers of `eval run` as another suite would have written its results.

    \b
    proxygrm eval export --bench vl-rewardbench --answers out/rl/answers.jsonl --layout lmms-eval --out samples.jsonl

    These layouts hold one judgement a pair. Of both orders, the one is written that the other suite would have shown;
    what is left out is counted. `eval score` reads the file again.
    """
    from proxygrm.core.errors import UserError
    from proxygrm.core.files.output_file import check_output
    from proxygrm.evaluate.layouts.export import export as write
    from proxygrm.evaluate.scores.score import read

    chosen = LAYOUTS[layout]
    if chosen.bench != bench:
        raise UserError(
            f"--layout {layout} is of {chosen.bench}, not of {bench}",
            code="bench.other-layout",
            layout=layout,
            bench=bench,
        )
    check_output(out, [answers], "--out")
    checked = read(bench, [answers], partial)
    counts = write(answers, chosen, out, sample)
    partly = f" of {checked.expected:,}" if checked.partial else ""
    echo(f"{out}: {counts['written']:,}{partly} pairs in the layout of {chosen.title}")
    for name, words in (("other_orders", "in the other order"), ("other_samples", "of other samples")):
        if counts[name]:
            echo(f"  left out: {counts[name]:,} judgements {words}")
