"""Step teacher: a teacher describes the images of solutions, judges their steps, plants errors in descriptions, or
audits what solutions say of images. An array element a shard, resumed at the call."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.engine.space.amounts import TOKEN, Amount, Needs, Space, Unknown
from jobs.engine.stage import Artifact, Given, Output, Stage, StageRun
from jobs.stages.data import served_teacher
from jobs.stages.data.served_teacher import PROCESS_RULES, TeacherSettings
from proxygrm.core.bounds import check_bounds
from proxygrm.core.settings import values_of
from proxygrm.evaluate.process.teach.asks import PROMPTS, Asks, Inputs
from proxygrm.evaluate.settings import EvaluateSettings

ANSWERS = "answers"
ROW = 500
"""Bytes of an answer's other fields."""


@dataclass(frozen=True)
class Settings(TeacherSettings):
    tries: int = 3
    """At the most, each with another seed, until an answer can be used. What no try brings is counted and left out."""
    temperature: float = 0.1
    """0: greedy, with one try."""
    top_p: float = 0.9
    """Answers are drawn from the most probable tokens, of this probability together."""
    max_failed: float = 0.02
    """Share of the calls that may get no answer at all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds("teacher", self, positive=("top_p",), shares=("top_p", "max_failed"))
        self.need_temperature(1, "another try is asked what the first was")


@dataclass(frozen=True)
class Asked(Settings):
    """What the stage is made of: its settings, and what the teacher is asked."""

    asks: Asks = "describe"
    """Which of the four calls."""


def stage(
    name: str,
    *,
    asks: Asks,
    solutions: Given | Output,
    settings: Settings,
    descriptions: Given | Output | None = None,
    judgements: Given | Output | None = None,
    contradictions: Given | Output | None = None,
) -> Stage:
    """asks: `describe` the images; `judge` the steps and `contradict` the descriptions, which need descriptions;
    `audit` claims, which needs descriptions, judgements and contradictions. Makes `answers`, a folder with a JSONL file
    per shard."""
    rows = {"descriptions": descriptions, "judgements": judgements, "contradictions": contradictions}
    given = {label: need for label, need in rows.items() if need is not None}
    return Stage(
        name=name,
        run=ask,
        needs={"solutions": solutions, **given, **served_teacher.needs(settings, name)},
        makes=(Artifact(ANSWERS),),
        on=settings.on,
        validate=served_teacher.validate,
        config=Asked(**values_of(settings, Settings), asks=asks),
        prompts=(PROMPTS[asks],),
        array=settings.shards,
        leftovers=(f"{ANSWERS}/calls",),
        disk=disk,
    )


def ask(run: StageRun) -> None:
    from proxygrm.evaluate.judges.endpoint import Endpoint, EndpointCalls
    from proxygrm.evaluate.process.teach.run import Teaching, teach

    settings: Asked = run.config
    rows = {label: run.inputs.get(label) for label in ("descriptions", "judgements", "contradictions")}
    sampling = EvaluateSettings(
        max_tokens=settings.max_tokens, temperature=settings.temperature, top_p=settings.top_p, seed=settings.seed
    )
    with served_teacher.called(run, PROCESS_RULES) as teacher:
        endpoint = Endpoint(
            teacher.url,
            teacher.model,
            settings.concurrency,
            settings.timeout_s,
            api_key_file=teacher.api_key_file or "",
        )
        teaching = Teaching(
            asks=settings.asks,
            given=Inputs(run.inputs["solutions"], **rows),
            out=run.out / ANSWERS,
            model=teacher.model,
            tries=settings.tries,
            max_tokens=settings.max_tokens,
            seed=settings.seed,
            max_failed=settings.max_failed,
            index=run.cell,
            shards=settings.shards,
        )
        teach(teaching, EndpointCalls(endpoint, sampling), run.progress)


def disk(stage: Stage, need: Needs) -> Space:
    """Every answer as it came, of all tries, and its row."""
    settings: Asked = stage.config
    rows = need("solutions").rows
    if not rows:
        raise Unknown("how many solutions there are")
    answer = settings.max_tokens * TOKEN + ROW
    return Space(rows * answer * (settings.tries + 1), {ANSWERS: Amount(rows * answer, rows)})
