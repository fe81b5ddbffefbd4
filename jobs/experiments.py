"""Experiments: functions that return one frozen record of everything a chain is configured with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from jobs import distill, split
from jobs.stage import Resources
from proxygrm.bounds import require
from proxygrm.evaluate.settings import EvaluateSettings
from proxygrm.proxy.settings import ProxySettings
from proxygrm.rl.config import RlSettings
from proxygrm.sft.arguments import SftSettings

DEMO_INPUTS = Path(__file__).parent.parent / ".local" / "demo-inputs"
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
