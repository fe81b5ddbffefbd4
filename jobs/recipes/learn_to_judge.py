"""Learn to judge: LLaVA-Critic's tasks -> SFT of a critic -> benchmarks before and after, by comparisons and by scores.

VL-RewardBench (arXiv 2411.17451) found that a critic which learned to score single responses judges better than one
that learned to compare two. `critic_tasks.kinds` chooses what it learns; it is judged by what it has learned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from json import loads
from pathlib import Path
from tempfile import TemporaryDirectory

from jobs.engine.demo_inputs import DemoInputs
from jobs.engine.recipe import Recipe
from jobs.engine.stage import Output, Stage
from jobs.recipes.drawn_pairs import IN_BENCHMARK, MODEL, SEED
from jobs.stages import report
from jobs.stages.data import critic
from jobs.stages.measuring import benchmarks
from jobs.stages.training import merge, sft
from proxygrm.core.pairs import SCHEMA_VERSION
from proxygrm.evaluate.settings import JudgedBy
from proxygrm.report.contents import CRITIC_COLUMNS, Report, Results
from slurm.sbatch import Resources

COMPARISONS, SCORES = 1500, 3000
"""Tasks of the demo."""
TITLES = {"comparing": "comparing two responses", "scoring": "scoring each response"}


def chain(c: Config) -> list[Stage]:
    """A critic's tasks in, the critic and its benchmarks out."""
    tasks = critic.stage("critic_tasks", release=c.release, settings=c.critic_tasks)
    validation = tasks / "validation.jsonl" if c.critic_tasks.validation else None
    training = sft.stage(
        "critic_sft", start=c.start, settings=c.critic_sft, data=tasks / "train.jsonl", validation=validation
    )
    training_stages, trained = merge.trained(training, start=c.start)

    judged: list[Stage] = []
    for name, contract in contracts(c.critic_tasks).items():
        models: dict[str, str | Output] = {f"{name}_before": c.start, f"{name}_after": trained}
        judged += benchmarks.stages(name, models=models, settings=replace(c.benchmarks, contract=contract))
    page = report.stage("report", shows=judged, settings=c.report)
    return [tasks, *training_stages, *judged, page]


def contracts(tasks: critic.Settings) -> dict[str, JudgedBy]:
    """How the critic is judged, by the name of the stages: as it has learned to."""
    by: dict[str, JudgedBy] = {}
    if tasks.kinds != "pointwise":
        by["comparing"] = "r1-ties" if tasks.ties == "keep" else "r1"
    if tasks.kinds != "pairwise":
        by["scoring"] = "pointwise"
    return by


@dataclass(frozen=True)
class Config:
    release: str
    """LLaVA-Critic-113k: the folder of its parquet files."""
    start: str
    """The checkpoint that learns to judge."""
    critic_tasks: critic.Settings
    critic_sft: sft.Settings
    benchmarks: benchmarks.Settings
    """For both ways of judging; a contract given here is not used."""
    report: report.Settings


def paper() -> Config:
    """The paper trained LLaVA-OneVision-7B, once on each kind of task, with hyper-parameters that are not known to us;
    ours are Qwen2.5-VL-7B, one critic for both kinds, and the suite's usual ones. Judging is VL-RewardBench's: five
    samples at temperature 0.2, each comparison in an order of its own."""
    half = Resources(gpus_per_node=4, cpus_per_task=32, mem_gb=450, timeout_min=720)
    return Config(
        release="data/llava-critic-113k",
        start="Qwen/Qwen2.5-VL-7B-Instruct",
        critic_tasks=critic.Settings(on=Resources(cpus_per_task=16, mem_gb=64, timeout_min=120)),
        critic_sft=sft.Settings(gradient_accumulation_steps=8, on=half),
        benchmarks=benchmarks.Settings(
            vl_rewardbench="data/VL-RewardBench",
            max_tokens=2048,
            votes=5,
            temperature=0.2,
            orders="drawn",
            on=Resources(gpus_per_node=1, cpus_per_task=16, mem_gb=200, timeout_min=720),
        ),
        report=report.Settings(on=Resources(cpus_per_task=2, mem_gb=8, timeout_min=20)),
    )


def demo() -> Config:
    """The same chain on drawn tasks with a tiny randomly initialised Qwen2.5-VL, on CPUs; two drawn benchmarks."""
    small = Resources(cpus_per_task=1, mem_gb=4, timeout_min=15)
    one_gpu = replace(small, gpus_per_node=1, cpus_per_task=2, mem_gb=8, timeout_min=30)
    drawn = benchmarks.Settings.demo(INPUTS.folder / "benchmarks")
    return Config(
        release=str(INPUTS.folder / "release"),
        start=str(INPUTS.folder / MODEL),
        critic_tasks=critic.Settings(shards=2, on=small),
        critic_sft=replace(sft.Settings.demo(max_steps=400), on=one_gpu),
        benchmarks=replace(drawn, mm_rlhf_rewardbench="", max_tokens=64, on=one_gpu),
        report=report.Settings(on=small),
    )


def quick() -> Config:
    """The demo with a few steps and pairs of one benchmark: enough to write in the form, not to judge well."""
    c = demo()
    return replace(
        c,
        critic_sft=replace(c.critic_sft, max_steps=60),
        benchmarks=replace(c.benchmarks, multimodal_rewardbench="", max_pairs=8),
    )


def draw(
    folder: Path, comparisons: int = COMPARISONS, scores: int = SCORES, pairs: int = IN_BENCHMARK, seed: int = SEED
) -> None:
    """benchmarks/, release/ in LLaVA-Critic's layout, and a tiny model whose tokenizer knows the words of its tasks."""
    from data_tools.export.critic_rows import CriticOptions
    from data_tools.export.critic_set import write_critic_set
    from data_tools.sources.demo_benchmarks import write_demo_benchmarks
    from data_tools.sources.demo_critic import write_demo_critic
    from proxygrm.demo.model import build_tiny_model

    write_demo_benchmarks(folder / "benchmarks", pairs, seed)
    write_demo_critic(folder / "release", comparisons, scores, seed)
    with TemporaryDirectory() as scratch:
        write_critic_set(folder / "release", Path(scratch), CriticOptions(), validation=0)
        rows = map(loads, (Path(scratch) / "train.jsonl").read_text(encoding="utf-8").splitlines())
        build_tiny_model(folder / MODEL, (turn["content"] for row in rows for turn in row["messages"]), seed=seed)


INPUTS = DemoInputs(
    name="demo-critic",
    stamp={"comparisons": COMPARISONS, "scores": SCORES, "seed": SEED, "recipe": 1, "pairs": SCHEMA_VERSION},
    draw=draw,
)

RECIPE = Recipe(
    name="learn-to-judge",
    chain=chain,
    presets={"paper": paper, "demo": demo, "quick": quick},
    demo_inputs=INPUTS,
    report=Report(
        title="Learning to judge",
        stages={
            "critic_tasks": "a critic's tasks",
            "critic_sft": "critic, SFT",
            "report": "this page",
            **{
                stage: f"{title}, {TITLES[name]}" for name in TITLES for stage, title in benchmarks.titles(name).items()
            },
        },
        results=Results(
            file="comparing_vl_rewardbench/summary.json",
            more=("scoring_vl_rewardbench/summary.json",),
            models={
                f"{name}_{when}": f"{title}, {when}" for name, title in TITLES.items() for when in ("before", "after")
            },
            title="VL-RewardBench, before and after learning to judge",
            heading="VL-RewardBench, before and after",
            note="Intervals are 95 % Wilson score intervals with the pair as the trial.",
            columns=CRITIC_COLUMNS,
        ),
        benchmarks=tuple(file for name in TITLES for file in benchmarks.summaries(name)),
        counts="critic_tasks/critic.json",
        page="report/report.html",
    ),
)
