"""The chain: distill -> split -> SFT of proxy and reward model -> RL with the proxy's reward -> evaluate -> transfer
-> report.

READ THIS FILE FIRST. Every stage says what it needs, what it makes and where it runs; the job graph follows
from `needs` alone. What a stage does is in the file of that name under jobs/stages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from jobs.engine import sweep
from jobs.engine.recipe import Recipe
from jobs.engine.stage import Artifact, Given, Output, Stage
from jobs.stages import distill, evaluate, fits, report, rl, sft, split, transfer
from proxygrm.core.bounds import require
from proxygrm.core.checkpoints.check import is_hf_checkpoint
from proxygrm.core.checkpoints.code import LoadableCheckpoint
from proxygrm.evaluate.settings import EvaluateSettings
from proxygrm.rl.config import RlSettings
from proxygrm.serving.settings import ProxySettings
from proxygrm.sft.arguments import SftSettings
from slurm.sbatch import Resources


def chain(x: Experiment) -> list[Stage]:
    """Preference pairs in, a trained and evaluated reward model with its report out."""
    pairs = Given(x.pairs, check=split.pairs_folder)
    held_out = Given(x.held_out, check=split.pairs_folder)
    teacher = {} if distill.is_service(x.teacher) else {"teacher": _model(x, x.teacher, "distill")}

    # The teacher writes a critique for every pair. Pairs it judges right teach; pairs it gets wrong are the
    # hard ones that RL learns from.
    critiques = Stage(
        name="distill",
        run=distill.write_critiques,
        needs={"pairs": pairs, **teacher},
        makes=(Artifact("critiques"),),
        on=x.on.distill,
        validate=distill.validate,
        config=distill.Settings(x.teacher, x.shards, x.distill, x.teacher_model),
        prompts=("grm",),
        array=x.shards,
    )
    splits = Stage(
        name="split",
        run=split.write_splits,
        needs={"pairs": pairs, "critiques": critiques / "critiques"},
        makes=(
            Artifact("proxy_sft.jsonl"),
            Artifact("proxy_rl.parquet"),
            Artifact("proxy_rl_val.parquet"),
            Artifact("grm_sft.jsonl"),
            Artifact("grm_rl.parquet"),
            Artifact("grm_rl_val.parquet"),
        ),
        on=x.on.split,
        validate=fits.on_one_node,
        config=x.split,
        prompts=("grm", "proxy"),
    )

    # The proxy learns to judge from a rubric; the reward model gets its cold start. Both at once.
    proxy_sft = Stage(
        name="proxy_sft",
        run=sft.train,
        needs={"start": _model(x, x.proxy, "proxy_sft"), "data": splits / "proxy_sft.jsonl"},
        makes=(Artifact("model", check=is_hf_checkpoint),),
        on=x.on.proxy_sft,
        validate=fits.on_one_node,
        config=x.proxy_sft,
    )
    grm_sft = Stage(
        name="grm_sft",
        run=sft.train,
        needs={"start": _model(x, x.policy, "grm_sft"), "data": splits / "grm_sft.jsonl"},
        makes=(Artifact("model", check=is_hf_checkpoint),),
        on=x.on.grm_sft,
        validate=fits.on_one_node,
        config=x.grm_sft,
    )

    # The paper's second proxy: GRPO on its own verdict, from the start checkpoint or after SFT.
    proxy_rl = Stage(
        name="proxy_rl",
        run=rl.train_grpo,
        needs={
            "policy": proxy_sft / "model" if x.proxy_training == "sft+rl" else _model(x, x.proxy, "proxy_rl"),
            "train": splits / "proxy_rl.parquet",
            "validation": splits / "proxy_rl_val.parquet",
        },
        makes=(Artifact("policy", check=is_hf_checkpoint), Artifact("metrics.jsonl")),
        on=x.on.proxy_rl,
        validate=rl.validate,
        config=rl.Settings(grpo=x.proxy_rl),
    )
    ways: dict[str, tuple[list[Stage], Output | None]] = {
        "none": ([], None),
        "sft": ([proxy_sft], proxy_sft / "model"),
        "rl": ([proxy_rl], proxy_rl / "policy"),
        "sft+rl": ([proxy_sft, proxy_rl], proxy_rl / "policy"),
    }
    proxy_stages, trained = ways[x.proxy_training]

    def judge(loads: str) -> Given | Output:
        """The proxy, for the stage whose settings are called `loads`."""
        return trained or _model(x, x.proxy, loads)

    # GRPO: the reward is accuracy + agreement of the frozen proxy, which sees the rubric only, + format.
    grm_rl = Stage(
        name="grm_rl",
        run=rl.train_grpo,
        needs={
            "policy": grm_sft / "model",
            "proxy": judge("proxy_server"),
            "train": splits / "grm_rl.parquet",
            "validation": splits / "grm_rl_val.parquet",
        },
        makes=(Artifact("policy", check=is_hf_checkpoint), Artifact("metrics.jsonl")),
        on=x.on.grm_rl,
        validate=rl.validate,
        config=rl.Settings(grpo=x.rl, proxy=x.proxy_server, proxy_nodes=x.proxy_nodes),
        prompts=("proxy", "proxy_verdict") if x.proxy_server.mode == "verdict" else ("proxy",),
    )

    # Held-out pairs, both response orders: before training, after SFT, after RL.
    scores = Stage(
        name="evaluate",
        run=evaluate.judge_held_out,
        needs={
            "held_out": held_out,
            "proxy": judge("evaluate"),
            "start": _model(x, x.policy, "evaluate"),
            "sft": grm_sft / "model",
            "rl": grm_rl / "policy",
        },
        makes=(Artifact("summary.json"),),
        on=x.on.evaluate,
        validate=evaluate.validate,
        config=x.evaluate,
        prompts=("grm", "proxy"),
    )
    # Do the rubrics help a judge that took no part in training? Without one, the proxy is asked, and the table says so.
    gains = Stage(
        name="transfer",
        run=transfer.measure,
        needs={
            "judge": _model(x, x.judge, "transfer") if x.judge else judge("transfer"),
            "judged": scores / "summary.json",
        },
        makes=(Artifact("transfer.json"),),
        on=x.on.transfer,
        validate=transfer.validate,
        config=transfer.Settings.of(x.judge, x.transfer),
        prompts=("proxy", "proxy_bare"),
    )
    page = Stage(
        name="report",
        run=report.write_page,
        needs={"summary": scores / "summary.json", "transfer": gains / "transfer.json"},
        makes=(Artifact("report.html"),),
        on=x.on.report,
    )
    return [critiques, splits, *proxy_stages, grm_sft, grm_rl, scores, gains, page]


def _model(x: Experiment, path: str, loads: str) -> Given:
    """A checkpoint that somebody else made. loads: the settings that say whether its code, if any, is run."""
    option = f"--set {loads}.trust_remote_code=true"
    return Given(path, check=LoadableCheckpoint(option, getattr(x, loads).trust_remote_code))


def ablation_chain(x: Experiment, cells: tuple[sweep.Cell, ...], throttle: int = 0) -> list[Stage]:
    """The same chain for every cell, up to the evaluation of its policy; what cells have in common is made once."""
    chains = [(cell, chain(sweep.experiment(x, cell))) for cell in cells]
    return sweep.cell_stages(chain(x), chains, REPEATS, throttle)


REPEATS = sweep.Repeats(
    of_a_cell={
        "grm_rl": sweep.OfACell("ablation_rl", throttled=True),
        "evaluate": sweep.OfACell("ablation_evaluate", needs=("held_out", "proxy", "rl")),
    },
    left_out=("report", "transfer"),
)
"""What an ablation's cells have for themselves: RL, and of what evaluation judges, only what differs."""

DEMO_INPUTS = Path(__file__).parents[2] / ".local" / "demo-inputs"
QWEN_3B = "Qwen/Qwen2.5-VL-3B-Instruct"
QWEN_7B = "Qwen/Qwen2.5-VL-7B-Instruct"
QWEN_235B = "Qwen/Qwen3-VL-235B-A22B-Instruct"


@dataclass(frozen=True)
class StageResources:
    """What each stage asks of the scheduler."""

    distill: Resources
    split: Resources
    proxy_sft: Resources
    proxy_rl: Resources
    grm_sft: Resources
    grm_rl: Resources
    evaluate: Resources
    transfer: Resources
    report: Resources


@dataclass(frozen=True)
class Experiment:
    """pairs, held_out: pairs folders. policy, proxy: start checkpoints. teacher: checkpoint, URL or rule-based;
    teacher_model: of a URL, the name to ask for.
    judge: a checkpoint that takes no part in training, for rubric transfer; empty takes the proxy, and says so."""

    name: str
    pairs: str
    held_out: str
    policy: str
    proxy: str
    teacher: str
    teacher_model: str
    judge: str
    shards: int
    distill: distill.Sampling
    split: split.Settings
    proxy_training: Literal["none", "sft", "rl", "sft+rl"]
    """How the proxy learns to judge by a rubric: the paper's Proxy-SFT, its Proxy-RL (GRPO from the start checkpoint),
    GRPO after SFT, or not at all. The paper found Proxy-SFT to be the best judge."""
    proxy_sft: SftSettings
    proxy_rl: RlSettings
    grm_sft: SftSettings
    rl: RlSettings
    proxy_server: ProxySettings
    proxy_nodes: int
    """Nodes of the RL job that serve the proxy and do not train; with one node in all, its GPUs are shared."""
    evaluate: EvaluateSettings
    transfer: EvaluateSettings
    on: StageResources

    def __post_init__(self) -> None:
        require("experiment", self, from_one=("shards",), from_zero=("proxy_nodes",))


def paper() -> Experiment:
    """The published recipe: Qwen2.5-VL-7B policy and proxy, hyper-parameters of the authors' released scripts."""
    eight = Resources(nodes=1, gpus_per_node=8, cpus_per_node=64, memory_gb=900, walltime_min=1440)
    return Experiment(
        name="paper",
        pairs="data/pairs",
        held_out="data/held_out",
        policy=QWEN_7B,
        proxy=QWEN_7B,
        teacher=QWEN_235B,
        teacher_model="teacher",
        judge=QWEN_3B,
        shards=4,
        distill=distill.Sampling(),
        split=split.Settings(),
        proxy_training="sft",
        proxy_sft=SftSettings.paper(),
        proxy_rl=RlSettings.paper().for_proxy(response_length=4096),
        grm_sft=SftSettings.paper(),
        rl=RlSettings.paper(),
        proxy_server=ProxySettings(replicas=2, tensor_parallel=4, max_num_seqs=64),
        proxy_nodes=1,
        evaluate=EvaluateSettings(proxy_max_tokens=4096),  # it reasons as the teacher does, who has as many
        transfer=EvaluateSettings(proxy_max_tokens=4096),
        on=StageResources(
            distill=eight,
            split=Resources(cpus_per_node=8, memory_gb=64, walltime_min=60),
            proxy_sft=replace(eight, gpus_per_node=4, cpus_per_node=32, memory_gb=450, walltime_min=480),
            proxy_rl=eight,
            grm_sft=replace(eight, gpus_per_node=4, cpus_per_node=32, memory_gb=450, walltime_min=480),
            grm_rl=replace(eight, nodes=2, walltime_min=2880),
            evaluate=replace(eight, gpus_per_node=1, cpus_per_node=16, memory_gb=200, walltime_min=240),
            transfer=replace(eight, gpus_per_node=1, cpus_per_node=16, memory_gb=200, walltime_min=240),
            report=Resources(cpus_per_node=2, memory_gb=8, walltime_min=20),
        ),
    )


def demo() -> Experiment:
    """The same chain on drawn pictures with a tiny randomly initialised Qwen2.5-VL, on CPUs."""
    small = Resources(cpus_per_node=1, memory_gb=4, walltime_min=15)
    one_gpu = replace(small, gpus_per_node=1, cpus_per_node=2, memory_gb=8, walltime_min=30)
    return Experiment(
        name="demo",
        pairs=str(DEMO_INPUTS / "pairs"),
        held_out=str(DEMO_INPUTS / "held_out"),
        policy=str(DEMO_INPUTS / "tiny-qwen2.5-vl"),
        proxy=str(DEMO_INPUTS / "tiny-qwen2.5-vl"),
        teacher=distill.RULE_BASED,
        teacher_model="teacher",
        judge="",
        shards=2,
        distill=distill.Sampling(concurrency=16, max_tokens=256, timeout_s=30.0),
        split=split.Settings(proxy_sft=1250, proxy_rl=80, proxy_rl_val=16, grm_sft=1250, grm_rl=80, grm_rl_val=16),
        proxy_training="sft",
        proxy_sft=SftSettings.demo(max_steps=400),
        proxy_rl=RlSettings.demo(total_steps=8).for_proxy(response_length=64),
        grm_sft=SftSettings.demo(max_steps=350),
        rl=RlSettings.demo(),
        proxy_server=ProxySettings(
            replicas=1,
            tensor_parallel=1,
            max_model_len=1024,
            max_num_seqs=32,
            max_tokens=64,
            max_pixels=0,
            call_timeout_s=120.0,
        ),
        proxy_nodes=1,
        evaluate=EvaluateSettings(max_tokens=160, proxy_max_tokens=64, max_model_len=1024),
        transfer=EvaluateSettings(proxy_max_tokens=64, max_model_len=1024),
        on=StageResources(
            distill=small,
            split=small,
            proxy_sft=one_gpu,
            proxy_rl=replace(one_gpu, cpus_per_node=4, memory_gb=16),
            grm_sft=one_gpu,
            grm_rl=replace(one_gpu, nodes=2, cpus_per_node=4, memory_gb=16),
            evaluate=one_gpu,
            transfer=one_gpu,
            report=small,
        ),
    )


def quick() -> Experiment:
    """The demo with a few steps of everything: enough to write critiques to the contract, not to judge well."""
    full = demo()
    return replace(
        full,
        name="quick",
        proxy_sft=replace(full.proxy_sft, max_steps=100),
        grm_sft=replace(full.grm_sft, max_steps=60),
        # A proxy of 100 steps does not always answer to its contract; the full demo's limit would stop the run.
        # Early rubrics, so that the option is tried here as part of a chain.
        rl=replace(full.rl, total_steps=2, save_every=2, temperature=1.0, max_no_verdict=0.9, early_rubric=True),
        evaluate=replace(full.evaluate, max_pairs=8),
    )


EXPERIMENTS: dict[str, Callable[[], Experiment]] = {"paper": paper, "demo": demo, "quick": quick}

RECIPE = Recipe(EXPERIMENTS, chain, ablation_chain, multi_node=("grm_rl",))
