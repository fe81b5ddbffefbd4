"""`proxygrm process intervene`: what a policy is shown of the image, changed."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from jobs.cli.common.options import Share, refuse_idle
from jobs.cli.common.say import echo
from jobs.cli.eval.judges import CHECKPOINT_OPTIONS, Calls, call_options, judges_of, refuse_drop, with_options
from jobs.cli.process.options import INPUT, OUTPUT
from jobs.cli.process.score import say_counts
from proxygrm.process.corrupt import MODES, WITH_RATIO
from proxygrm.process.structured import DESCRIBED_BY

_FILE = click.Path(path_type=Path)
_OPTIONS = [
    INPUT,
    OUTPUT,
    click.option("--policy", required=True, help="Answers the questions: a checkpoint, or http://HOST:PORT."),
    click.option("--extractor", default="", help="Describes the images.  [the policy]"),
    click.option("--condition", "conditions", multiple=True, help="Only this one; may be repeated.  [all four]"),
    click.option(
        "--description",
        type=click.Choice(list(DESCRIBED_BY)),
        default="structured",
        show_default=True,
        help="What the extractor is asked for.",
    ),
    click.option("--corruption", type=click.Choice(["contradict", *MODES]), default="flip", show_default=True),
    click.option("--corruption-ratio", type=Share(), default=1.0, show_default=True, help="With drop and flip."),
    click.option("--corruption-seed", default=0, show_default=True),
    click.option("--solve-tokens", type=click.IntRange(1), default=4096, show_default=True, help="Of an answer."),
    click.option("--description-tokens", type=click.IntRange(1), default=2048, show_default=True),
    click.option("--images-root", type=_FILE, help="Folder of relative image paths.  [the input's]"),
    click.option("--json", "as_json", is_flag=True, help="Figures as JSON on standard output."),
]


@click.command(short_help="Questions -> answers with the image, a description, a corrupted one, or nothing.")
@with_options(_OPTIONS)
@with_options(CHECKPOINT_OPTIONS)
@call_options
def intervene(
    source: Path,
    target: Path,
    policy: str,
    extractor: str,
    images_root: Path | None,
    as_json: bool,
    models: tuple[str, ...],
    calls: Calls,
    **settings: Any,
) -> None:
    """Ask a policy each question four times: with the image; with the image and a description of it; with a corrupted
    description in place of the image; with the question alone.

    \b
    In:  {"question", "image": PATH or [PATH, ...], "answer"}; other keys pass through
    Out: the row with `interventions`: {CONDITION: {"reasoningprocess", "finalanswer", "right"} or null}, and
         `intervention`: the descriptions that were shown, and why a condition is missing

    \b
    proxygrm process intervene --input questions.jsonl --output answers.jsonl --policy CHECKPOINT \\
        --extractor http://gpu7:8000 --model extractor=qwen2.5-vl-72b

    A call or a description that fails is missing, and never counted as another condition. --corruption contradict has
    the extractor plant errors in its --description paragraph. The same command resumes at the call.
    """
    from jobs.cli.common.console import out as console
    from jobs.cli.common.quiet import quiet
    from jobs.cli.eval import execute
    from proxygrm.core.files.whole_file import write_json
    from proxygrm.evaluate.judges.select import calls_of
    from proxygrm.evaluate.process.intervene import CONDITIONS, Intervention
    from proxygrm.evaluate.process.intervened import intervene_file
    from proxygrm.evaluate.settings import EvaluateSettings
    from proxygrm.report.tables.interventions import show

    refuse_idle("corruption_ratio", "with this corruption", unless=settings["corruption"] in WITH_RATIO)
    settings["conditions"] = settings["conditions"] or CONDITIONS
    intervention = Intervention(**{each.name: settings.pop(each.name) for each in fields(Intervention)})
    evaluate = EvaluateSettings(**settings)
    refuse_drop(evaluate.missing_images)
    sources = judges_of({"policy": policy, "extractor": extractor or policy}, models, calls)
    by_source = {each: calls_of(each, evaluate) for each in dict.fromkeys(sources.values())}
    with execute.resumable(), quiet("process intervene"), execute.ProgressBar() as progress:
        figures = intervene_file(
            source,
            target,
            images_root or source.parent,
            intervention,
            by_source[sources["extractor"]],
            by_source[sources["policy"]],
            evaluate.missing_images,
            progress,
        )
    write_json(target.with_name(f"{target.name}.report.json"), figures)
    if as_json:
        echo(json.dumps(figures, indent=2))
    else:
        show(figures, console)
    for what in ("missing", "unreadable"):
        say_counts({f"{what} ({name})": counts for name, counts in figures[what].items()})
