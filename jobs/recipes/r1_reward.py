"""R1-Reward: distill with tries -> split -> SFT -> StableReinforce with the consistency reward -> evaluate -> report.

The judge reasons, then says 1 or 2 (arXiv 2505.02835). What a stage does is in the file of that name under jobs/stages.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from jobs.engine.recipe import CellTable, PerCell, Recipe, Sweep
from jobs.engine.stage import Output, Stage
from jobs.recipes import drawn_pairs
from jobs.stages import checks, report
from jobs.stages.data import distill, split
from jobs.stages.measuring import benchmarks, evaluate
from jobs.stages.training import merge, rl_with_judge, sft
from proxygrm.critique.contracts import R1
from proxygrm.report.contents import JUDGE_COLUMNS, Report, Results
from proxygrm.rewards.consistency import Consistency
from proxygrm.rl.algorithms.stable_reinforce import StableReinforce
from slurm.sbatch import Resources


def chain(c: Config) -> list[Stage]:
    """Preference pairs in, a judge that reasons, evaluated, with its report out."""
    # The teacher tries each pair until it is right. What came right teaches; what did not at once is for RL.
    pairs = checks.pairs(c.pairs)
    judgements = distill.stage("distill", pairs=pairs, settings=c.distill)
    sets = split.stage("split", pairs=pairs, critiques=judgements / "critiques", settings=c.split)
    released, rows = rl_rows(c, sets)

    r1_sft = sft.stage(
        "r1_sft", start=c.policy, settings=c.r1_sft,
        data=sets / "r1_sft.jsonl", validation=sets / "r1_sft_val.jsonl",
    )  # fmt: skip
    sft_stages, taught = merge.trained(r1_sft, start=c.policy)

    # The reward: the right digit, the format, and whether a judge finds that the reasoning leads to the digit.
    r1_rl = rl_with_judge.stage(
        "r1_rl", policy=taught, settings=c.r1_rl,
        train=rows / "r1_rl.parquet", validation=rows / "r1_rl_val.parquet",
    )  # fmt: skip

    # Held-out pairs and benchmarks: before training, after SFT, and the trained judge.
    models: dict[str, str | Output] = {"start": c.policy, "sft": taught, "trained": r1_rl / c.r1_rl.chosen}
    trained = [*sft_stages, *released, r1_rl]
    if c.training == "sft":
        models, trained = {"start": c.policy, "trained": taught}, sft_stages
    judging = evaluate.stages("evaluate", held_out=checks.pairs(c.held_out), models=models, settings=c.evaluate)
    scores = benchmarks.stages("benchmarks", models=models, settings=c.benchmarks)
    page = report.stage("report", shows=[judging[-1], *scores], settings=c.report)
    return [judgements, sets, *trained, *judging, *scores, page]


def rl_rows(c: Config, sets: Stage) -> tuple[list[Stage], Stage]:
    """What RL learns from: the pairs that were hard for the teacher, or those that the authors released."""
    if not c.released:
        return [], sets
    rows = split.stage("released", pairs=checks.pairs(c.released), critiques=None, settings=c.released_sets)
    return [rows], rows


@dataclass(frozen=True)
class Sets(split.Settings):
    """Rows of each training set. A pair that was right at the second or third try may be in `r1_sft` and `r1_rl`."""

    r1_sft: int = split.rows_of("right", "swift-r1", 180_000)
    r1_sft_val: int = split.rows_of("right", "swift-r1", 256)
    r1_rl: int = split.rows_of("hard", "verl-r1", 17_000, beside="r1_sft")
    r1_rl_val: int = split.rows_of("hard", "verl-r1", 256)


@dataclass(frozen=True)
class ReleasedSets(split.Settings):
    """Rows for RL of R1-Reward-RL."""

    r1_rl: int = split.rows_of("all", "verl-r1", 17_000)
    r1_rl_val: int = split.rows_of("all", "verl-r1", 256)


@dataclass(frozen=True)
class Config:
    pairs: str
    """Pairs folder to train on."""
    held_out: str
    """Pairs folder to evaluate on."""
    policy: str
    """Start checkpoint."""
    distill: distill.Settings
    split: Sets
    r1_sft: sft.Settings
    r1_rl: rl_with_judge.Settings
    evaluate: evaluate.Settings
    benchmarks: benchmarks.Settings
    report: report.Settings
    training: Literal["sft", "sft+rl"] = "sft+rl"
    """The cold start alone, or RL after it."""
    released: str = ""
    """Pairs folder of R1-Reward-RL (`data ingest r1-reward-rl`), which RL then learns from; empty: the hard pairs."""
    released_sets: ReleasedSets = field(default_factory=ReleasedSets)


QWEN_7B = "Qwen/Qwen2.5-VL-7B-Instruct"
VLLM = (
    "vllm", "serve", "{model}", "--host", "{address}", "--port", "{port}", "--max-model-len", "8192",
    "--limit-mm-per-prompt", '{"image":0,"video":0}', "--data-parallel-size", "4",
)  # fmt: skip


def paper() -> Config:
    """Each value says whether it follows the paper, the released script, or neither (ours)."""
    node = Resources(gpus_per_node=8, cpus_per_task=64, mem_gb=900, timeout_min=2880)
    half = replace(node, gpus_per_node=4, cpus_per_task=32, mem_gb=450, timeout_min=1440)
    one_gpu = replace(node, gpus_per_node=1, cpus_per_task=16, mem_gb=200, timeout_min=720)
    return Config(
        pairs="data/pairs",
        held_out="data/held_out",
        policy=QWEN_7B,  # paper
        distill=distill.Settings(
            contract=R1,
            tries=3,  # paper
            temperature=0.3,  # ours: at the paper's 0, only the order would differ between tries
            teacher="Qwen/Qwen3-VL-235B-A22B-Instruct",  # ours, open weights; paper: GPT-4o
            shards=4,
            on=node,
        ),
        # ours: all that there is, in these proportions; the paper gives no sizes, the release has 17,261 rows for RL
        split=Sets(short="take", on=Resources(cpus_per_task=8, mem_gb=64, timeout_min=120)),
        released_sets=ReleasedSets(short="take", on=Resources(cpus_per_task=8, mem_gb=64, timeout_min=60)),
        r1_sft=sft.Settings(
            learning_rate=1e-5,  # paper
            num_train_epochs=1,  # paper
            per_device_train_batch_size=2,
            gradient_accumulation_steps=32,  # paper: 256 rows per step, with the 4 GPUs below
            on=half,  # paper: 4 GPUs
        ),
        r1_rl=rl_with_judge.Settings(
            algorithm=StableReinforce(),  # paper: clip 0.2, Pre-CLIP 1000, |z| <= 3; script: rule=code
            reward=Consistency(),  # script: an inconsistent answer counts -1; the paper gives no value
            n=1,  # script: one rollout per prompt
            train_batch_size=256,  # paper and script
            ppo_mini_batch_size=128,  # paper and script
            ppo_micro_batch_size_per_gpu=2,  # script
            learning_rate=1e-6,  # paper; script: 3e-7
            num_train_epochs=5,  # paper; script: 1
            kl_loss_coef=0.0,  # paper; script: 1e-3 in the reward (algorithm.kl_in_reward)
            max_prompt_length=20_480,  # script
            max_response_length=1024,  # script
            temperature=1.0,  # script
            tensor_parallel_size=1,  # script
            eval_steps=10,  # ours
            save_steps=10,  # ours
            judge=rl_with_judge.ConsistencyJudge(VLLM, model=QWEN_7B, gpus=4, api_key_variable="VLLM_API_KEY"),  # paper
            on=node,  # paper: 4 GPUs train; the judge has the other 4
        ),
        evaluate=evaluate.Settings(contract=R1, max_tokens=4096, on=one_gpu),  # script: 4096; ours: both orders
        benchmarks=benchmarks.Settings(contract=R1, max_tokens=4096, on=one_gpu),  # script: the better one always first
        report=report.Settings(on=Resources(cpus_per_task=2, mem_gb=8, timeout_min=20)),
    )


def demo() -> Config:
    """The same chain on drawn images with a tiny randomly initialised Qwen2.5-VL, on CPUs. The teacher and the
    consistency judge are rules behind the HTTP API of real ones."""
    small = Resources(cpus_per_task=1, mem_gb=4, timeout_min=15)
    one_gpu = replace(small, gpus_per_node=1, cpus_per_task=2, mem_gb=8, timeout_min=30)
    drawn = drawn_pairs.JUDGEMENTS.folder
    teacher = distill.Settings(
        contract=R1, tries=3, error_rate=0.3, fog_error_rate=0.8, shards=2, concurrency=16, max_tokens=128,
        timeout_s=30.0, on=small,
    )  # fmt: skip
    training = replace(
        rl_with_judge.Settings.demo(max_steps=16), algorithm=StableReinforce(), reward=Consistency(), n=1,
        train_batch_size=64, ppo_mini_batch_size=32, kl_loss_coef=0.0, max_response_length=64,
        on=replace(one_gpu, cpus_per_task=4, mem_gb=16),
    )  # fmt: skip
    return Config(
        pairs=str(drawn / "pairs"),
        held_out=str(drawn / "held_out"),
        policy=str(drawn / drawn_pairs.MODEL),
        distill=teacher,
        split=Sets(r1_sft=1250, r1_sft_val=32, r1_rl=320, r1_rl_val=16, on=small),
        r1_sft=replace(sft.Settings.demo(max_steps=350), on=one_gpu),
        r1_rl=training,
        evaluate=evaluate.Settings(contract=R1, max_tokens=64, max_model_len=1024, on=one_gpu),
        benchmarks=replace(benchmarks.Settings.demo(drawn / "benchmarks"), contract=R1, max_tokens=64, on=one_gpu),
        report=report.Settings(on=small),
    )


def quick() -> Config:
    """The demo with a few steps of everything: enough to write in the format, not to judge well."""
    c = demo()
    return replace(
        c,
        r1_sft=replace(c.r1_sft, max_steps=60),
        r1_rl=replace(c.r1_rl, max_steps=2, save_steps=2, eval_steps=2, temperature=1.0),
        evaluate=replace(c.evaluate, max_pairs=8),
        benchmarks=replace(c.benchmarks, max_pairs=8),
    )


COLUMNS = tuple(column for column in JUDGE_COLUMNS if column.key not in ("proxy_agreement", "names_winner"))

REPORT = Report(
    title="R1-Reward run",
    stages={
        "distill": "teacher's judgements, up to three tries each", "split": "training sets",
        "released": "the released rows for RL", "r1_sft": "SFT", "r1_rl": "RL with the consistency reward",
        "evaluate_shards": "held-out pairs, in shards", "evaluate": "held-out pairs", "report": "this page",
        **benchmarks.titles("benchmarks"),
    },
    results=Results(
        "evaluate/summary.json", columns=COLUMNS,
        models={"start": "before training", "sft": "after SFT", "trained": "trained judge"},
    ),
    benchmarks=benchmarks.summaries("benchmarks"),
    counts="split/report.json", rollouts="r1_rl/metrics.jsonl", page="report/report.html",
)  # fmt: skip

RECIPE = Recipe(
    name="r1-reward",
    chain=chain,
    presets={"paper": paper, "demo": demo, "quick": quick},
    sweep=Sweep(
        per_cell={
            "r1_rl": PerCell("ablation_rl", throttled=True),
            "evaluate_shards": PerCell("ablation_evaluate_shards", needs=("held_out", "trained")),
            "evaluate": PerCell("ablation_evaluate", needs=("held_out", "trained", "answers")),
        },
        left_out=("report", *benchmarks.titles("benchmarks")),
        table=CellTable(
            "evaluate/summary.json",
            model="trained",
            figures=("accuracy", "both_orders_accuracy", "format_rate"),
            seed="r1_rl.seed",
            title="trained judge of each cell on held-out pairs",
            metrics="r1_rl/metrics.jsonl",
            curves={"loss": "actor/pg_loss", "gradient norm": "actor/grad_norm", "validation": "validation/accuracy"},
        ),
    ),
    nodes=("r1_rl",),
    report=REPORT,
    demo_inputs=drawn_pairs.JUDGEMENTS,
    ablations=str(Path(__file__).parent / "ablations" / "r1_reward"),
)
