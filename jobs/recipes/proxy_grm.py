"""Proxy-GRM: distill -> split -> SFT of proxy and reward model -> RL with the proxy's reward -> evaluate -> report.

READ THIS FILE FIRST: chain, settings, presets. What a stage does is in the file of that name under jobs/stages.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from jobs.engine.recipe import CellTable, PerCell, Recipe, Sweep
from jobs.engine.stage import Output, Stage
from jobs.recipes import drawn_pairs
from jobs.stages import checks, report
from jobs.stages.data import distill, split
from jobs.stages.measuring import benchmarks, evaluate, transfer
from jobs.stages.training import merge, rl, rl_with_proxy, sft
from proxygrm.report.contents import Report, Results
from proxygrm.rewards.proxy_agreement import ProxyAgreement
from proxygrm.serving.settings import ProxySettings
from slurm.sbatch import Resources


def chain(c: Config) -> list[Stage]:
    """Preference pairs in, a trained and evaluated reward model with its report out."""
    # The teacher writes a critique for every pair. Pairs it judges right teach; pairs it gets wrong are the hard ones
    # that RL learns from.
    pairs = checks.pairs(c.pairs)
    critiques = distill.stage("distill", pairs=pairs, settings=c.distill)
    sets = split.stage("split", pairs=pairs, critiques=critiques / "critiques", settings=c.split)

    # The proxy learns to judge from a rubric; the reward model gets its cold start. Both at once.
    proxy_stages, proxy = trained_proxy(c, sets)
    grm_sft = sft.stage(
        "grm_sft", start=c.policy, settings=c.grm_sft,
        data=sets / "grm_sft.jsonl", validation=sets / "grm_sft_val.jsonl",
    )  # fmt: skip
    grm_stages, grm = merge.trained(grm_sft, start=c.policy)

    # GRPO: the reward is accuracy + agreement of the frozen proxy, which sees the rubric only, + format.
    grm_rl = rl_with_proxy.stage(
        "grm_rl", policy=grm, proxy=proxy, settings=c.grm_rl,
        train=sets / "grm_rl.parquet", validation=sets / "grm_rl_val.parquet",
    )  # fmt: skip

    # Held-out pairs, both response orders: before training, after SFT, after RL.
    models: dict[str, str | Output] = {"start": c.policy, "sft": grm, "rl": grm_rl / c.grm_rl.chosen}
    held_out = checks.pairs(c.held_out)
    judging = evaluate.stages("evaluate", held_out=held_out, proxy=proxy, models=models, settings=c.evaluate)

    # Do the rubrics help a judge that took no part in training? Without one, the proxy is asked, and the table says so.
    judged = judging[-1] / "summary.json"
    gains = transfer.stage("transfer", judge=c.transfer.judge or proxy, judged=judged, settings=c.transfer)

    # The papers' table: every benchmark whose data is given.
    scores = benchmarks.stages("benchmarks", models=models, settings=c.benchmarks)
    page = report.stage("report", shows=[judging[-1], gains, *scores], settings=c.report)
    return [critiques, sets, *proxy_stages, *grm_stages, grm_rl, *judging, gains, *scores, page]


def trained_proxy(c: Config, sets: Stage) -> tuple[list[Stage], str | Output]:
    """The stages that train the proxy, and the checkpoint that judges."""
    proxy_sft = sft.stage(
        "proxy_sft", start=c.proxy, settings=c.proxy_sft,
        data=sets / "proxy_sft.jsonl", validation=sets / "proxy_sft_val.jsonl",
    )  # fmt: skip
    sft_stages, taught = merge.trained(proxy_sft, start=c.proxy)
    # The paper's second proxy: GRPO on its own verdict, from the start checkpoint or after SFT.
    proxy_rl = rl.stage(
        "proxy_rl", policy=taught if c.proxy_training == "sft+rl" else c.proxy, settings=c.proxy_rl,
        train=sets / "proxy_rl.parquet", validation=sets / "proxy_rl_val.parquet",
    )  # fmt: skip
    ways: dict[str, tuple[list[Stage], str | Output]] = {
        "none": ([], c.proxy),
        "sft": (sft_stages, taught),
        "rl": ([proxy_rl], proxy_rl / c.proxy_rl.chosen),
        "sft+rl": ([*sft_stages, proxy_rl], proxy_rl / c.proxy_rl.chosen),
    }
    return ways[c.proxy_training]


@dataclass(frozen=True)
class Sets(split.Settings):
    """Rows of each training set; the defaults are the paper's, and some to validate on. The proxy's RL set is cut off
    even where it is not trained so, which makes the other choice need no other split."""

    proxy_sft: int = split.rows_of("right", "swift-proxy", 5_000)
    proxy_sft_val: int = split.rows_of("right", "swift-proxy", 256)
    proxy_rl: int = split.rows_of("right", "verl-proxy", 10_000)
    proxy_rl_val: int = split.rows_of("right", "verl-proxy", 256)
    grm_sft: int = split.rows_of("right", "swift-grm", 10_000)
    grm_sft_val: int = split.rows_of("right", "swift-grm", 256)
    grm_rl: int = split.rows_of("wrong", "verl", 35_000)
    grm_rl_val: int = split.rows_of("wrong", "verl", 256)


@dataclass(frozen=True)
class Config:
    pairs: str
    """Pairs folder to train on."""
    held_out: str
    """Pairs folder to evaluate on."""
    policy: str
    """Start checkpoint of the reward model."""
    proxy: str
    """Start checkpoint of the proxy."""
    distill: distill.Settings
    split: Sets
    proxy_sft: sft.Settings
    proxy_rl: rl.Settings
    grm_sft: sft.Settings
    grm_rl: rl_with_proxy.Settings
    evaluate: evaluate.Settings
    transfer: transfer.Settings
    benchmarks: benchmarks.Settings
    report: report.Settings
    proxy_training: Literal["none", "sft", "rl", "sft+rl"] = "sft"
    """How the proxy learns to judge by a rubric: the paper's Proxy-SFT, its Proxy-RL (GRPO from the start checkpoint),
    GRPO after SFT, or not at all. The paper found Proxy-SFT to be the best judge."""


QWEN_3B = "Qwen/Qwen2.5-VL-3B-Instruct"
QWEN_7B = "Qwen/Qwen2.5-VL-7B-Instruct"


def paper() -> Config:
    """The published recipe: Qwen2.5-VL-7B policy and proxy, hyper-parameters of the authors' released scripts, which
    are the settings' defaults."""
    node = Resources(gpus_per_node=8, cpus_per_task=64, mem_gb=900, timeout_min=1440)
    half = replace(node, gpus_per_node=4, cpus_per_task=32, mem_gb=450, timeout_min=480)
    one_gpu = replace(node, gpus_per_node=1, cpus_per_task=16, mem_gb=200, timeout_min=240)
    proxy = ProxySettings(replicas=2, tensor_parallel_size=4, max_num_seqs=64)
    return Config(
        pairs="data/pairs",
        held_out="data/held_out",
        policy=QWEN_7B,
        proxy=QWEN_7B,
        distill=distill.Settings(teacher="Qwen/Qwen3-VL-235B-A22B-Instruct", shards=4, on=node),
        split=Sets(on=Resources(cpus_per_task=8, mem_gb=64, timeout_min=60)),
        proxy_sft=sft.Settings(on=half),
        proxy_rl=rl.Settings(on=node).for_proxy(max_response_length=4096),
        grm_sft=sft.Settings(on=half),
        grm_rl=rl_with_proxy.Settings(proxy=proxy, proxy_nodes=1, on=replace(node, nodes=2, timeout_min=2880)),
        # The proxy reasons as the teacher does, who has as many tokens.
        evaluate=evaluate.Settings(proxy_max_tokens=4096, on=one_gpu),
        transfer=transfer.Settings(judge=QWEN_3B, proxy_max_tokens=4096, on=one_gpu),
        benchmarks=benchmarks.Settings(on=replace(one_gpu, timeout_min=720)),
        report=report.Settings(on=Resources(cpus_per_task=2, mem_gb=8, timeout_min=20)),
    )


def demo() -> Config:
    """The same chain on drawn images with a tiny randomly initialised Qwen2.5-VL, on CPUs."""
    small = Resources(cpus_per_task=1, mem_gb=4, timeout_min=15)
    one_gpu = replace(small, gpus_per_node=1, cpus_per_task=2, mem_gb=8, timeout_min=30)
    training = replace(one_gpu, cpus_per_task=4, mem_gb=16)
    drawn = drawn_pairs.INPUTS.folder
    sets = Sets(
        proxy_sft=1250, proxy_sft_val=32, proxy_rl=80, proxy_rl_val=16,
        grm_sft=1250, grm_sft_val=32, grm_rl=80, grm_rl_val=16, on=small,
    )  # fmt: skip
    return Config(
        pairs=str(drawn / "pairs"),
        held_out=str(drawn / "held_out"),
        policy=str(drawn / drawn_pairs.MODEL),
        proxy=str(drawn / drawn_pairs.MODEL),
        distill=distill.Settings(shards=2, concurrency=16, max_tokens=256, timeout_s=30.0, on=small),
        split=sets,
        proxy_sft=replace(sft.Settings.demo(max_steps=400), on=one_gpu),
        proxy_rl=replace(rl.Settings.demo(max_steps=8).for_proxy(max_response_length=64), on=training),
        grm_sft=replace(sft.Settings.demo(max_steps=350), on=one_gpu),
        grm_rl=replace(
            rl_with_proxy.Settings.demo(), proxy=ProxySettings.demo(), proxy_nodes=1, on=replace(training, nodes=2)
        ),
        evaluate=evaluate.Settings(max_tokens=160, proxy_max_tokens=64, max_model_len=1024, on=one_gpu),
        transfer=transfer.Settings(proxy_max_tokens=64, max_model_len=1024, on=one_gpu),
        benchmarks=replace(benchmarks.Settings.demo(drawn / "benchmarks"), on=one_gpu),
        report=report.Settings(on=small),
    )


def quick() -> Config:
    """The demo with a few steps of everything: enough to write well-formed critiques, not to judge well."""
    c, early = demo(), ProxyAgreement(early_rubric=True)
    return replace(
        c,
        proxy_sft=replace(c.proxy_sft, max_steps=100),
        grm_sft=replace(c.grm_sft, max_steps=60),
        # A proxy of 100 steps does not always give a verdict; the full demo's limit would stop the run. Early rubrics,
        # so that the option is tried here as part of a chain.
        grm_rl=replace(
            c.grm_rl, max_steps=2, save_steps=2, eval_steps=2, temperature=1.0, max_no_verdict=0.9, reward=early
        ),
        evaluate=replace(c.evaluate, max_pairs=8),
        benchmarks=replace(c.benchmarks, max_pairs=8),
    )


REPORT = Report(
    title="Proxy-GRM run",
    stages={
        "distill": "teacher's critiques",
        "split": "training sets",
        "proxy_sft": "proxy, SFT",
        "proxy_rl": "proxy, RL",
        "grm_sft": "reward model, SFT",
        "grm_rl": "reward model, RL",
        "evaluate_shards": "held-out pairs, in shards",
        "evaluate": "held-out pairs",
        "transfer": "rubric transfer",
        "report": "this page",
        **benchmarks.titles("benchmarks"),
    },
    results=Results("evaluate/summary.json", models={"start": "before training", "sft": "after SFT", "rl": "after RL"}),
    benchmarks=benchmarks.summaries("benchmarks"),
    counts="split/report.json",
    transfer="transfer/transfer.json",
    rollouts="grm_rl/metrics.jsonl",
    page="report/report.html",
)

RECIPE = Recipe(
    name="proxy_grm",
    chain=chain,
    presets={"paper": paper, "demo": demo, "quick": quick},
    # An ablation's cells have RL for themselves, and of what evaluation judges, only what differs.
    sweep=Sweep(
        per_cell={
            "grm_rl": PerCell("ablation_rl", throttled=True),
            "evaluate_shards": PerCell("ablation_evaluate_shards", needs=("held_out", "proxy", "rl")),
            "evaluate": PerCell("ablation_evaluate", needs=("held_out", "proxy", "rl", "answers")),
        },
        left_out=("report", "transfer", *benchmarks.titles("benchmarks")),
        table=CellTable(
            "evaluate/summary.json",
            model="rl",
            figures=("accuracy", "both_orders_accuracy", "format_rate", "proxy_agreement"),
            seed="grm_rl.seed",
            title="policy of each cell on held-out pairs",
        ),
    ),
    nodes=("grm_rl",),
    report=REPORT,
    demo_inputs=drawn_pairs.INPUTS,
    ablations=str(Path(__file__).parent / "ablations" / "proxy_grm"),
)
