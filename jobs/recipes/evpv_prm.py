"""EVPV-PRM: labelled solutions -> teacher -> vision SFT -> DPO -> step judge -> scored candidates -> best of N, report.

A step's verdict is scaled by how reliably its solution reads the image (arXiv 2603.16253). What a stage does is in the
file of that name under jobs/stages.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from jobs.engine.recipe import Recipe
from jobs.engine.stage import Output, Stage
from jobs.recipes import evpv_studies
from jobs.recipes.drawn_pairs import MODEL
from jobs.recipes.drawn_solutions import INPUTS
from jobs.recipes.evpv_prm_report import REPORT
from jobs.recipes.evpv_teaching import labelled_steps, taught_sets
from jobs.stages import checks, report
from jobs.stages.data import labelled_steps as labelled
from jobs.stages.data import process_sets as training
from jobs.stages.data import solutions, step_teacher
from jobs.stages.data.served_teacher import RULE_BASED
from jobs.stages.measuring import best_of_n, calibration, perception
from jobs.stages.measuring import process_benchmark as benchmark
from jobs.stages.measuring import process_sample as sample
from jobs.stages.measuring import process_score as score
from jobs.stages.training import merge, sft
from proxygrm.core.errors import UserError
from slurm.sbatch import Resources


def chain(c: Config) -> list[Stage]:
    """Solutions whose steps are labelled in, a step judge that knows how well an image was read, measured, out."""
    prm_data = solutions.stage("prm_data", release=c.release, settings=c.prm_data)
    rows = prm_data / "solutions"

    # The teacher describes each image and judges each step; it contradicts its own descriptions, for preferences, and
    # audits what solutions claim to see.
    taught, sets = taught_sets(c, rows)

    trained: list[Stage] = []

    def train(name: str, start: str | Output, rows: str) -> Output:
        """Its model; with LoRA a merge makes it."""
        held_out = sets / f"{rows}_val.jsonl" if c.training_sets.validation else None
        data, settings = sets / f"{rows}.jsonl", getattr(c, name)
        one = sft.stage(name, start=start, data=data, validation=held_out, settings=settings)
        stages, model = merge.trained(one, start=start)
        trained.extend(stages)
        return model

    # Who describes learns the descriptions, then to prefer them to contradicted ones. Who judges starts from there and
    # audits too, or a separate model does. Each training starts from the model of the one before.
    extractor = train("extractor_sft", c.start, "vision_sft")
    if c.preference == "dpo":
        extractor = train("extractor_dpo", extractor, "vision_dpo")
    judge = train("judge_sft", extractor, "step_judge")
    auditor = train("auditor_sft", extractor, "audit") if c.training_sets.auditor == "separate" else judge

    # Measured by the candidate that its scores choose, with the gate and without, and by people's labels of steps.
    questions = checks.json_lines(c.questions)
    images = checks.NamedImages(c.images or str(Path(c.questions).parent), rows=c.questions)
    candidates = sample.stage("sampled_candidates", questions=questions, images=images, settings=c.sampled_candidates)
    scored = score.stage(
        "scored_candidates", solutions=candidates / "policy.jsonl", images=images, settings=c.scored_candidates,
        judge=judge, extractor=extractor, auditor=auditor,
    )  # fmt: skip
    chosen = best_of_n.stage("chosen_candidates", scored=scored / "scored.jsonl", settings=c.chosen_candidates)
    calibrated = calibration.stage("calibration", scored=scored / "scored.jsonl", settings=c.calibration)
    reported, studied = [chosen], [calibrated]
    if c.visualprocessbench:
        steps = benchmark.stage(
            "process_benchmark", judge=judge, extractor=extractor, data=c.visualprocessbench,
            settings=c.process_benchmark,
        )  # fmt: skip
        reported.append(steps)
    if c.intervenes:
        shown_images = perception.stage(
            "perception", questions=questions, images=images, policy=c.sampled_candidates.policy,
            extractor=extractor, settings=c.perception,
        )  # fmt: skip
        studied.append(shown_images)
    if c.labelled_release:
        made, rows, images_of_rows = labelled_steps(c)
        scored_steps = score.stage(
            "scored_steps", solutions=rows, images=images_of_rows, settings=c.scored_candidates,
            judge=judge, extractor=extractor, auditor=auditor,
        )  # fmt: skip
        of_steps = replace(c.calibration, against="steps")
        calibrated = calibration.stage("step_calibration", scored=scored_steps / "scored.jsonl", settings=of_steps)
        studied += [*made, scored_steps, calibrated]
    page = report.stage("report", shows=[*reported, sets], settings=c.report)
    return [prm_data, *taught, sets, *trained, candidates, scored, *reported, *studied, page]


@dataclass(frozen=True)
class Config:
    release: str
    """VisualPRM400K as released: its folder."""
    start: str
    """The checkpoint that learns to describe, then to judge."""
    questions: str
    """JSONL of {question, image, answer, datasource}: what candidates are sampled of."""
    visualprocessbench: str
    """VisualProcessBench as released: test.jsonl or its folder; empty: left out."""
    prm_data: solutions.Settings
    described_images: step_teacher.Settings
    teacher_verdicts: step_teacher.Settings
    contradicted_images: step_teacher.Settings
    audited_claims: step_teacher.Settings
    training_sets: training.Settings
    """`auditor` says who learns to audit: `judge`, the model that judges; `separate`, one of its own; `none`."""
    extractor_sft: sft.Settings
    extractor_dpo: sft.Settings
    judge_sft: sft.Settings
    auditor_sft: sft.Settings
    sampled_candidates: sample.Settings
    scored_candidates: score.Settings
    chosen_candidates: best_of_n.Settings
    process_benchmark: benchmark.Settings
    calibration: calibration.Settings
    perception: perception.Settings
    report: report.Settings
    preference: Literal["dpo", "none"] = "dpo"
    """Whether who describes also learns from contradicted descriptions."""
    labelled_release: str = ""
    """Labelled solutions that nothing was trained on, as released: are visual steps of a low reliability wrong? Empty:
    the final answers of the candidates alone say what it is worth."""
    labelled_solutions: solutions.Settings = field(default_factory=solutions.Settings)
    labelled_steps: labelled.Settings = field(default_factory=labelled.Settings)
    intervenes: bool = False
    """Whether the policy also answers with a description, with a corrupted one, and with nothing (ablation
    `perception`)."""
    images: str = ""
    """Folder of the images that the questions name; empty: that of their file."""

    def __post_init__(self) -> None:
        learned, scored = self.training_sets.history, self.scored_candidates.history
        if learned != scored and not self.scored_candidates.judge:
            raise UserError(
                f"scored_candidates.history is {scored}, and training_sets.history {learned}: the judge would be asked "
                "with other earlier steps than it learns from; set both alike",
                code="settings.contradiction", name="scored_candidates.history", value=scored,
            )  # fmt: skip


def paper() -> Config:
    """What is of the authors' scripts is marked, and what of ours differs from it."""
    node = Resources(gpus_per_node=8, cpus_per_task=64, mem_gb=900, timeout_min=2880)
    half = replace(node, gpus_per_node=4, cpus_per_task=32, mem_gb=450, timeout_min=1440)
    one_gpu = replace(node, gpus_per_node=1, cpus_per_task=16, mem_gb=200, timeout_min=1440)
    small = Resources(cpus_per_task=16, mem_gb=64, timeout_min=480)
    lora = sft.Settings(  # all authors, the number of GPUs too; save_steps evaluates as well
        tuner_type="lora", lora_rank=8, lora_alpha=32.0, target_modules=("all-linear",),
        freeze_vit=True, freeze_aligner=True, learning_rate=1e-4, num_train_epochs=1, warmup_ratio=0.05,
        per_device_train_batch_size=1, gradient_accumulation_steps=1, max_length=8192, torch_dtype="bfloat16",
        attn_implementation="flash_attention_2", max_pixels=1024 * 28 * 28, deepspeed="",
        save_steps=200, save_total_limit=5, logging_steps=10, dataloader_num_workers=16,
        extra_args=("packing=true", "padding_free=true", "vit_gradient_checkpointing=false"), on=half,
    )  # fmt: skip
    teacher = step_teacher.Settings(
        teacher="Qwen/Qwen3-VL-235B-A22B-Instruct", shards=4, timeout_s=180.0, on=node
    )  # authors: model, 180 s
    return Config(
        release="data/VisualPRM400K-v1.1",  # authors: seven subsets of v1.0, of which their script can read one
        start="Qwen/Qwen2.5-VL-7B-Instruct",  # authors
        questions="data/benchmarks/benchmarks.jsonl",  # authors: 10,167 questions in their repository
        visualprocessbench="data/VisualProcessBench",
        prm_data=solutions.Settings(shards=64, on=small),  # ours: all solutions; theirs: one pair for each image
        described_images=replace(teacher, temperature=0.7, top_p=0.8, max_tokens=4096),  # authors; tries are ours
        teacher_verdicts=replace(teacher, temperature=0.1, top_p=0.9, max_tokens=8192),  # authors; 3 tries of a request
        contradicted_images=replace(teacher, temperature=0.8, top_p=0.95, max_tokens=2048),  # of their perception study
        audited_claims=replace(teacher, max_tokens=2048),  # ours: they train no auditor
        training_sets=training.Settings(validation=0.01, on=small),  # authors' of both SFTs; ours: by image, for DPO
        extractor_sft=lora,
        extractor_dpo=replace(  # authors: no packing, no warm-up; beta 0.1 and the sigmoid loss are ms-swift's
            lora, command="rlhf", rlhf_type="dpo", freeze_aligner=False, gradient_accumulation_steps=2,
            warmup_ratio=0.0, extra_args=(),
            dataloader_num_workers=4, attn_implementation="auto",  # ours
        ),
        judge_sft=replace(lora, step_judge=True, dataloader_num_workers=1),  # authors
        auditor_sft=lora,  # ours: they train no auditor
        sampled_candidates=sample.Settings(  # authors: temperature from 1.05 to 1.45, top_p from 0.7 to 0.9
            policy="OpenGVLab/InternVL2_5-8B", temperature=1.2, top_p=0.8, on=one_gpu
        ),
        scored_candidates=score.Settings(temperature=0.1, on=one_gpu),  # authors; ours: 32 earlier steps, not 12
        chosen_candidates=best_of_n.Settings(on=small),
        process_benchmark=benchmark.Settings(on=one_gpu),  # ours: asked as trained; theirs: ablation judge-settings
        calibration=calibration.Settings(on=small),
        perception=perception.Settings(temperature=0.2, top_p=0.9, solve_tokens=2048, on=one_gpu),  # authors
        report=report.Settings(on=Resources(cpus_per_task=2, mem_gb=8, timeout_min=20)),
    )  # fmt: skip


def demo() -> Config:
    """The same chain on drawn solutions with a tiny randomly initialised Qwen2.5-VL, on CPUs. Teacher, policy and
    auditor are rules behind the HTTP API of real ones. Random weights have all to learn, so two trainings are full."""
    small = Resources(cpus_per_task=1, mem_gb=4, timeout_min=15)
    one_gpu = replace(small, gpus_per_node=1, cpus_per_task=2, mem_gb=8, timeout_min=30)
    drawn, teacher = INPUTS.folder, step_teacher.Settings(max_tokens=256, concurrency=16, timeout_s=30.0, on=small)
    full = replace(sft.Settings.demo(), max_pixels=56 * 56, on=one_gpu)
    return Config(
        release=str(drawn / "release"),
        start=str(drawn / MODEL),
        questions=str(drawn / "questions" / "questions.jsonl"),
        visualprocessbench=str(drawn / "visualprocessbench"),
        labelled_release=str(drawn / "held_out"),
        labelled_solutions=solutions.Settings(shards=2, on=small),
        labelled_steps=labelled.Settings(on=small),
        prm_data=solutions.Settings(shards=2, on=small),
        described_images=teacher,
        teacher_verdicts=teacher,
        contradicted_images=teacher,
        audited_claims=teacher,
        training_sets=training.Settings(auditor="none", validation=0.0, balance=1.0, shards=2, on=small),
        extractor_sft=replace(full, max_steps=150),
        extractor_dpo=replace(
            full, command="rlhf", rlhf_type="dpo", tuner_type="lora", learning_rate=5e-4, max_steps=20,
            per_device_train_batch_size=8,
        ),
        judge_sft=replace(full, step_judge=True, max_steps=700),
        auditor_sft=replace(full, max_steps=200),
        sampled_candidates=sample.Settings(max_tokens=256, on=small),
        scored_candidates=score.Settings(
            auditor=RULE_BASED, description_tokens=48, audit_tokens=96, verdict_tokens=4, max_model_len=1024, on=one_gpu
        ),
        chosen_candidates=best_of_n.Settings(aggregators=("correctness_rate", "mean"), on=small),
        process_benchmark=benchmark.Settings(
            description_tokens=48, verdict_tokens=4, max_model_len=1024, on=one_gpu
        ),
        calibration=calibration.Settings(on=small),
        perception=perception.Settings(extractor="rule-based", temperature=1.0, solve_tokens=256, on=small),
        report=report.Settings(on=small),
    )  # fmt: skip


def quick() -> Config:
    """The demo with a few steps of everything: enough to run, not to learn."""
    c = demo()
    return replace(
        c, extractor_sft=replace(c.extractor_sft, max_steps=20), extractor_dpo=replace(c.extractor_dpo, max_steps=2),
        judge_sft=replace(c.judge_sft, max_steps=20), auditor_sft=replace(c.auditor_sft, max_steps=20),
        sampled_candidates=replace(c.sampled_candidates, candidates=2, max_questions=4),
        process_benchmark=replace(c.process_benchmark, max_pairs=4),
        perception=replace(c.perception, max_questions=4),
    )  # fmt: skip


RECIPE = Recipe(
    name="evpv-prm",
    chain=chain,
    presets={"paper": paper, "demo": demo, "quick": quick},
    sweep=evpv_studies.SWEEP,
    sweeps=evpv_studies.SWEEPS,
    report=REPORT,
    demo_inputs=INPUTS,
    ablations=str(Path(__file__).parent / "ablations" / "evpv_prm"),
)  # fmt: skip
