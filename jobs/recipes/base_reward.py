"""BaseReward: preference pairs -> scalar reward models of one or several backbones -> ensemble -> benchmarks -> report.

The paper (arXiv 2509.16127) has no released code. What it states are the numbers of `paper`; what it leaves open is
marked there as our choice. What a stage does is in the file of that name under jobs/stages.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from jobs.engine.recipe import CellTable, PerCell, Recipe, Sweep
from jobs.engine.stage import Given, Output, Stage
from jobs.recipes import drawn_pairs
from jobs.stages import checks, export, report
from jobs.stages.data import mix, preferences
from jobs.stages.measuring import benchmarks, ensemble, evaluate
from jobs.stages.training import merge, sft
from proxygrm.core.errors import UserError
from proxygrm.critique.contracts import PROXY_GRM
from proxygrm.evaluate.settings import AS_GIVEN
from proxygrm.report.contents import SCORE_COLUMNS, Report, Results
from slurm.sbatch import Resources


def chain(c: Config) -> list[Stage]:
    """Preference pairs in, scored reward models with their cards and a report out."""
    mixture, pairs = training_pairs(c)
    rows = preferences.stage("preferences", pairs=pairs, settings=c.preferences)

    # One scalar model of each backbone, on the same rows.
    models: dict[str, str | Output] = {}
    training: list[Stage] = []
    for number, (name, backbone) in enumerate(c.names.items(), 1):
        one = sft.stage(
            f"train_{number}", start=backbone, settings=c.train, data=rows / "train.jsonl",
            validation=rows / "validation.jsonl" if c.preferences.validation else None,
        )  # fmt: skip
        stages, models[name] = merge.trained(one, start=backbone)
        training += stages

    # Held-out pairs, once each: a score does not depend on the order of the responses.
    held_out = checks.pairs(c.held_out)
    judging = evaluate.stages("evaluate", held_out=held_out, models=models, settings=c.evaluate)
    # The papers' benchmarks, as far as their data is given.
    judged = benchmarks.stages("benchmarks", models=models, settings=c.benchmarks)
    # What an ensemble's weights are taken from: pairs that were held off from training.
    weighing: list[Stage] = []
    if c.ensemble.validated and len(models) > 1:
        weighing = evaluate.stages("weigh", held_out=rows / "validation", models=models, settings=c.evaluate)

    together = ensemble.stage(
        "ensemble", held_out=judging[-1] / "summary.json", benchmarks=benchmarks.by_benchmark("benchmarks", judged),
        validation=weighing[-1] / "summary.json" if weighing else None, settings=c.ensemble,
    )  # fmt: skip
    cards = export.stage(
        "export", models=models, backbones=c.names, training=c.train, rows=rows / "report.json",
        scores=together, on=c.ensemble.on,
    )  # fmt: skip
    page = report.stage("report", shows=[together, cards], settings=c.report)
    return [*mixture, rows, *training, *judging, *judged, *weighing, together, cards, page]


def training_pairs(c: Config) -> tuple[list[Stage], Given | Output]:
    """The pairs folder that is given, or the mixture of several."""
    if c.pairs:
        return [], checks.pairs(c.pairs)
    mixture = mix.stage("mix", settings=c.mix)
    return [mixture], mixture / "pairs"


@dataclass(frozen=True)
class Config:
    pairs: str
    """Pairs folder to train on; empty: the mixture that `mix` makes."""
    held_out: str
    """Pairs folder to evaluate on."""
    backbones: tuple[str, ...]
    """Start checkpoints, by path or hub name: a scalar model is trained of each, and several judge together too."""
    mix: mix.Settings
    preferences: preferences.Settings
    train: sft.Settings
    """Of every backbone. The batch of a step is per_device_train_batch_size x gradient_accumulation_steps x GPUs."""
    evaluate: evaluate.Settings
    benchmarks: benchmarks.Settings
    ensemble: ensemble.Settings
    report: report.Settings

    def __post_init__(self) -> None:
        if not self.backbones or len(self.names) < len(self.backbones):
            raise UserError(
                f"backbones is {','.join(self.backbones) or 'empty'}; give checkpoints whose last folders have "
                "different names: they name the models",
                code="settings.contradiction", name="backbones", value=self.backbones,
            )  # fmt: skip
        for name, settings in (("evaluate", self.evaluate), ("benchmarks", self.benchmarks)):
            _refuse_of_writers(name, settings)
        if self.ensemble.validated and not self.preferences.validation:
            raise UserError(
                f"ensemble.weights={self.ensemble.weights} is taken from pairs that are held off from training; set "
                "preferences.validation above 0, or ensemble.weights=mean",
                code="settings.contradiction", name="ensemble.weights", value=self.ensemble.weights,
            )  # fmt: skip

    @property
    def names(self) -> dict[str, str]:
        """Start checkpoint of each model, by the model's name."""
        if len(self.backbones) == 1:
            return {SINGLE: self.backbones[0]}
        return {Path(backbone).name: backbone for backbone in self.backbones}


def _refuse_of_writers(stage: str, settings: evaluate.Settings) -> None:
    wanted = {"orders": AS_GIVEN, "votes": 1, "judge": "", "contract": PROXY_GRM}
    for name, value in wanted.items():
        if (given := getattr(settings, name)) != value:
            raise UserError(
                f"{stage}.{name} is {given!r}, which is for models that write: these give a score, once; leave it out",
                code="settings.contradiction", name=f"{stage}.{name}", value=given,
            )  # fmt: skip


SINGLE = "model"
"""The name of a model without others."""
BACKBONES = 4
"""As many have titles in the report."""
QWEN_2_5_7B, QWEN_2_7B = "Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen2-VL-7B-Instruct"


def paper() -> Config:
    """Stated: the backbones, two layers with SiLU, the plain Bradley-Terry loss, learning rate 3e-6, batch 128, 64
    GPUs, the plain mean of the scores, 1,000 validation pairs. Our choice: one epoch, cosine after 3 % of warm-up,
    weight decay 0.1, all weights trained, 8,192 tokens, about a megapixel, and what base-reward.toml marks."""
    node = Resources(gpus_per_node=8, cpus_per_task=64, mem_gb=900, timeout_min=2880)
    one_gpu = replace(node, gpus_per_node=1, cpus_per_task=16, mem_gb=200, timeout_min=480)
    small = Resources(cpus_per_task=8, mem_gb=64, timeout_min=240)
    training = sft.Settings(
        command="rlhf", rlhf_type="rm", model_type="", learning_rate=3e-6, warmup_ratio=0.03, save_steps=1000,
        per_device_train_batch_size=2, on=replace(node, nodes=8),
    )  # fmt: skip
    return Config(
        pairs="",
        held_out="data/held_out",
        backbones=(QWEN_2_5_7B, QWEN_2_7B),
        mix=mix.Settings(spec="base-reward", root="data", on=replace(small, cpus_per_task=32, mem_gb=128)),
        preferences=preferences.Settings(on=small),
        train=training,
        evaluate=evaluate.Settings(orders=AS_GIVEN, on=one_gpu),
        benchmarks=benchmarks.Settings(orders=AS_GIVEN, on=one_gpu),
        ensemble=ensemble.Settings(on=replace(small, timeout_min=30)),
        report=report.Settings(on=Resources(cpus_per_task=2, mem_gb=8, timeout_min=20)),
    )


def demo() -> Config:
    """One scalar model of a tiny randomly initialised Qwen2.5-VL, on drawn images, on CPUs."""
    small = Resources(cpus_per_task=1, mem_gb=4, timeout_min=15)
    one_gpu = replace(small, gpus_per_node=1, cpus_per_task=2, mem_gb=8, timeout_min=30)
    drawn, settings = drawn_pairs.INPUTS.folder, sft.Settings.demo(max_steps=300)
    return Config(
        pairs=str(drawn / "pairs"),
        held_out=str(drawn / "held_out"),
        backbones=(str(drawn / drawn_pairs.MODEL),),
        mix=mix.Settings(on=small),
        preferences=preferences.Settings(validation=64, shards=2, on=small),
        train=replace(settings, command="rlhf", rlhf_type="rm", model_type="", on=one_gpu),
        evaluate=evaluate.Settings(orders=AS_GIVEN, max_model_len=1024, on=one_gpu),
        benchmarks=replace(benchmarks.Settings.demo(drawn / "benchmarks"), orders=AS_GIVEN, on=one_gpu),
        ensemble=ensemble.Settings(on=small),
        report=report.Settings(on=small),
    )


def quick() -> Config:
    """The demo with a few steps: enough for scores, not for good ones."""
    c = demo()
    return replace(
        c,
        train=replace(c.train, max_steps=4, save_steps=2),
        evaluate=replace(c.evaluate, max_pairs=8),
        benchmarks=replace(c.benchmarks, max_pairs=8),
    )


REPORT = Report(
    title="BaseReward run",
    stages={
        "mix": "mixture of the sources",
        "preferences": "training rows",
        **{f"train_{number}": f"reward model {number}" for number in range(1, BACKBONES + 1)},
        **{f"train_{number}_merge": f"reward model {number}, merged" for number in range(1, BACKBONES + 1)},
        "evaluate_shards": "held-out pairs, in shards",
        "evaluate": "held-out pairs",
        "weigh": "pairs for the weights",
        "weigh_shards": "pairs for the weights, in shards",
        "ensemble": "each model, and all together",
        "export": "models with their cards",
        "report": "this page",
        **benchmarks.titles("benchmarks"),
    },
    results=Results(
        "ensemble/summary.json",
        models={SINGLE: "reward model"},
        title="Held-out pairs",
        note="Every pair is scored once. Intervals are 95 % Wilson score intervals with the pair as the trial.",
        columns=SCORE_COLUMNS,
    ),
    benchmarks=tuple(f"ensemble/{name}/summary.json" for name in benchmarks.NAMES),
    counts="preferences/report.json",
    page="report/report.html",
)

RECIPE = Recipe(
    name="base-reward",
    chain=chain,
    presets={"paper": paper, "demo": demo, "quick": quick},
    # A cell trains and evaluates for itself, one backbone in the shipped specs; sources may differ too.
    sweep=Sweep(
        per_cell={
            "train_1": PerCell("ablation_train", throttled=True),
            "evaluate_shards": PerCell("ablation_evaluate_shards"),
            "evaluate": PerCell("ablation_evaluate"),
        },
        left_out=("ensemble", "export", "report", "weigh", "weigh_shards", *benchmarks.titles("benchmarks")),
        table=CellTable(
            "evaluate/summary.json",
            model=SINGLE,
            figures=("accuracy", "accuracy_low", "accuracy_high"),
            seed="train.seed",
            title="reward model of each cell on held-out pairs",
        ),
    ),
    nodes=("train",),
    report=REPORT,
    ablations=str(Path(__file__).parent / "ablations" / "base_reward"),
    demo_inputs=drawn_pairs.INPUTS,
)
