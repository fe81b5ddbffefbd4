"""What the engine is handed of a recipe. It imports none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jobs.engine.stage import Stage


@dataclass(frozen=True)
class Recipe:
    presets: Mapping[str, Callable[[], Any]]
    """By the name that --experiment takes: functions that return a frozen record of settings with a `name`."""
    chain: Callable[[Any], list[Stage]]
    ablation_chain: Callable[..., list[Stage]]
    """(settings, cells, throttle) -> the stages of all cells."""
    multi_node: tuple[str, ...] = ()
    """Stages that `--nodes` speaks of."""
