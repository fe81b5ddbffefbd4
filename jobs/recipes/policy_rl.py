"""Policy RL: questions -> RL of the policy that answers them, rewarded by their answers and a reward model -> report.

BaseReward's authors (arXiv 2509.16127) train Qwen2.5-VL-3B by GRPO with three rewards: a rule, their reward model's raw
score, and a hybrid of both. What they state are the numbers of `paper`; what they leave open is marked there as our
choice. What a stage does is in the file of that name under jobs/stages.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jobs.engine.demo_inputs import DemoInputs
from jobs.engine.recipe import CellTable, PerCell, Recipe, Sweep
from jobs.engine.stage import Output, Stage
from jobs.recipes import base_reward, drawn_pairs
from jobs.stages import checks, report
from jobs.stages.data import policy_questions, preferences
from jobs.stages.measuring import policy_answers
from jobs.stages.training import merge, rl_with_reward_model, sft
from proxygrm.core.errors import UserError
from proxygrm.report.contents import Column, Report, Results
from proxygrm.rewards.answers import SERVICE, Hybrid
from slurm.sbatch import Resources


def chain(c: Config) -> list[Stage]:
    """Questions in, a policy that answers them, measured by two judges, and a report out."""
    steps = getattr(c.rl_policy.reward, "steps", False)  # what a model that judges steps is to be shown
    questions = policy_questions.stage("ask", questions=c.questions, images=c.images, settings=c.ask, steps=steps)

    # Where no reward model is given, a scalar one is trained of preference pairs, as base-reward does (see --reuse).
    training, models = given_or_trained(c)

    # A policy that cannot answer yet is shown some answers first.
    starting, start = started(c, questions)

    trained = rl_with_reward_model.stage(
        "rl_policy", policy=start, reward_model=models["reward"], images=questions / "images",
        train=questions / "train.parquet", validation=questions / "validation.parquet", settings=c.rl_policy,
    )  # fmt: skip

    # Held-out questions, before and after: by their answers, by the reward of the training, and by a judge that took
    # no part in it.
    measured = policy_answers.stage(
        "measure", questions=questions / "held_out.jsonl", images=questions / "images",
        policies={"start": start, "rl": trained / c.rl_policy.chosen},
        judges={name: model for name, model in models.items() if model},
        instruction=c.ask.instruction, settings=c.measure,
        steps=steps, kinds={"reward": c.rl_policy.servers.kind}, helpers=c.rl_policy.servers.helpers,
    )  # fmt: skip
    page = report.stage("report", shows=[questions, measured], settings=c.report)
    return [questions, *training, *starting, trained, measured, page]


def given_or_trained(c: Config) -> tuple[list[Stage], dict[str, str | Output]]:
    """The reward model and the second judge, and the stages that train them; "" for what there is not."""
    models: dict[str, str | Output] = {"reward": c.reward_model, "second": c.second_judge}
    if c.rl_policy.reward.asks != SERVICE:
        return [], models | {"reward": ""}
    if c.reward_model:
        return [], models
    rows = preferences.stage("preferences", pairs=checks.pairs(c.pairs), settings=c.preferences)
    trained = {"reward": ("train_1", c.train)}
    if c.second_seed and not c.second_judge:
        trained["second"] = ("train_2", replace(c.train, seed=c.second_seed))
    stages = [rows]
    for judge, (name, settings) in trained.items():
        one = sft.stage(
            name, start=c.backbone, settings=settings, data=rows / "train.jsonl",
            validation=rows / "validation.jsonl" if c.preferences.validation else None,
        )  # fmt: skip
        more, models[judge] = merge.trained(one, start=c.backbone)
        stages += more
    return stages, models


def started(c: Config, questions: Stage) -> tuple[list[Stage], str | Output]:
    """The policy that RL starts from."""
    if not c.ask.cold_start:
        return [], c.policy
    start_sft = sft.stage("start_sft", start=c.policy, settings=c.start_sft, data=questions / "cold_start.jsonl")
    return merge.trained(start_sft, start=c.policy)


@dataclass(frozen=True)
class Config:
    questions: str
    """JSONL of {question, images, answer?}: docs/policy-rl.md."""
    policy: str
    """Start checkpoint of the policy, by path or hub name."""
    reward_model: str
    """A reward model of any kind, by path or hub name; empty: a scalar one is trained of `pairs`."""
    second_judge: str
    """A reward model or a judge that takes no part in training, by path or hub name; empty: none."""
    ask: policy_questions.Settings
    start_sft: sft.Settings
    rl_policy: rl_with_reward_model.Settings
    measure: policy_answers.Settings
    report: report.Settings
    pairs: str
    """Pairs folder for the reward model that is trained here."""
    backbone: str
    """Start checkpoint of the reward model that is trained here."""
    preferences: preferences.Settings
    train: sft.Settings
    second_seed: int = 0
    """Of a second judge that is trained as the reward model is, where that is trained here; 0: none."""
    images: str = ""
    """Folder of the images that the questions name; empty: that of their file."""

    def __post_init__(self) -> None:
        if self.rl_policy.reward.asks == SERVICE and not (self.reward_model or self.pairs):
            raise UserError(
                f"rl_policy.reward={self.rl_policy.reward.kind} asks a reward model; give reward_model, or pairs to "
                "train one of",
                code="settings.contradiction", name="reward_model", value="",
            )  # fmt: skip


def paper() -> Config:
    """Stated: the policy, GRPO, 8 rollouts, batch 256, one epoch, the hybrid reward. Our choice: learning rate and KL
    of the suite's other recipes, lengths, the box around the answer, the nodes, and who is the second judge."""
    node = Resources(gpus_per_node=8, cpus_per_task=64, mem_gb=900, timeout_min=2880)
    one_gpu = replace(node, gpus_per_node=1, cpus_per_task=16, mem_gb=200, timeout_min=480)
    small = Resources(cpus_per_task=8, mem_gb=64, timeout_min=240)
    scalar = base_reward.paper()
    return Config(
        questions="data/questions.jsonl",
        policy="Qwen/Qwen2.5-VL-3B-Instruct",
        reward_model="models/base-reward",
        second_judge="Qwen/Qwen2.5-VL-7B-Instruct",
        ask=policy_questions.Settings(instruction="Write the final answer as \\boxed{...}.", on=small),
        start_sft=sft.Settings(on=replace(node, gpus_per_node=4)),
        rl_policy=rl_with_reward_model.Settings(
            reward=Hybrid(), ppo_mini_batch_size=256, n=8, max_response_length=2048,
            servers=rl_with_reward_model.RewardModelServers(nodes=1, replicas=8, gpus=8),
            on=replace(node, nodes=2),
        ),
        measure=policy_answers.Settings(max_tokens=2048, on=one_gpu),
        report=report.Settings(on=Resources(cpus_per_task=2, mem_gb=8, timeout_min=20)),
        pairs="",
        backbone=base_reward.QWEN_2_5_7B,
        preferences=scalar.preferences,
        train=scalar.train,
    )  # fmt: skip


def demo() -> Config:
    """A tiny policy answers about the colour of drawn shapes, rewarded by the scalar model of base-reward's demo."""
    small = Resources(cpus_per_task=1, mem_gb=4, timeout_min=15)
    one_gpu = replace(small, gpus_per_node=1, cpus_per_task=2, mem_gb=8, timeout_min=30)
    # The same pairs and model as there, so --reuse takes that training.
    drawn, scalar = INPUTS.folder, base_reward.demo()
    training = rl_with_reward_model.Settings.demo(max_steps=24)
    return Config(
        questions=str(drawn / "questions.jsonl"),
        policy=str(drawn / drawn_pairs.MODEL),
        reward_model="",
        second_judge="",
        ask=policy_questions.Settings(held_out=160, validation=32, cold_start=160, on=small),
        start_sft=replace(sft.Settings.demo(max_steps=60), save_steps=60, on=one_gpu),
        rl_policy=replace(
            training, reward=Hybrid(), max_prompt_length=128, max_response_length=8, max_num_seqs=80,
            servers=rl_with_reward_model.RewardModelServers(nodes=1, max_model_len=1024),
            on=replace(one_gpu, nodes=2, cpus_per_task=4, mem_gb=16),
        ),
        measure=policy_answers.Settings(max_tokens=8, critique_tokens=160, max_model_len=1024, on=one_gpu),
        report=report.Settings(on=small),
        pairs=str(drawn / "pairs"),
        backbone=str(drawn / drawn_pairs.MODEL),
        preferences=scalar.preferences,
        train=scalar.train,
        second_seed=1,
    )  # fmt: skip


def quick() -> Config:
    """The demo with a few steps of everything: enough to run, not to learn."""
    c = demo()
    return replace(
        c, second_seed=0, train=replace(c.train, max_steps=2, save_steps=2),
        ask=replace(c.ask, held_out=16, validation=8), start_sft=replace(c.start_sft, max_steps=30, save_steps=30),
        rl_policy=replace(c.rl_policy, max_steps=1, save_steps=1, eval_steps=0),
    )  # fmt: skip


def draw(folder: Path) -> None:
    """Questions, beside the pairs and the model that base-reward's demo has."""
    from data_tools.sources.demo_questions import write_demo_questions

    drawn_pairs.draw(folder)
    write_demo_questions(folder, **QUESTIONS)


QUESTIONS: dict[str, Any] = {"count": 720, "seed": 0, "fog": 0.2}
INPUTS = DemoInputs("demo-inputs-questions", stamp={**drawn_pairs.STAMP, "questions": QUESTIONS}, draw=draw)
COLUMNS = (
    Column("Questions", "questions", count=True, help="held-out questions"),
    Column("Accuracy", "accuracy", interval=True, help="answers that match; 95 % Wilson interval in brackets"),
    Column("Reward", "reward_value", interval=True, help="mean sigmoid of the training reward model's score"),
    Column("Second judge", "second_value", interval=True, help="the same by a judge that took no part in training"),
    Column("Wins", "reward_wins", interval=True, help="over the start policy, by the training's reward model"),
    Column("Second's wins", "second_wins", interval=True, help="the same by the second judge"),
    Column("Empty", "empty", count=True, help="answers without text"),
    Column("Unjudged", "reward_unjudged", count=True, help="answers that the reward model did not judge"),
)
REPORT = Report(
    title="Policy run",
    stages={
        "ask": "questions",
        "preferences": "reward model's rows",
        "train_1": "reward model",
        "train_2": "second judge",
        "start_sft": "policy, SFT",
        "rl_policy": "policy, RL",
        "measure": "held-out questions",
        "report": "this page",
    },
    results=Results(
        "measure/summary.json",
        models={"start": "before RL", "rl": "after RL"},
        title="Held-out questions",
        heading="Results on held-out questions",
        note="A rise by the training's reward alone, and not by answers or the second judge, is over-optimisation.",
        columns=COLUMNS,
    ),
    counts="ask/report.json",
    rollouts="rl_policy/metrics.jsonl",
    page="report/report.html",
)
RECIPE = Recipe(
    name="policy-rl",
    chain=chain,
    presets={"paper": paper, "demo": demo, "quick": quick},
    sweep=Sweep(
        per_cell={"rl_policy": PerCell("ablation_rl", throttled=True), "measure": PerCell("ablation_measure")},
        left_out=("report",),
        table=CellTable(
            "measure/summary.json",
            model="rl",
            figures=("accuracy", "reward_value", "reward_wins", "second_value", "second_wins"),
            seed="rl_policy.seed",
            title="policy of each cell on held-out questions",
        ),
    ),
    nodes=("rl_policy",),
    ablations=str(Path(__file__).parent / "ablations" / "policy_rl"),
    report=REPORT,
    demo_inputs=INPUTS,
)
