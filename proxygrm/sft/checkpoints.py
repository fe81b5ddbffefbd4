"""ms-swift's checkpoints: which one to resume from, and what of it is published."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from proxygrm.core.checkpoints.adapter import CONFIG, check_adapter
from proxygrm.core.checkpoints.best import Best
from proxygrm.core.checkpoints.check import check_checkpoint, copy_linked
from proxygrm.core.checkpoints.torn import why_torn
from proxygrm.core.errors import UserError
from proxygrm.core.files.durable import move_into_place
from proxygrm.core.files.whole_file import beside, write_json

PROCESSOR = ("processor_config.json", "preprocessor_config.json")
log = logging.getLogger(__name__)
REWARD_MODEL_FILE = "reward_model.json"
"""In an adapter of a scalar reward model: its `RewardModelSettings`, for the merge, which builds the head again."""
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_ENDED = "ended.json"
_ONLY_FOR_RESUMING = (
    "optimizer*",
    "scheduler*",
    "scaler*",
    "rng_state*",
    "global_step*",
    "latest",
    "zero_to_fp32.py",
    "trainer_state.json",
    "training_args.bin",
    "args.json",
)


def last_checkpoint(work: Path) -> Path | None:
    """The newest complete `checkpoint-N`: trainer_state.json is written last, and the weights must be intact."""
    checkpoints = [
        (int(match[1]), path) for path in work.glob("checkpoint-*") if (match := _CHECKPOINT.fullmatch(path.name))
    ]
    for _, path in sorted(checkpoints, reverse=True):
        try:
            json.loads((path / "trainer_state.json").read_text())
            check_trained(path)
            intact = not why_torn(path)  # optimizer and random states too
        except (OSError, ValueError, UserError):
            continue
        if intact:
            return path
    return None


def clean_up(work: Path, last: Path | None, keep: int) -> None:
    """Before ms-swift resumes from `last`: what else stands there counts among those it keeps. Remove unfinished saves
    and all but the last `keep` checkpoints, of which the best is one, as ms-swift does; move torn ones aside."""
    step = _step(last) if last else 0
    found = sorted((path for path in work.glob("checkpoint-*") if _step(path)), key=_step)
    for path in found:
        if _step(path) > step and (path / "trainer_state.json").exists():
            log.warning("%s is torn: resuming from %s", path.name, last.name if last else "the start")
            aside = path.with_name(f"torn_{path.name}")
            shutil.rmtree(aside, ignore_errors=True)  # from an earlier crash at the same step
            path.rename(aside)
        elif _step(path) > step:
            shutil.rmtree(path)
    best = best_checkpoint(last)[0] if last else None
    intact = [path for path in found if _step(path) <= step]
    for path in sorted(intact, key=lambda path: (path in (best, last), _step(path)))[:-keep]:
        shutil.rmtree(path)


def _step(checkpoint: Path) -> int:
    match = _CHECKPOINT.fullmatch(checkpoint.name)
    return int(match[1]) if match else 0


def finished(checkpoint: Path) -> bool:
    """Whether the training ended with it: at its last step, or before by itself (`mark_finished`)."""
    state = _state(checkpoint)
    return state["global_step"] >= state["max_steps"] or (checkpoint.parent / _ENDED).exists()


def mark_finished(last: Path) -> None:
    """The training has ended by itself, maybe before its last step: it is not to be resumed."""
    write_json(last.parent / _ENDED, {"step": _state(last)["global_step"]})


def best_checkpoint(last: Path) -> tuple[Path, Best]:
    """That with the lowest evaluation loss, of those that were saved, and its step and loss; the last one when it is
    not there any more. (A run's folder may have been moved, so of its path only the name counts.)"""
    state = _state(last)
    best = last.parent / Path(state.get("best_model_checkpoint") or last).name
    try:
        check_trained(best)
        return best, Best(_state(best)["global_step"], state.get("best_metric"), "eval/loss")
    except (OSError, ValueError, UserError) as error:
        log.warning("the best checkpoint cannot be used (%s): the last one stands for it", error)
        return last, Best(state["global_step"], None, "eval/loss")


def _state(checkpoint: Path) -> dict[str, Any]:
    return dict(json.loads((checkpoint / "trainer_state.json").read_text()))


def check_trained(path: Path) -> None:
    """A whole checkpoint, or an adapter. Raises UserError."""
    (check_adapter if (path / CONFIG).exists() else check_checkpoint)(path)


def publish(
    checkpoint: Path,
    target: Path,
    processor: Path,
    max_pixels: int = 0,
    records: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """The checkpoint without the files for resuming, as `target`, by one rename. Files are hard links where possible.

    It gets the processor's configuration in the folder `processor`, limited to `max_pixels` (0: as it is), so that RL,
    proxy and evaluation show it images of the size it was trained on (ms-swift gets the limit from the environment and
    does not save it). An adapter has it too, for the merge, which also needs ms-swift's args.json. records: further
    JSON files, content by name.
    """
    scratch = beside(target)
    kept = ("args.json",) if (checkpoint / CONFIG).exists() else ()
    copy_linked(checkpoint, scratch, tuple(pattern for pattern in _ONLY_FOR_RESUMING if pattern not in kept))
    check_trained(scratch)
    for name in PROCESSOR:
        if (processor / name).exists():
            values = json.loads((processor / name).read_text(encoding="utf-8"))
            write_json(scratch / name, _bounded(values, max_pixels) if max_pixels else values)
    for name, content in records.items():
        write_json(scratch / name, content)
    move_into_place(scratch, target)
    return target


def _bounded(processor: dict[str, Any], max_pixels: int) -> dict[str, Any]:
    """A processor's configuration, in any of transformers' layouts, with at most `max_pixels` per image."""
    images = processor.get("image_processor", processor)
    for holder, key in ((images.get("size") or {}, "longest_edge"), (images, "max_pixels")):
        if holder.get(key):  # for Qwen2-VL both are the number of pixels
            holder[key] = min(holder[key], max_pixels)
    return processor
