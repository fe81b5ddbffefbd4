"""What every reward has: its options, which are the fields, how a rollout becomes a score, and the figures of a step.

A new reward is a file beside this one and its class in `proxygrm.rewards.REWARDS`. Nothing here knows a scheduler, verl
or how a server is called: `proxygrm.rl.plugins.reward_fn` does, and hands `rate` what it needs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

PROXY = "proxy"
"""Name of the frozen judge among the servers of a job."""
Row = Mapping[str, Any]
"""A rollout as `rollouts/step_NNNNN.jsonl` has it: score, unscored (0|1), problem, and the reward's own columns."""


@dataclass(frozen=True)
class Rollout:
    """What the policy wrote, and the row of the training file that it was asked with."""

    text: str
    label: Any
    """`reward_model.ground_truth`: what the row says is right."""
    extra_info: Mapping[str, Any] = field(default_factory=dict)
    """The row's own, with what verl adds to it: `num_turns`, `rollout_reward_scores`."""
    services: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Base URLs of the job's auxiliary servers by name; empty where there are none."""
    service_keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What those servers expect as `Authorization: Bearer KEY`, by name."""


@dataclass(frozen=True)
class Post:
    """What is sent to a service of the job, the proxy apart: JSON, to a path of one of its servers."""

    path: str
    """`/v1/chat/completions`, `/classify`, ..."""
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """What a server of the job says about one rollout."""

    opinion: float | None = None
    """The proxy's: +1 where its verdict is the label, -1 where it is not; None where there is none."""
    why: str = ""
    """The cause, in a word, of having no answer."""
    body: Any = None
    """The JSON that a service answers a Post with."""


Ask = Callable[[Any], Awaitable[Answer]]
"""Asks the server that a reward `asks`: the proxy with a rubric, another with a Post. May be called again, for instance
where an answer cannot be read. A call that fails is an answer, too."""


@dataclass(frozen=True)
class Rating:
    """The reward of one rollout."""

    score: float
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Its parts: columns of the rollout's row, and means of the step."""
    unscored: bool = False
    """It has no reward: it is left out of its group, whatever its score."""
    problem: str = ""
    """A word to count it by, where something is wrong with it."""


@dataclass(frozen=True)
class Reward:
    """The contract. `read`, then `rate`, once for each rollout; the other methods are asked where their text says."""

    kind: str = field(default="", init=False)
    """Its name in `REWARDS`."""
    asks: ClassVar[str] = ""
    """The server it asks about a rollout: the proxy, or a service of the job by its name; "" for none."""
    judges_pairs: ClassVar[bool] = False
    """Its rows are pairs of responses, with the label 1 or 2, which `extra_info` repeats: a check of the file."""
    prompts: ClassVar[tuple[str, ...]] = ()
    """Names of the prompts it sends itself: they are part of the stage's fingerprint."""
    columns: ClassVar[tuple[str, ...]] = ()
    """Numbers that every row has, 0 where a rating has none. Other numbers are in the row's `numbers`."""
    reads_file: ClassVar[bool] = False
    """It needs an `input`."""
    text_column: ClassVar[str] = "response"
    """Name of the rollout's text in a row."""

    def read(self, text: str) -> Any:
        """The text, parsed once for `to_judge` and `rate`. Pure; any text can be read."""
        return text

    def to_judge(self, parsed: Any) -> Any:
        """The first question to the server, or None for nothing. A rollout may still be growing when this is called
        early."""
        return None

    async def rate(self, rollout: Rollout, parsed: Any, ask: Ask) -> Rating:
        """The reward. What it raises is counted as unscored, by the exception's name."""
        raise NotImplementedError

    def metrics(self, rows: Sequence[Row]) -> dict[str, float]:
        """Figures of a step's rows: by default the means of all numbers over the scored ones."""
        scored = [row for row in rows if not row["unscored"]]
        own = dict.fromkeys(name for row in scored for name in row.get("numbers") or {})
        return {f"reward/{name}": mean([row[name] for row in scored]) for name in self.columns if scored} | {
            f"reward/part/{name}": mean([row["numbers"][name] for row in scored if name in (row.get("numbers") or {})])
            for name in own
        }

    @property
    def judges_early(self) -> bool:
        """Whether the server is asked as soon as `to_judge` has something, before the rollout is complete."""
        return False

    @property
    def input(self) -> str:
        """A file that the reward reads: an input of the stage; "" for none."""
        return ""

    def with_input(self, path: Path | str) -> Self:
        """The same with that file."""
        return self

    def check_input(self, path: Path) -> None:
        """UserError where the file cannot be used. Called before anything is sent."""


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
