"""`proxygrm eval run`: a judge over a benchmark, here, on all GPUs of this machine, or as a SLURM job array."""

from __future__ import annotations

import hashlib
import math
import sys
from pathlib import Path
from typing import Any

import click

from jobs.cli.common.options import refuse_idle
from jobs.cli.common.say import echo
from jobs.cli.eval.judges import (
    OF_CHECKPOINTS,
    OF_ENDPOINTS,
    PROMPT_OPTIONS,
    TRUST_OPTION,
    Calls,
    call_options,
    with_options,
)
from proxygrm.evaluate.benchmarks import BENCHMARKS
from proxygrm.evaluate.settings import DEVICES, ORDERS

_FILE = click.Path(path_type=Path)
_JUDGING = [
    click.option("--judge", required=True, help="A checkpoint folder, http://HOST:PORT, or a JSONL of scores."),
    click.option("--out", type=_FILE, required=True, help="Folder for the answers; the same one resumes."),
    click.option("--bench", type=click.Choice(list(BENCHMARKS)), default="pairs", show_default=True),
    click.option("--pairs", type=_FILE, help="A pairs folder, or a JSONL of {id, question, chosen, rejected, image}."),
    click.option("--data", type=_FILE, help="The benchmark as released; ingested into OUT/pairs first."),
    click.option("--images-root", type=_FILE, help="With --data: where picture paths begin.  [the file's folder]"),
    click.option(
        "--orders", type=click.Choice(ORDERS), help="Of the two responses.  [both; of scores as-given]"
    ),
    click.option("--votes", type=click.IntRange(1), default=1, show_default=True, help="Samples of each judgement."),
    click.option("--temperature", type=click.FloatRange(0), default=0.0, show_default=True, help="0 is greedy."),
    click.option("--seed", default=0, show_default=True, help="Of samples and hashed orders."),
    click.option("--max-tokens", type=click.IntRange(1), default=8192, show_default=True, help="Longest critique."),
    *PROMPT_OPTIONS,
    click.option("--limit", type=click.IntRange(0), default=0, help="Only the first N pairs."),
    click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True),
    click.option("--tensor-parallel", type=click.IntRange(1), default=1, show_default=True, help="GPUs of one copy."),
    TRUST_OPTION,
    click.option("--copies", type=click.IntRange(1), help="Copies of the checkpoint at once.  [as GPUs allow]"),
    click.option("--model", default="", help="Endpoint: the model to ask for."),
]  # fmt: skip
_SENDING = [
    click.option("--shard", metavar="I/N", help="Judge only this part; the last one merges."),
    click.option("--shards", type=click.IntRange(1), default=8, show_default=True, help="With --submit: elements."),
    click.option("--submit", is_flag=True, help="As a SLURM job array, one copy an element, with the merge after it."),
    click.option("--profile", default="local", show_default=True, help="With --submit: the cluster."),
    click.option("--walltime-min", type=click.IntRange(1), default=240, show_default=True, help="With --submit."),
]  # fmt: skip


@click.command("run", short_help="Judge a benchmark with a model, an endpoint or a file of scores.")
@with_options(_JUDGING)
@call_options
@with_options(_SENDING)
def run(
    shard: str | None, shards: int, submit: bool, profile: str, walltime_min: int, copies: int | None, **asked: Any
) -> None:
    """Judge a benchmark. Resumes at the row, and ends with OUT/answers.jsonl for `eval score`.

    \b
    proxygrm eval run --bench vl-rewardbench --data VL-RewardBench/ --judge runs/h100/grm_rl/policy --out out/vl
    proxygrm eval run --bench mm-rlhf-rewardbench --pairs data/mm --judge http://gpu7:8000 --model qwen --out out/mm
    proxygrm eval run --pairs mine.jsonl --judge scores.jsonl --out out/scalar
    proxygrm eval run ... --votes 5 --temperature 0.7
    proxygrm eval run ... --submit --shards 16 --profile h100

    \b
    --judge scores.jsonl: {"id", "score_1", "score_2"} of the pairs' responses, or {"id", "rewards": [chosen, rejected]}
    """
    from jobs.cli.common.quiet import quiet
    from jobs.cli.eval import carry as eval_carry

    refuse_idle("shards profile walltime_min", "without --submit", unless=submit)
    refuse_idle("shard", "with --submit, whose elements are the shards", unless=not submit)
    refuse_idle("copies", "with --submit or --shard: one copy a shard", unless=not submit and shard is None)
    try:
        with quiet("eval run"):
            made = request(**asked)
            if submit:
                eval_carry.send(made, shards, profile, walltime_min)
            elif shard is not None:
                eval_carry.one(made, shard)
            else:
                eval_carry.here(made, copies)
    except KeyboardInterrupt:
        echo("\nstopped; what was judged is kept, and the same command goes on", err=True)
        sys.exit(130)


def request(
    judge: str,
    out: Path,
    bench: str,
    pairs: Path | None,
    data: Path | None,
    images_root: Path | None,
    orders: str | None,
    limit: int,
    model: str,
    calls: Calls,
    **settings: Any,
) -> Any:
    """The `proxygrm.evaluate.run.Run` that was asked for, released data ingested. UserError for what does not fit."""
    from data_tools.ingest.picture_paths import blank_picture
    from proxygrm.core.checkpoints.code import refuse_code
    from proxygrm.core.errors import UserError
    from proxygrm.evaluate.judges.endpoint import Endpoint
    from proxygrm.evaluate.run import Run
    from proxygrm.evaluate.settings import AS_GIVEN, BOTH, EvaluateSettings

    if (pairs is None) == (data is None):
        raise UserError("give what to judge: --pairs PATH (a pairs folder or a JSONL), or --bench NAME --data FILE")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; --out is the folder to write")
    who: Endpoint | Path = Path(judge)
    if judge.startswith(("http://", "https://")):
        if not model:
            raise UserError(f"--judge {judge} is an endpoint: say which of its models to ask with --model NAME")
        who = calls.endpoint(judge, model)
    elif not (Path(judge).is_file() or (Path(judge) / "config.json").is_file()):
        raise UserError(
            f"--judge {judge} is no checkpoint (a folder with config.json), no endpoint (http://...), and no file of "
            "scores"
        )
    else:
        who = Path(judge).resolve()
    scalar = isinstance(who, Path) and who.is_file()
    refuse_idle("images_root", "without --data: a pairs file says where its pictures lie", unless=data is not None)
    refuse_idle(OF_ENDPOINTS, "on this judge: it is of endpoints", unless=not isinstance(who, Path))
    refuse_idle(OF_CHECKPOINTS, "on this judge: it is of checkpoints", unless=isinstance(who, Path) and not scalar)
    refuse_idle(
        "temperature seed max_tokens max_pixels missing_images", "on scores, which are there already", unless=not scalar
    )
    if scalar and (orders not in (None, AS_GIVEN) or settings["votes"] > 1):
        raise UserError("scores have no order and no votes; leave --orders and --votes out")
    how = EvaluateSettings(orders=orders or (AS_GIVEN if scalar else BOTH), max_pairs=limit, **settings)
    if isinstance(who, Path) and not scalar:
        refuse_code(who, how.trust_remote_code, "--trust-remote-code")
    if data is not None:
        pairs = _ingested(bench, data, out, images_root, "blank" if scalar else how.missing_images)
    assert pairs is not None
    blank = hashlib.sha256(blank_picture()).hexdigest()
    return Run(who, pairs.resolve(), bench, out.resolve(), how, f"{blank}.png")


def _ingested(bench: str, data: Path, out: Path, images_root: Path | None, missing: Any) -> Path:
    """OUT/pairs. Every row of a benchmark counts, so none may be bad."""
    from data_tools.ingest.run import ingest
    from jobs.cli.common.console import out as console
    from proxygrm.core.errors import UserError
    from proxygrm.core.files import lock
    from proxygrm.core.files.whole_file import removed_if_empty

    if bench == "pairs":
        raise UserError("--data needs --bench NAME; your own pairs go to --pairs")
    folder = (out / "pairs").resolve()
    with removed_if_empty(out):
        out.mkdir(parents=True, exist_ok=True)
        busy = f"another `eval run` is ingesting into {folder}"
        with lock.held(out / ".ingest.lock", busy, wait_s=math.inf):  # shards started by hand all come by here
            allowed = 1.0 if missing == "drop" else 0.0
            report = ingest(bench, data, folder, images_root=images_root, missing_images=missing, max_bad=allowed)
    if others := {reason: count for reason, count in report["bad"].items() if reason != "missing_picture"}:
        raise UserError(
            f"{sum(others.values()):,} rows of {data} are bad ({', '.join(others)}); {folder / 'ingest_dropped.jsonl'} "
            "names them: mend them, every row of a benchmark counts"
        )
    facts = report["bad"] | report["notes"]
    notes = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in facts.items())
    console.print(f"ingested {report['kept']:,} of {report['read']:,} rows{f' ({notes})' if notes else ''}")
    return folder
