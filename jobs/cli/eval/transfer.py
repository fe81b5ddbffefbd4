"""`proxygrm eval transfer`: is an unseen judge right more often with a reward model's rubric?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from jobs.cli.common.say import echo
from jobs.cli.eval.judges import Calls, judge_options, judges_of, named_values

_FILE = click.Path(path_type=Path)


@click.command(short_help="Is an unseen judge right more often with a rubric?")
@click.option("--rubrics", multiple=True, required=True, metavar="NAME=FILE|CHECKPOINT", help="Of a reward model.")
@click.option("--judge", "judges", multiple=True, required=True, metavar="NAME=PATH|URL", help="An unseen judge.")
@click.option("--base", type=_FILE, help="Judgement rows of the model before training, or that model.")
@click.option("--pairs", type=_FILE, help="The pairs to judge; required when no rubrics come from a file.")
@click.option("--out", type=_FILE, required=True, help="Folder for rows and transfer.json; the same one resumes.")
@click.option("--allow-leaks", is_flag=True, help="Send rubrics that name the winner too.  [counted, not sent]")
@click.option("--common", is_flag=True, help="Where sources have different judgements, use those that all have.")
@click.option("--seed", default=0, show_default=True, help="For the assignment of rubrics in the control.")
@click.option("--limit", type=click.IntRange(0), default=0, help="With --pairs: only the first N.")
@click.option("--max-tokens", type=click.IntRange(1), default=1024, show_default=True, help="Tokens of an answer.")
@click.option("--max-critique", type=click.IntRange(1), default=8192, show_default=True, help="Tokens of a critique.")
@judge_options
@click.option("--json", "as_json", is_flag=True, help="Figures as JSON on standard output.")
def transfer(
    rubrics: tuple[str, ...],
    judges: tuple[str, ...],
    base: Path | None,
    pairs: Path | None,
    out: Path,
    allow_leaks: bool,
    common: bool,
    seed: int,
    limit: int,
    max_tokens: int,
    max_critique: int,
    models: tuple[str, ...],
    calls: Calls,
    as_json: bool,
    **settings: Any,
) -> None:
    """A judge decides each pair without a rubric, with the reward model's rubric for it, with its rubric for another
    pair (control), and with the base model's. It sees the closed rubric only.

    \b
    proxygrm eval transfer --rubrics rl=RUN/STAGE/rl.jsonl --base RUN/STAGE/start.jsonl \\
        --judge qwen-32b=/models/Qwen2.5-VL-32B-Instruct --out out/transfer
    proxygrm eval transfer --rubrics sft=sft.jsonl --rubrics rl=rl.jsonl \\
        --judge a=/models/A --judge b=http://gpu7:8000 --model b=qwen --out out/matrix
    proxygrm eval transfer --rubrics rl=RUN/STAGE/policy --pairs data/held_out --judge a=/models/A --out out/t

    FILE: rows of `eval run` (answers.jsonl) or of a chain's evaluation. Gains come with a paired bootstrap
    interval and McNemar's exact test; several reward models and judges make a matrix.
    """
    from jobs.cli.common.console import out as console
    from jobs.cli.common.quiet import quiet
    from jobs.cli.eval.execute import ProgressBar, resumable
    from jobs.cli.eval.run import check_out_folder
    from proxygrm.core.errors import UserError
    from proxygrm.evaluate.settings import EvaluateSettings
    from proxygrm.evaluate.transfer.run import Transfer, measure_transfer
    from proxygrm.report.tables.transfer import show

    if limit and pairs is None:
        raise UserError("--limit needs --pairs; files of rubrics are used in full", code="option.limit-without-pairs")
    check_out_folder(out)
    request = Transfer(
        rubrics={name: Path(path) for name, path in named_values("--rubrics", rubrics).items()},
        judges=judges_of(named_values("--judge", judges), models, calls, "--judge"),
        out=out,
        settings=EvaluateSettings(max_tokens=max_critique, proxy_max_tokens=max_tokens, max_pairs=limit, **settings),
        base=base,
        pairs=pairs,
        seed=seed,
        allow_leaks=allow_leaks,
        common=common,
    )
    with resumable(), quiet("eval transfer"), ProgressBar() as progress:
        figures = measure_transfer(request, progress)
    if as_json:
        echo(json.dumps(figures, indent=2))
    else:
        show(figures, console)
