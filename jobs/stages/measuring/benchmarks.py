"""Benchmarks: those whose data is given, each judged by every model and scored as `eval score` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from jobs.engine.space.amounts import Needs, Space
from jobs.engine.stage import Artifact, Given, Output, Stage, StageRun
from jobs.stages import checks
from jobs.stages.measuring import evaluate
from proxygrm.core.bounds import check_bounds
from proxygrm.evaluate.benchmarks import RELEASED, Benchmark
from proxygrm.evaluate.names import check_file_name
from proxygrm.evaluate.settings import PROMPTS

if TYPE_CHECKING:
    from proxygrm.evaluate.models import Evaluation

PAIRS, SUMMARY = "pairs", "summary.json"
OTHER_NEEDS = ("data", PAIRS, evaluate.ANSWERS)
"""What the stages need beside the models."""


@dataclass(frozen=True)
class Settings(evaluate.Settings):
    """How they are judged, and the path of each: the benchmark as released, or the pairs folder that `proxygrm data
    ingest` made of it. Empty: left out."""

    vl_rewardbench: str = ""
    multimodal_rewardbench: str = ""
    mm_rlhf_rewardbench: str = ""
    rewardbench: str = ""
    rm_bench: str = ""
    video_max_model_len: int = 65536
    """max_model_len where a benchmark has videos, which are 32 images each."""
    video_max_pixels: int = 200704
    """max_pixels where a benchmark has videos."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds("benchmarks", self, from_zero=("video_max_model_len", "video_max_pixels"))

    @classmethod
    def demo(cls, folder: Path) -> Self:
        """The tiny model on the drawn stand-ins, each in a folder of its name."""
        paths: dict[str, Any] = {name: str(folder / name) for name in WITH_IMAGES}
        return cls(max_tokens=160, max_model_len=1024, video_max_model_len=1024, **paths)

    def path_of(self, bench: Benchmark) -> str:
        return str(getattr(self, _field(bench)))

    def judging(self, bench: Benchmark) -> evaluate.Settings:
        """The settings of one benchmark: another one's path is not part of its stage's fingerprint."""
        names = [field.name for field in fields(evaluate.Settings)]
        common = evaluate.Settings(**{name: getattr(self, name) for name in names})
        if not bench.videos:
            return common
        return replace(common, max_model_len=self.video_max_model_len, max_pixels=self.video_max_pixels)


def _field(bench: Benchmark) -> str:
    return bench.name.replace("-", "_")


WITH_IMAGES = tuple(_field(bench) for bench in RELEASED if bench.images)
"""The settings that name benchmarks for models that see."""


NAMES = tuple(_field(bench) for bench in RELEASED)
"""The settings that name a benchmark."""


def titles(name: str) -> dict[str, str]:
    """Title of each stage that there can be, by the stage's name."""
    by_stage = {_stage_name(name, bench): bench.title for bench in RELEASED}
    return by_stage | {f"{stage}_shards": f"{title}, in shards" for stage, title in by_stage.items()}


def summaries(name: str) -> tuple[str, ...]:
    """STAGE/FILE of the scores of each benchmark that there can be, for a report."""
    return tuple(f"{_stage_name(name, bench)}/{SUMMARY}" for bench in RELEASED)


def by_benchmark(name: str, stages: Sequence[Stage]) -> dict[str, Output]:
    """The scores of each of `stages` that makes some, by the setting that names the benchmark."""
    made = {stage.name: stage / SUMMARY for stage in stages if any(each.path == SUMMARY for each in stage.makes)}
    return {stage.removeprefix(f"{name}_"): output for stage, output in made.items()}


def stages(name: str, *, models: Mapping[str, str | Output], settings: Settings) -> list[Stage]:
    """For each benchmark a stage NAME_BENCHMARK, which makes `summary.json` and MODEL.jsonl of each; with several
    shards, the array NAME_BENCHMARK_shards comes before it. models: by their names, in the order they are judged in."""
    for model in models:
        check_file_name(model, reserved=OTHER_NEEDS)
    given = [bench for bench in RELEASED if settings.path_of(bench)]
    return [stage for bench in given for stage in _of_benchmark(name, bench, models, settings)]


def _of_benchmark(name: str, bench: Benchmark, models: Mapping[str, str | Output], settings: Settings) -> list[Stage]:
    from data_tools.ingest.benchmark import check_benchmark

    check = partial(check_benchmark, bench.name, settings.missing_images)
    data = Given(settings.path_of(bench), check, made_by=f"proxygrm data ingest {bench.name} PATH --out {{path}}")
    trusted = settings.trust_remote_code
    whole = Stage(
        name=_stage_name(name, bench),
        run=partial(judge_and_score, bench.name),
        needs={"data": data, **{label: checks.checkpoint(model, name, trusted) for label, model in models.items()}},
        makes=(Artifact(SUMMARY),),
        on=settings.on,
        validate=evaluate.validate,
        config=settings.judging(bench),
        prompts=(PROMPTS[settings.contract],),
        disk=partial(disk, bench),
    )
    return evaluate.in_shards(whole, settings.shards, partial(judge, bench.name), partial(score, bench.name))


def disk(bench: Benchmark, stage: Stage, need: Needs) -> Space:
    """The pairs with their images, and the answers of each model."""
    data, merges = need("data"), evaluate.ANSWERS in stage.needs
    rows = data.rows or max(revision.rows for revision in bench.revisions)
    models = sum(label not in OTHER_NEEDS for label in stage.needs)
    answers = evaluate.answers_space(stage, rows, models, stage.config.max_tokens)
    return Space(answers.size + (0 if merges else data.size), answers.makes)


def judge_and_score(bench: str, run: StageRun) -> None:
    from proxygrm.evaluate.models import judge_models, merge_models

    evaluation = _evaluation(bench, run, run.out)
    judge_models(evaluation, progress=run.progress)
    merge_models(evaluation, run.out)


def judge(bench: str, run: StageRun) -> None:
    """One shard."""
    from proxygrm.evaluate.models import judge_models

    judge_models(_evaluation(bench, run, run.out), run.cell, run.stage.array, run.progress)


def score(bench: str, run: StageRun) -> None:
    from proxygrm.evaluate.models import merge_models

    merge_models(_evaluation(bench, run, run.inputs[evaluate.ANSWERS].parent), run.out)


def _evaluation(bench: str, run: StageRun, folder: Path) -> Evaluation:
    """folder: of the stage that judges; its pairs and answers are there."""
    from data_tools.ingest.benchmark import blank_name, pairs_of_benchmark
    from proxygrm.evaluate.models import Evaluation

    pairs = pairs_of_benchmark(bench, run.inputs["data"], folder / PAIRS, run.config.missing_images)
    models = {label: path for label, path in run.inputs.items() if label not in OTHER_NEEDS}
    return Evaluation(models, None, pairs, folder / evaluate.ANSWERS, run.config, bench, blank_name())


def _stage_name(name: str, bench: Benchmark) -> str:
    return f"{name}_{_field(bench)}"
