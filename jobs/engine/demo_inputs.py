"""What a recipe's demo runs on: drawn data and a tiny model, made on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class DemoInputs:
    name: str
    """Of the folder below the checkout's `.local`. Recipes with the same inputs share it."""
    stamp: Mapping[str, Any]
    """Everything that decides what is drawn, as JSON: inputs with another stamp are drawn again."""
    draw: Callable[[Path], None]
    """Writes everything into the empty folder that it is given."""
    announcement: str = "drawing preference pairs and building a tiny model (about half a minute)"
    """What a person reads meanwhile."""

    @property
    def folder(self) -> Path:
        return Path(__file__).parents[2] / ".local" / self.name
