"""RL whose reward asks a reward model: `rl` with `proxygrm serve-reward` as one of its services."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from jobs.engine.stage import Given, Output, Stage
from jobs.stages import checks
from jobs.stages.training import rl
from proxygrm.core.bounds import check_bounds
from proxygrm.critique.contracts import PROXY_GRM, Contract
from proxygrm.rewards.answers import SERVICE, AsksRewardModel
from proxygrm.serving.services.command import CommandServer


@dataclass(frozen=True)
class RewardModelServers:
    """The reward model's servers, one on each of its nodes, each with its own supervised replicas."""

    nodes: int = 0
    """Nodes of its own; 0: beside each trainer, on the last of its GPUs."""
    replicas: int = 1
    """Of each server."""
    gpus: int = 0
    """Of each server, for all its replicas."""
    tensor_parallel_size: int = 1
    """GPUs of each replica of a model that writes."""
    kind: str = ""
    """What the reward model was trained as, as of `serve-reward`; "": as its checkpoint shows."""
    extractor: str = ""
    """A checkpoint, by path or hub name, that describes images for a model that judges steps; "": that model."""
    auditor: str = ""
    """The same, that compares what steps claim with the description."""
    contract: Contract = PROXY_GRM
    """What a model that writes is asked for, as of `serve-reward`."""
    max_model_len: int = 0
    max_pixels: int = 0
    max_tokens: int = 0
    """Of a critique."""
    timeout_s: float = 240.0
    """For one judgement, retries included: less than its callers wait, so that they hear the cause."""
    start_timeout_s: float = 1800.0
    max_restarts: int = 3

    def __post_init__(self) -> None:
        check_bounds(
            "reward model", self, from_one=("replicas", "tensor_parallel_size"), positive=("timeout_s",),
            from_zero=("nodes", "gpus", "max_model_len", "max_pixels", "max_tokens", "max_restarts"),
        )  # fmt: skip

    @property
    def helpers(self) -> dict[str, str]:
        """The other checkpoints, by what they do."""
        return {name: path for name in ("extractor", "auditor") if (path := getattr(self, name))}

    def service(self, model: str | Output, images: Output, reward: AsksRewardModel) -> CommandServer:
        more = {name: checks.checkpoint(path, SERVICE, trust_remote_code=False) for name, path in self.helpers.items()}
        needs = {"model": checks.checkpoint(model, SERVICE, trust_remote_code=False), "images": images}
        if isinstance(given := needs["model"], Given):
            alone = not (reward.compares or reward.steps)
            needs["model"] = replace(given, check=checks.Judge(given.check, reward.steps, alone, self.kind, bool(more)))
        needs |= more
        options = {
            **{name: f"{{{name}}}" for name in more},
            **({"kind": self.kind} if self.kind else {}),
            "replicas": self.replicas,
            "tensor-parallel-size": self.tensor_parallel_size,
            "contract": self.contract,
            "max-model-len": self.max_model_len,
            "max-pixels": self.max_pixels,
            "max-tokens": self.max_tokens,
            "timeout": self.timeout_s,
        }
        return CommandServer(
            name=SERVICE,
            command=(
                *("{python}", "-m", "jobs", "serve-reward", "{model}", "--images", "{images}"),
                *("--host", "{address}", "--port", "{port}", "--key-file", "{key_file}"),
                *(word for name, value in options.items() for word in (f"--{name}", str(value))),
            ),
            needs=needs,
            nodes=self.nodes,
            gpus=self.gpus,
            start_timeout_s=self.start_timeout_s,
            max_restarts=self.max_restarts,
        )


@dataclass(frozen=True)
class Settings(rl.Settings):
    servers: RewardModelServers = field(default_factory=RewardModelServers)
    """Not started for a reward that does not ask a reward model."""


def stage(
    name: str,
    *,
    policy: str | Output,
    reward_model: str | Output,
    images: Output,
    train: Output,
    validation: Output,
    settings: Settings,
) -> Stage:
    """As `rl.stage`. images: folder with all images of the rows."""
    reward = settings.reward
    services = (settings.servers.service(reward_model, images, reward),) if isinstance(reward, AsksRewardModel) else ()
    return rl.stage(name, policy=policy, train=train, validation=validation, settings=settings, services=services)
