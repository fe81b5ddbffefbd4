"""RL whose reward asks the frozen proxy: `rl` with the proxy as one of its services."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.engine.stage import Output, Stage
from jobs.stages import checks
from jobs.stages.training import rl
from proxygrm.core.bounds import check_bounds
from proxygrm.rewards.base import PROXY
from proxygrm.serving.replicas.group import CHECKPOINT, Proxy
from proxygrm.serving.services.service import Service
from proxygrm.serving.settings import ProxySettings


@dataclass(frozen=True)
class Settings(rl.Settings):
    proxy: ProxySettings | None = None
    """The frozen judge's servers; not used by a reward that does not ask it."""
    proxy_nodes: int = 0
    """Nodes of the job that serve the proxy and do not train; with one node in all, its GPUs are shared."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds("rl", self, from_zero=("proxy_nodes",))


def stage(
    name: str,
    *,
    policy: str | Output,
    proxy: str | Output,
    train: Output,
    validation: Output,
    settings: Settings,
    services: Sequence[Service] = (),
) -> Stage:
    """As `rl.stage`. proxy: the frozen judge of the rubrics; not needed when the reward does not ask it."""
    if settings.reward.asks == PROXY and settings.proxy is not None:
        need = checks.checkpoint(proxy, f"{name}.{PROXY}", settings.proxy.trust_remote_code)
        judge = Proxy(nodes=settings.proxy_nodes, needs={CHECKPOINT: need}, settings=settings.proxy)
        services = (judge, *services)
    return rl.stage(name, policy=policy, train=train, validation=validation, settings=settings, services=services)
