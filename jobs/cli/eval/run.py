"""`proxygrm eval run`: judge a benchmark here, on all GPUs of this machine, or as a SLURM job array."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from jobs.cli.common.options import FiniteNumber, FiniteRange, refuse_idle, tensor_parallel_option, with_options
from jobs.cli.eval.bench import ANY_BENCH_NAME
from jobs.cli.eval.judges import (
    KIND_OPTION,
    OF_CHECKPOINTS,
    OF_ENDPOINTS,
    PROMPT_OPTIONS,
    TRUST_OPTION,
    Calls,
    call_options,
    judge_source,
)
from jobs.cli.eval.steps import run_steps
from proxygrm.critique.contracts import PROXY_GRM
from proxygrm.evaluate.settings import DEVICES, JUDGED_BY, ORDERS
from proxygrm.evaluate.steps.benchmark import STEP_BENCHMARKS

_FILE = click.Path(path_type=Path)
_JUDGING = [
    click.option("--judge", required=True, help="A checkpoint (generative or scalar), http://HOST:PORT, or scores."),
    click.option("--critic", default="", help="Scalar checkpoints: a checkpoint or URL that criticises each response."),
    click.option("--out", type=_FILE, required=True, help="Folder for the answers; the same one resumes."),
    click.option("--bench", type=ANY_BENCH_NAME, default="pairs", show_default=True),
    click.option("--pairs", type=_FILE, help="A pairs folder, or a JSONL of {id, question, chosen, rejected, image}."),
    click.option("--data", type=_FILE, help="The benchmark as released; it is ingested into OUT/pairs first."),
    click.option("--images-root", type=_FILE, help="With --data: folder of relative image paths.  [the file's]"),
    click.option(
        "--contract",
        type=click.Choice(JUDGED_BY),
        default=PROXY_GRM,
        show_default=True,
        help="What the judge is asked for: Proxy-GRM's critique, R1-Reward's judgement, or a score of each response.",
    ),
    click.option(
        "--orders", type=click.Choice(ORDERS), help="Order of the two responses.  [both; as-given for scores]"
    ),
    click.option("--votes", type=click.IntRange(1), default=1, show_default=True, help="Samples of each judgement."),
    click.option("--temperature", type=FiniteRange(0), default=0.0, show_default=True, help="0 is greedy."),
    click.option("--seed", default=0, show_default=True, help="For samples and drawn orders."),
    click.option("--max-tokens", type=click.IntRange(1), default=8192, show_default=True, help="Tokens of a critique."),
    *PROMPT_OPTIONS,
    click.option("--limit", type=click.IntRange(0), default=0, help="Only the first N pairs."),
    click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True),
    tensor_parallel_option,
    TRUST_OPTION,
    KIND_OPTION,
    click.option("--extractor", default="", help="Of steps: describes each image to the judge first.  [nobody]"),
    click.option("--threshold", type=FiniteNumber(), help="Of steps: right when its probability or score is above."),
    click.option("--copies", type=click.IntRange(1), help="Copies of the checkpoint side by side.  [as GPUs allow]"),
    click.option("--model", default="", help="Endpoint: the name of the model."),
]  # fmt: skip
_SENDING = [
    click.option("--shard", metavar="I/N", help="Judge this part only; the last one merges."),
    click.option("--shards", type=click.IntRange(1), default=8, show_default=True, help="With --submit: elements."),
    click.option("--submit", is_flag=True, help="As a SLURM job array, one copy per element, followed by the merge."),
    click.option("--profile", default="local", show_default=True, help="With --submit: the cluster profile."),
    click.option("--walltime-min", type=click.IntRange(1), default=240, show_default=True, help="With --submit."),
]  # fmt: skip


@click.command("run", short_help="Judge a benchmark with a model, an endpoint or a file of scores.")
@with_options(_JUDGING)
@call_options
@with_options(_SENDING)
def run(
    shard: str | None, shards: int, submit: bool, profile: str, walltime_min: int, copies: int | None, **options: Any
) -> None:
    """Judge a benchmark. Resumes at the row, and writes OUT/answers.jsonl for `eval score`.

    \b
    proxygrm eval run --bench vl-rewardbench --data VL-RewardBench/ --judge RUN/STAGE/policy --out out/vl
    proxygrm eval run --bench mm-rlhf-rewardbench --pairs data/mm --judge http://gpu7:8000 --model qwen --out out/mm
    proxygrm eval run --pairs mine.jsonl --judge scores.jsonl --out out/scalar
    proxygrm eval run ... --judge SCALAR --critic http://gpu7:8000 --model qwen
    proxygrm eval run --bench visualprocessbench --data test.jsonl --images-root images --judge J --out out/vpb
    proxygrm eval run ... --votes 5 --temperature 0.7
    proxygrm eval run ... --submit --shards 16 --profile h100

    \b
    --judge scores.jsonl: {"id", "score_1", "score_2"} of the pairs' responses, or {"id", "rewards": [chosen, rejected]}
    """
    from jobs.cli.common.quiet import quiet
    from jobs.cli.eval import execute

    steps = options["bench"] in STEP_BENCHMARKS
    refuse_idle("extractor threshold", "on pairs", unless=steps)
    refuse_idle(
        "shard shards submit profile walltime_min copies pairs critic contract orders votes",
        "on steps",
        unless=not steps,
    )
    if steps:
        with execute.resumable(), quiet("eval run"):
            return run_steps(**options)
    refuse_idle("shards profile walltime_min", "without --submit", unless=submit)
    refuse_idle("shard", "with --submit, whose elements are the shards", unless=not submit)
    refuse_idle("copies", "with --submit or --shard: one copy per shard", unless=not submit and shard is None)
    with execute.resumable(), quiet("eval run"):
        request = run_of(**options)
        if submit:
            execute.submit_array(request, shards, profile, walltime_min)
        elif shard is not None:
            execute.run_one_shard(request, shard)
        else:
            execute.run_here(request, copies)


def run_of(
    judge: str,
    critic: str,
    out: Path,
    bench: str,
    pairs: Path | None,
    data: Path | None,
    images_root: Path | None,
    orders: str | None,
    limit: int,
    model: str,
    calls: Calls,
    kind: str | None,
    extractor: str,
    threshold: float | None,
    **settings: Any,
) -> Any:
    """The `proxygrm.evaluate.run.Run` of these options, released data ingested. UserError for invalid combinations."""
    from data_tools.ingest.benchmark import blank_name
    from proxygrm.core.checkpoints.code import refuse_code
    from proxygrm.core.checkpoints.kinds import SCALAR, kind_of
    from proxygrm.core.errors import UserError
    from proxygrm.evaluate.run import Run
    from proxygrm.evaluate.settings import AS_GIVEN, BOTH, POINTWISE, EvaluateSettings

    if pairs and data:
        raise UserError(
            "--pairs and --data are two inputs; pass the pairs, or the release and --bench",
            code="option.conflict", options=["--pairs", "--data"],
        )  # fmt: skip
    if pairs is None and data is None:
        raise UserError(
            "nothing to judge: pass --pairs PATH (a pairs folder or a JSONL), or --bench NAME --data FILE",
            code="eval.needs-pairs",
        )
    check_out_folder(out)
    scalar = Path(judge).is_file()
    source = Path(judge).resolve() if scalar else judge_source(judge, model, calls, "a file of scores")
    checkpoint = isinstance(source, Path) and not scalar
    refuse_idle("kind", "on this judge: it is of checkpoints", unless=checkpoint)
    scores = scalar or (checkpoint and kind_of(source, kind or "") == SCALAR)
    refuse_idle("critic", "on this judge: a scalar checkpoint reads it", unless=checkpoint and scores)
    writer = judge_source(critic, model, calls, option="--critic") if critic else None
    refuse_idle("images_root", "without --data: a pairs file has its own image paths", unless=data is not None)
    called = any(each is not None and not isinstance(each, Path) for each in (source, writer))
    refuse_idle(OF_ENDPOINTS, "on this judge: it is of endpoints", unless=called)
    refuse_idle(OF_CHECKPOINTS, "on this judge: it is of checkpoints", unless=checkpoint)
    refuse_idle("contract", "on scores", unless=not scores)
    refuse_idle("temperature seed max_tokens", "on scores", unless=writer or not scores)
    refuse_idle("max_pixels missing_images", "on existing scores", unless=not scalar)
    refuse_idle(
        "tensor_parallel_size", "on a scalar model: each copy has one GPU", unless=scalar or writer or not scores
    )
    if scores and (orders not in (None, AS_GIVEN) or settings["votes"] > 1):
        raise UserError(
            "scores have no order and no votes; leave --orders and --votes out", code="eval.orders-of-scores"
        )
    if settings["contract"] == POINTWISE and orders not in (None, AS_GIVEN):
        raise UserError(
            "with --contract pointwise each response is judged alone, so there is no order; leave --orders out",
            code="eval.orders-of-scores",
        )
    in_orders = orders or (AS_GIVEN if scores else BOTH)
    evaluate = EvaluateSettings(orders=in_orders, max_pairs=limit, **settings)
    for model_folder in (source if checkpoint else None, writer):
        if isinstance(model_folder, Path):
            refuse_code(model_folder, evaluate.trust_remote_code, "--trust-remote-code")
    if data is not None:
        pairs = _ingested(bench, data, out, images_root, "blank" if scalar else evaluate.missing_images)
    assert pairs is not None
    return Run(source, pairs.resolve(), bench, out.resolve(), evaluate, blank_name(), writer, kind or "")


def check_out_folder(out: Path) -> None:
    """UserError when --out is an existing file."""
    from proxygrm.core.errors import UserError

    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; --out is the folder to write", code="option.out-is-file", path=out)


def _ingested(bench: str, data: Path, out: Path, images_root: Path | None, missing: Any) -> Path:
    """OUT/pairs."""
    from data_tools.ingest.benchmark import ingest_benchmark
    from jobs.cli.common.console import out as console
    from proxygrm.core.errors import UserError
    from proxygrm.report.numbers import counts_text

    if bench == "pairs":
        raise UserError("--data needs --bench NAME; pass your own pairs with --pairs", code="eval.data-without-bench")
    folder = (out / "pairs").resolve()
    report = ingest_benchmark(bench, data, folder, missing, images_root)
    notes = counts_text(report["bad"] | report["notes"])
    console.print(f"ingested {report['kept']:,} of {report['read']:,} rows{f' ({notes})' if notes else ''}")
    return folder
