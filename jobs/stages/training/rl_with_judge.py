"""RL whose reward asks a consistency judge: `rl` with the judge as one of its services."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobs.engine.stage import Output, Stage
from jobs.stages.training import rl
from proxygrm.rewards.consistency import JUDGE
from proxygrm.serving.services.command import CommandServer

RULE_BASED = ("{python}", "-m", "proxygrm.demo.consistency_judge", "--address", "{address}", "--port", "{port}")
"""The demo's stand-in: a rule, no model."""


@dataclass(frozen=True)
class ConsistencyJudge:
    """The server that is asked whether reasoning and answer agree: any that speaks OpenAI's chat API."""

    command: tuple[str, ...] = RULE_BASED
    """Its words; {model}, {address}, {port} and {python} are filled in."""
    model: str = ""
    """Checkpoint that the command serves, by path or hub name; empty: none."""
    nodes: int = 0
    """Nodes of its own; 0: beside each trainer, on the last `gpus` of its GPUs."""
    gpus: int = 0
    """Of each replica."""
    api_key_variable: str = "SERVICE_API_KEY"
    """Variable in which the server finds the key that its callers send."""

    def service(self) -> CommandServer:
        return CommandServer(
            name=JUDGE,
            command=self.command,
            needs={"model": self.model} if self.model else {},
            nodes=self.nodes,
            gpus=self.gpus,
            api_key_variable=self.api_key_variable,
        )


@dataclass(frozen=True)
class Settings(rl.Settings):
    judge: ConsistencyJudge = field(default_factory=ConsistencyJudge)
    """Not started for a reward that does not ask it."""


def stage(name: str, *, policy: str | Output, train: Output, validation: Output, settings: Settings) -> Stage:
    """As `rl.stage`."""
    services = (settings.judge.service(),) if settings.reward.asks == JUDGE else ()
    return rl.stage(name, policy=policy, train=train, validation=validation, settings=settings, services=services)
