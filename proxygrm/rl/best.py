"""The best checkpoint of a training by its validation, kept beside the last one.

verl deletes old checkpoints and does not know which of them was best. So the weights of each new best are kept as
`best/`, by hard links, with `best.json` inside. A checkpoint competes once its own step has been validated; the start
checkpoint, validated before the first step, is in the curve and does not compete.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from proxygrm.core.checkpoints.best import BEST, NOTE, Best, read_best
from proxygrm.core.checkpoints.check import copy_linked
from proxygrm.core.errors import UserError
from proxygrm.core.files.durable import move_into_place
from proxygrm.core.files.whole_file import beside, write_json
from proxygrm.core.settings import did_you_mean

Rows = Sequence[Mapping[str, float]]
"""Of metrics.jsonl, a step each, as `with_validation` makes them."""
VALIDATION = "validation/"
_VALIDATED = re.compile(r"val-(?:core|aux)/[^/]+/([^/]+)/mean@\d+")
"""verl's name for the mean of a number of the reward over one data source: val-aux/SOURCE/NUMBER/mean@1."""
log = logging.getLogger(__name__)


def with_validation(row: Mapping[str, float]) -> dict[str, float]:
    """A step's metrics and, where it was validated, `validation/NUMBER`: each number's mean, over sources where there
    are several."""
    means: dict[str, list[float]] = {}
    for name, value in row.items():
        if match := _VALIDATED.fullmatch(name):
            means.setdefault(match[1], []).append(value)
    return {**row, **{f"{VALIDATION}{name}": sum(values) / len(values) for name, values in means.items()}}


def validated(rows: Rows, by: str) -> dict[int, float]:
    """Step -> mean of `by` on the validation set, of the steps that were validated; 0 for before training.

    UserError (rl.unknown-number) when there are validations, and none of them has such a number.
    """
    known = {name.removeprefix(VALIDATION): None for row in rows for name in row if name.startswith(VALIDATION)}
    if known and by not in known:
        raise UserError(
            f"rl: best_by is {by!r}, but the reward has no such number; {did_you_mean(by, list(known))}",
            code="rl.unknown-number",
            name=by,
            known=list(known),
        )
    values = {int(row["step"]): row[VALIDATION + by] for row in rows if VALIDATION + by in row}
    return {step: value for step, value in values.items() if math.isfinite(value)}


def keep_best(out: Path, rows: Rows, by: str) -> Best | None:
    """Keep the weights of the best validated checkpoint that is still there, if it is better than the one kept; of
    equal ones the earlier. Returns what is kept."""
    kept = read_best(out)
    if kept and kept.by != by:
        kept = None
    for step, value in validated(rows, by).items():
        weights = out / "checkpoints" / f"global_step_{step}" / "actor" / "huggingface"
        if (kept is None or kept.value is None or value > kept.value) and (weights / "config.json").is_file():
            scratch = beside(out / BEST)
            copy_linked(weights, scratch)
            kept = Best(step, value, by)
            write_json(scratch / NOTE, asdict(kept))
            move_into_place(scratch, out / BEST)
            log.info("step %d is the best so far: validation %s %.4f", step, by, value)
    return kept


def without_progress(rows: Rows, by: str) -> int:
    """Validations in a row, up to the last one, with nothing better than before; that before training counts as one to
    be better than."""
    values = list(validated(rows, by).values())
    return len(values) - 1 - values.index(max(values)) if values else 0
