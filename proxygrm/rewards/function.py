"""A reward of the user's own: `score(rollout)` in a Python file (docs/rewards.md).

The file is an input of the stage: its content decides whether finished work counts, its path does not. What the
function raises, and what is not a number, leaves the rollout unscored, counted by the exception's name.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import numbers
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

from proxygrm.core.bounds import check_bounds
from proxygrm.core.errors import UserError
from proxygrm.core.files import user_code
from proxygrm.core.runtime.own_python import try_file
from proxygrm.core.settings import did_you_mean
from proxygrm.rewards.base import Ask, Rating, Reward, Rollout

Score = Callable[[Rollout], Any]
NAME = re.compile(r"[A-Za-z0-9_.-]{1,60}")
THREADS = 32
"""Calls at a time, in one reward worker, of a function that is not async."""


class NotANumber(TypeError):
    """The score, or another value of the dict, is not a number."""


class NotFinite(ValueError):
    """The score, or another number, is NaN or infinite."""


class NoScore(KeyError):
    """A dict without "score"."""


class BadName(ValueError):
    """A number whose name cannot be a metric's."""


@dataclass(frozen=True)
class Function(Reward):
    kind: str = field(default="function", init=False)
    file: str = ""
    """Python file; it may import what is installed, but no files beside it."""
    name: str = "score"
    """The function in it: takes a `Rollout`, returns a number, or a dict of numbers with "score"; may be async."""
    timeout_s: float = 300.0
    """For one rollout, after which it is unscored."""
    reads_file: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_bounds("rl.reward (function)", self, positive=("timeout_s",))

    @property
    def input(self) -> str:
        return self.file

    def with_input(self, path: Path | str) -> Self:
        return replace(self, file=str(path))

    def check_input(self, path: Path) -> None:
        try_file(f"{__name__}:{load.__name__}", path, self.name, "reward.does-not-import")

    async def rate(self, rollout: Rollout, parsed: str, ask: Ask) -> Rating:
        function = _loaded(self.file, self.name)
        async with asyncio.timeout(self.timeout_s):
            return rating_of(await _call(function, rollout))


def load(path: Path, name: str) -> Score:
    """UserError: reward.no-function, reward.wrong-arguments, and those of `user_code.load`."""
    found = vars(user_code.load(path, "reward"))
    function = found.get(name)
    if not callable(function):
        known = [each for each, value in found.items() if inspect.isfunction(value) and not each.startswith("_")]
        raise UserError(
            f"{path} has no function {name!r}; {did_you_mean(name, known, 'it defines none')} "
            f"(--set STAGE.reward.name=NAME)",
            code="reward.no-function",
            path=path,
            name=name,
            known=known,
        )
    try:
        inspect.signature(function).bind(object())
    except (TypeError, ValueError) as error:
        line = getattr(getattr(function, "__code__", None), "co_firstlineno", 1)
        raise UserError(
            f"{path}:{line}: {name}() is called with one argument, the rollout: {error}",
            code="reward.wrong-arguments",
            path=path,
            line=line,
            name=name,
        ) from error
    return function


def rating_of(value: Any) -> Rating:
    """What a function returned. Raises NotANumber, NotFinite, NoScore, BadName."""
    if not isinstance(value, Mapping):
        return Rating(_number("score", value))
    if "score" not in value:
        raise NoScore(f"score() returned a dict without 'score': it has {', '.join(map(repr, value)) or 'nothing'}")
    if bad := [name for name in value if not (isinstance(name, str) and NAME.fullmatch(name))]:
        raise BadName(f"score() returned a number called {bad[0]!r}; names have letters, digits and _ . - only")
    parts = {name: _number(name, part) for name, part in value.items()}
    return Rating(parts.pop("score"), parts)


def _number(name: str, value: Any) -> float:
    if not isinstance(value, numbers.Real):
        raise NotANumber(f"score() returned {type(value).__name__} for {name!r}; it returns numbers")
    if not math.isfinite(value):
        raise NotFinite(f"score() returned {float(value)} for {name!r}")
    return float(value)


@cache
def _loaded(file: str, name: str) -> Score:
    """Once per process."""
    return load(Path(file), name)


@cache
def _threads() -> ThreadPoolExecutor:
    """Of its own: calls that never return must not take the threads that verl decodes with."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix="reward")


async def _call(function: Score, rollout: Rollout) -> Any:
    """An async function runs in the reward worker's event loop, another in a thread."""
    if inspect.iscoroutinefunction(function):
        return await function(rollout)
    value = await asyncio.get_running_loop().run_in_executor(_threads(), _in_thread, function, rollout)
    return await value if inspect.isawaitable(value) else value


def _in_thread(function: Score, rollout: Rollout) -> Any:
    try:
        return function(rollout)
    except StopIteration as error:  # asyncio cannot hand it on, and the call would never end
        raise RuntimeError("it raised StopIteration") from error
