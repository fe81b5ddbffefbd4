"""Models that a stage calls: a checkpoint in its own process, an endpoint, or the demo's rule-based stand-in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.engine.stage import Given, OnNodes, Output, Stage, StageRun
from jobs.stages import checks
from jobs.stages.data.served_teacher import PROCESS_RULES, RULE_BASED, is_service, rule_based_service
from proxygrm.core.bounds import check_bounds
from proxygrm.core.errors import UserError
from proxygrm.core.settings import values_of
from proxygrm.evaluate.settings import EvaluateSettings
from slurm.profile import Profile

if TYPE_CHECKING:
    from pathlib import Path

    from proxygrm.evaluate.judges.base import Calls


@dataclass(frozen=True)
class CallSettings(OnNodes, EvaluateSettings):
    """Of checkpoints the settings of an evaluation; of endpoints how they are called."""

    concurrency: int = 32
    """Endpoint: parallel calls."""
    timeout_s: float = 300.0
    """Endpoint: of a call."""
    api_key_file: str = ""
    """Endpoint: 0600 file with its key; empty when it wants none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds("calls", self, positive=("timeout_s",), from_one=("concurrency",))

    @property
    def evaluation(self) -> EvaluateSettings:
        return EvaluateSettings(**values_of(self, EvaluateSettings))


def needs(models: Mapping[str, str | Output], stage: str, settings: CallSettings) -> dict[str, Given | Output]:
    """The checkpoints among the models of a stage of this name."""
    return {
        role: checks.checkpoint(model, stage, settings.trust_remote_code)
        for role, model in models.items()
        if isinstance(model, Output) or not is_service(model)
    }


def service_of(model: str | Output) -> str:
    """The URL, or `rule-based`; "" for a checkpoint."""
    return model if isinstance(model, str) and is_service(model) else ""


@contextmanager
def called(
    run: StageRun, services: Mapping[str, str], sampling: Mapping[str, EvaluateSettings] | None = None
) -> Iterator[dict[str, Calls]]:
    """The models by role. services: role -> URL or `rule-based`; "" for the checkpoint that is the run's input of that
    name. sampling: role -> settings, where they are not the stage's.
    The name to ask an endpoint for is the setting ROLE_model. Roles of one model and the same settings share it: it is
    loaded once."""
    from proxygrm.evaluate.judges.endpoint import Endpoint
    from proxygrm.evaluate.judges.select import calls_of

    settings: CallSettings = run.config
    with ExitStack() as stack:
        rules = stack.enter_context(rule_based_service(run, PROCESS_RULES)) if RULE_BASED in services.values() else ""
        sources: dict[str, Path | Endpoint] = {}
        for role, service in services.items():
            if service == RULE_BASED:
                sources[role] = Endpoint(rules, PROCESS_RULES.model, settings.concurrency, settings.timeout_s)
            elif service:
                sources[role] = Endpoint(
                    service,
                    getattr(settings, f"{role}_model"),
                    settings.concurrency,
                    settings.timeout_s,
                    api_key_file=settings.api_key_file,
                )
            else:
                sources[role] = run.inputs[role]
        by_role = {role: (source, (sampling or {}).get(role, settings.evaluation)) for role, source in sources.items()}
        models = {each: calls_of(*each) for each in dict.fromkeys(by_role.values())}
        yield {role: models[each] for role, each in by_role.items()}


def validate(stage: Stage, profile: Profile, *roles: str) -> None:
    """roles: the settings that name a model."""
    settings: CallSettings = stage.config
    checks.on_one_node(stage, profile)
    if stage.needs.keys() & {*roles}:
        checks.serves_here(stage, profile, settings.tensor_parallel_size)
    for role in roles:
        service = getattr(settings, role)
        if is_service(service) and service != RULE_BASED and not getattr(settings, f"{role}_model"):
            raise UserError(
                f"its {role} is an endpoint: say which model to ask for with --set {stage.name}.{role}_model=NAME",
                code="judge.no-model",
                role=role,
                url=service,
            )
