"""The best checkpoint of a training by its validation: a folder beside the last one's, with a note inside."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

BEST, NOTE = "best", "best.json"
"""Its folder in the stage's own, and the file in it."""


@dataclass(frozen=True)
class Best:
    step: int
    value: float | None
    """Mean over the validation rows; None where nothing better than the last checkpoint is known."""
    by: str
    """The number that is compared: `score` or another one of the reward, `eval/loss`."""


def read_best(stage_folder: Path) -> Best | None:
    try:
        return Best(**json.loads((stage_folder / BEST / NOTE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
