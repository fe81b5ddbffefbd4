"""Runs `swift sft`, reports its progress, and publishes a checkpoint that everything else can load.

out/
  model/           complete Hugging Face checkpoint of the last step
  metrics.jsonl    one flat JSON object per logged step: step, loss, token_acc, learning_rate, grad_norm, eval/...
  swift.log        console output of all attempts
  swift/           ms-swift's own folder: checkpoints for resuming, logging.jsonl
  swanlog/         SwanLab's record
  arguments.json   the arguments the checkpoints were trained with
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proxygrm.core.checkpoints.check import check_checkpoint, copy_linked
from proxygrm.core.checkpoints.code import refuse_code
from proxygrm.core.checkpoints.torn import why_torn
from proxygrm.core.errors import UserError
from proxygrm.core.files.durable import move_into_place
from proxygrm.core.files.whole_file import beside, write_json, write_text
from proxygrm.core.runtime.child_process import ChildProcess
from proxygrm.core.runtime.save_now import SaveNow, listening
from proxygrm.core.runtime.tracking import KEY_VARIABLE, MODE_VARIABLE, api_key, choose_mode
from proxygrm.sft.arguments import SftSettings, command, environment, swift_arguments

Progress = Callable[[int, int, str], None]

_POLL_S = 1.0
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
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
_LAUNCHER = frozenset(
    ("NPROC_PER_NODE", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "WORLD_SIZE")
)
_TRACKING = ("--report_to", "--swanlab_mode")


def train_sft(
    settings: SftSettings,
    model: Path,
    dataset: Path,
    out: Path,
    device: str = "cuda",
    gpus_per_node: int = 1,
    progress: Progress = lambda done, total, note: None,
) -> Path:
    """Fine-tune `model` on `dataset` (ms-swift JSONL) and return `out/model`. Resumes from its last checkpoint.

    Runs on one node. Raises UserError when an input is missing, when the checkpoints in `out` were trained with other
    settings, or with ms-swift's last error.
    """
    check_checkpoint(model)
    refuse_code(model, settings.trust_remote_code)
    if not dataset.is_file() or dataset.stat().st_size == 0:
        raise UserError(
            f"sft: the training rows {dataset} are missing or empty; run the split stage first",
            code="sft.no-rows",
            path=dataset,
        )
    work = out / "swift"
    work.mkdir(parents=True, exist_ok=True)
    mode = choose_mode(out / "swanlog")
    arguments = swift_arguments(settings, model, dataset, work, device, mode, run_name=out.name)
    SaveNow(out).clear()
    _same_arguments(out / "arguments.json", arguments)
    last = last_checkpoint(work)
    if last is None or not _finished(last):
        if last:
            # transformers saves weights under the released names but resumes by its own names: it would load none of
            # them, warn, and continue from the start model (github.com/QwenLM/Qwen3-VL/issues/1763). Loading the model
            # from the checkpoint handles both names; resuming restores optimizer, schedule and data.
            arguments[arguments.index("--model") + 1] = str(last)
            arguments += ["--resume_from_checkpoint", str(last)]
        (out / "swanlog").mkdir(exist_ok=True)
        variables = environment(settings, out, device)
        variables[MODE_VARIABLE] = mode
        if mode == "online":
            variables[KEY_VARIABLE] = api_key() or ""
        _run(command(arguments, device, gpus_per_node), variables, out, progress)
        last = last_checkpoint(work)
    collect_metrics(out)
    if saved := SaveNow(out).read_answer():
        raise UserError(
            f"sft: it was asked to save and stop. {saved}; submit again to resume", code="sft.stopped", path=out
        )
    if last is None:
        raise UserError(
            f"sft: ms-swift succeeded but left no checkpoint in {work}; see {out / 'swift.log'}",
            code="sft.no-checkpoint",
            path=work,
        )
    return _publish(last, out / "model", settings.max_pixels)


def _run(arguments: list[str], variables: dict[str, str], out: Path, progress: Progress) -> None:
    log = out / "swift.log"
    progress(0, 0, "starting ms-swift")
    with ChildProcess(arguments, log, environment=_environment(variables)) as process, listening(out, process):
        while (code := process.wait(_POLL_S)) is None:
            if row := _last_row(out):
                progress(row["step"], row["total"], _note(row))
    if code:
        reason = with_remedy(process.last_words(400))
        raise UserError(
            f"ms-swift failed ({code}): {reason}; full log in {log}", code="sft.failed", exit_code=code, path=log
        )
    if row := _last_row(out):
        progress(row["total"], row["total"], _note(row))


def _environment(variables: dict[str, str]) -> dict[str, str]:
    """This process's environment plus `variables`, without the variables of an outer launcher, which would make
    ms-swift wait for other processes."""
    return {name: value for name, value in os.environ.items() if name not in _LAUNCHER} | variables


def with_remedy(line: str) -> str:
    """The most telling line of a failed run's log, with the remedy if there is one."""
    if "out of memory" in line:
        line += " (lower per_device_train_batch_size or max_pixels, or raise the deepspeed stage)"
    return line


def last_checkpoint(work: Path) -> Path | None:
    """The newest complete `checkpoint-N`: trainer_state.json is written last, and the weights must be intact."""
    checkpoints = [
        (int(match[1]), path) for path in work.glob("checkpoint-*") if (match := _CHECKPOINT.fullmatch(path.name))
    ]
    for _, path in sorted(checkpoints, reverse=True):
        try:
            json.loads((path / "trainer_state.json").read_text())
            check_checkpoint(path)
            intact = not why_torn(path)  # optimizer and random states too
        except (OSError, ValueError, UserError):
            continue
        if intact:
            return path
    return None


def _finished(checkpoint: Path) -> bool:
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    return state["global_step"] >= state["max_steps"]


def _same_arguments(path: Path, arguments: list[str]) -> None:
    """Refuses to resume from checkpoints of other settings. Only the tracking may differ."""
    current = _without_tracking(arguments)
    if path.exists() and last_checkpoint(path.parent / "swift"):
        previous = _without_tracking(json.loads(path.read_text(encoding="utf-8")))
        if previous != current:
            names = {name for name in {*current, *previous} if name.startswith("--")}
            changed = sorted(names & _changed(current, previous))
            raise UserError(
                f"sft: {path.parent} has checkpoints of a training with other settings ({', '.join(changed)}); "
                "train into another folder, or remove this one",
                code="sft.other-settings",
                path=path.parent,
                names=changed,
            )
    write_json(path, current)


def _without_tracking(arguments: list[str]) -> list[str]:
    pairs = zip(arguments[::2], arguments[1::2], strict=True)
    return [text for name, value in pairs if name not in _TRACKING for text in (name, value)]


def _changed(current: list[str], previous: list[str]) -> set[str]:
    new, old = (dict(zip(words[::2], words[1::2], strict=True)) for words in (current, previous))
    return {name for name in {*new, *old} if new.get(name) != old.get(name)}


def _rows(out: Path) -> list[dict[str, Any]]:
    """Logged steps from ms-swift's logging.jsonl, in order; steps that a resumed run repeated count once."""
    steps: dict[int, dict[str, Any]] = {}
    path = out / "swift" / "logging.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            raw = json.loads(line)
        except ValueError:  # the line being written, or the last one of a run that was killed
            continue
        done, _, total = str(raw.get("global_step/max_steps", "")).partition("/")
        if not done.isdigit() or not total.isdigit() or "train_runtime" in raw:
            continue  # the summary at the end of an attempt
        row = {
            f"eval/{name[5:]}" if name.startswith("eval_") else name: value
            for name, value in raw.items()
            if isinstance(value, int | float) and name not in ("step", "total")
        }
        step = int(done)
        steps = {number: logged for number, logged in steps.items() if number <= step}
        steps[step] = steps.get(step, {}) | {"step": step, "total": int(total)} | row
    return [steps[step] for step in sorted(steps)]


def _last_row(out: Path) -> dict[str, Any] | None:
    return next(reversed(_rows(out)), None)


def _note(row: dict[str, Any]) -> str:
    accuracy = f", tokens right {row['token_acc']:.0%}" if "token_acc" in row else ""
    return f"loss {row['loss']:.3f}{accuracy}" if "loss" in row else ""


def collect_metrics(out: Path) -> None:
    """Write `out/metrics.jsonl`."""
    rows = ({name: value for name, value in row.items() if name != "total"} for row in _rows(out))
    write_text(out / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def _publish(checkpoint: Path, model: Path, max_pixels: int) -> Path:
    """The checkpoint without the files for resuming, as `model`, by one rename. Files are hard links where possible.

    Its processor is limited to `max_pixels`, so that RL, proxy and evaluation show it images of the size it was trained
    on (ms-swift gets the limit from the environment and does not save it).
    """
    scratch = beside(model)
    copy_linked(checkpoint, scratch, _ONLY_FOR_RESUMING)
    check_checkpoint(scratch)
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (scratch / name).exists():
            write_json(scratch / name, _bounded(json.loads((scratch / name).read_text(encoding="utf-8")), max_pixels))
    move_into_place(scratch, model)
    return model


def _bounded(processor: dict[str, Any], max_pixels: int) -> dict[str, Any]:
    """A processor's configuration, in any of transformers' layouts, with at most `max_pixels` per image."""
    images = processor.get("image_processor", processor)
    for holder, key in ((images.get("size") or {}, "longest_edge"), (images, "max_pixels")):
        if holder.get(key):  # for Qwen2-VL both are the number of pixels
            holder[key] = min(holder[key], max_pixels)
    return processor
