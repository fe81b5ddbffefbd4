"""Options of the reward function and the sampler: one typed JSON file, whose path both get from verl."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from proxygrm.core.errors import UserError
from proxygrm.core.files.user_text import read_user_text
from proxygrm.core.files.whole_file import write_json
from proxygrm.core.settings import chosen_from, did_you_mean, from_table
from proxygrm.rewards import REWARDS, Reward
from proxygrm.rewards.base import PROXY
from proxygrm.serving.access.key_file import read_key


@dataclass(frozen=True)
class RewardOptions:
    """Written by the RL job before the trainer starts; read once per process."""

    rollouts: str
    """Folder for `step_NNNNN.jsonl`, one row per rollout with every part of its reward."""
    stop_file: str
    """File for the reason, when the sampler ends the run."""
    group_size: int
    """Rollouts per prompt, to notice rollouts that were never generated."""
    smallest_group: int = 2
    """Scored rollouts of a prompt without which the others of it are not trained on."""
    reward: Reward = chosen_from(REWARDS, "proxy_agreement")
    endpoints: str = ""
    """Endpoints file of the proxy group; required by a reward that asks the proxy."""
    services: dict[str, list[str]] = field(default_factory=dict)
    """Base URLs of the job's auxiliary servers by name."""
    service_keys: dict[str, str] = field(default_factory=dict)
    """Files with the keys of those servers, by name."""
    max_unscored: float = 0.02
    max_no_verdict: float = 0.1

    def __post_init__(self) -> None:
        if self.reward.asks == PROXY and not self.endpoints:
            raise UserError(
                f"reward options: {self.reward.kind} asks the proxy, but endpoints names no file",
                code="reward.no-endpoints",
            )
        if self.reward.asks not in ("", PROXY, *self.services):
            hint = did_you_mean(self.reward.asks, self.services) if self.services else "it has none"
            raise UserError(
                f"reward options: {self.reward.kind} asks a service {self.reward.asks!r} of the job; {hint}",
                code="reward.no-service",
                name=self.reward.asks,
                known=list(self.services),
            )

    @cached_property
    def urls(self) -> dict[str, tuple[str, ...]]:
        """`services`, as a reward gets them."""
        return {name: tuple(urls) for name, urls in self.services.items()}

    @cached_property
    def keys(self) -> dict[str, str]:
        """The keys in `service_keys`, as a reward gets them."""
        return {name: read_key(Path(file)) for name, file in self.service_keys.items()}

    def write(self, path: Path) -> Path:
        write_json(path, dataclasses.asdict(self))
        return path

    @classmethod
    def read(cls, path: str | Path) -> RewardOptions:
        """The options in `path`. Raises UserError: reward.options-unreadable, or as `from_table`."""
        try:
            table = json.loads(read_user_text(Path(path)))
        except (OSError, json.JSONDecodeError) as error:
            raise UserError(
                f"reward options: cannot read {path}: {error}", code="reward.options-unreadable", path=path
            ) from error
        try:
            return from_table(cls, table, f"reward options ({path})")
        except TypeError as error:
            raise UserError(f"reward options ({path}): {error}", code="reward.options-incomplete", path=path) from error
