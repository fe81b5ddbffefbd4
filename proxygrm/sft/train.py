"""Runs `swift sft`, follows it, and leaves a checkpoint that everything else can load.

out/
  model/           complete Hugging Face checkpoint of the last step
  metrics.jsonl    one flat JSON object a logged step: step, loss, token_acc, learning_rate, grad_norm, eval/...
  swift.log        console output of all attempts
  swift/           ms-swift's own folder: checkpoints for resuming, logging.jsonl
  swanlog/         SwanLab's record
  arguments.json   what the checkpoints were made with
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proxygrm.core.checkpoints.check import copy_linked, is_hf_checkpoint
from proxygrm.core.checkpoints.code import refuse_code
from proxygrm.core.checkpoints.torn import checkpoint_of_training
from proxygrm.core.errors import UserError
from proxygrm.core.files.durable import move_into_place
from proxygrm.core.files.whole_file import beside, write_json, write_text
from proxygrm.core.runtime.leash import leashed
from proxygrm.core.runtime.log_tail import last_words
from proxygrm.core.runtime.save_now import SaveNow, listening
from proxygrm.core.runtime.tracking import KEY_VARIABLE, MODE_VARIABLE, api_key, choose_mode
from proxygrm.sft.arguments import SftSettings, command, environment, swift_arguments

Progress = Callable[[int, int, str], None]

_LOOK_S = 1.0
_GRACE_S = 5.0
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

    It works on one node. Raises UserError when an input is missing, when the checkpoints in `out` were made with other
    settings, or with ms-swift's own last error.
    """
    is_hf_checkpoint(model)
    refuse_code(model, settings.trust_remote_code)
    if not dataset.is_file() or dataset.stat().st_size == 0:
        raise UserError(f"sft: the training rows {dataset} are missing or empty; run the split stage first")
    work = out / "swift"
    work.mkdir(parents=True, exist_ok=True)
    mode = choose_mode(out / "swanlog")
    arguments = swift_arguments(settings, model, dataset, work, device, mode, run_name=out.name)
    SaveNow(out).forget()
    _same_arguments(out / "arguments.json", arguments)
    last = last_checkpoint(work)
    if last is None or not _finished(last):
        if last:
            # transformers saves weights under the released names and resumes by its own, so it would find none of
            # them, say so in a warning, and go on from the start model (github.com/QwenLM/Qwen3-VL/issues/1763).
            # Loading the model from the checkpoint knows both; resuming brings back optimizer, schedule and data.
            arguments[arguments.index("--model") + 1] = str(last)
            arguments += ["--resume_from_checkpoint", str(last)]
        (out / "swanlog").mkdir(exist_ok=True)
        wanted = environment(settings, out, device)
        wanted[MODE_VARIABLE] = mode
        if mode == "online":
            wanted[KEY_VARIABLE] = api_key() or ""
        _run(command(arguments, device, gpus_per_node), wanted, out, progress)
        last = last_checkpoint(work)
    collect_metrics(out)
    if saved := SaveNow(out).answered():
        raise UserError(f"sft: it was asked to save and end. {saved}; submit again to go on")
    if last is None:
        raise UserError(f"sft: ms-swift ended well but left no checkpoint in {work}; see {out / 'swift.log'}")
    return _publish(last, out / "model", settings.max_pixels)


def _run(words: list[str], wanted: dict[str, str], out: Path, progress: Progress) -> None:
    log = out / "swift.log"
    progress(0, 0, "starting ms-swift")
    with log.open("ab") as stream:
        begin = stream.tell()
        process = subprocess.Popen(
            leashed(words, _GRACE_S), stdout=stream, stderr=subprocess.STDOUT, env=_environment(wanted)
        )
        try:
            with listening(out, process):
                while (code := _wait(process)) is None:
                    if row := _last_row(out):
                        progress(row["step"], row["total"], _note(row))
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(_GRACE_S + 10)
    if code:
        raise UserError(f"ms-swift failed ({code}): {why(log, begin)}; all of it in {log}")
    if row := _last_row(out):
        progress(row["total"], row["total"], _note(row))


def _environment(wanted: dict[str, str]) -> dict[str, str]:
    """Ours plus `wanted`. Launch variables of an outer launcher would make ms-swift wait for other processes."""
    launch = {"NPROC_PER_NODE", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "WORLD_SIZE"}
    return {name: value for name, value in os.environ.items() if name not in launch} | wanted


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(_LOOK_S)
    except subprocess.TimeoutExpired:
        return None


def why(log: Path, begin: int = 0) -> str:
    """The line of a failed run's log that says most: its last exception that is not an echo of another process."""
    with log.open("rb") as stream:
        stream.seek(begin)
        empty = not stream.read(1)
    text = "it wrote nothing" if empty else last_words(log, 400)
    if "out of memory" in text:
        text += " (lower per_device_batch_size or max_pixels, or raise the deepspeed stage)"
    return text


def last_checkpoint(work: Path) -> Path | None:
    """The newest complete `checkpoint-N`: trainer_state.json is written last, and weights must be whole."""
    found = [(int(m[1]), path) for path in work.glob("checkpoint-*") if (m := _CHECKPOINT.fullmatch(path.name))]
    for _, path in sorted(found, reverse=True):
        try:
            json.loads((path / "trainer_state.json").read_text())
            is_hf_checkpoint(path)
            whole = not checkpoint_of_training(path)  # optimizer and random states too
        except (OSError, ValueError, UserError):
            continue
        if whole:
            return path
    return None


def _finished(checkpoint: Path) -> bool:
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    return state["global_step"] >= state["max_steps"]


def _same_arguments(path: Path, arguments: list[str]) -> None:
    """A checkpoint made with other settings is no checkpoint of this training. How it is tracked may differ."""
    mine = _without_tracking(arguments)
    if path.exists() and last_checkpoint(path.parent / "swift"):
        theirs = _without_tracking(json.loads(path.read_text(encoding="utf-8")))
        if theirs != mine:
            changed = sorted({name for name in {*mine, *theirs} if name.startswith("--")} & _changed(mine, theirs))
            raise UserError(
                f"sft: {path.parent} holds checkpoints of a training with other settings ({', '.join(changed)}); "
                "train into another folder, or remove that one"
            )
    write_json(path, mine)


def _without_tracking(arguments: list[str]) -> list[str]:
    given = zip(arguments[::2], arguments[1::2], strict=True)
    return [text for name, value in given if name not in _TRACKING for text in (name, value)]


def _changed(mine: list[str], theirs: list[str]) -> set[str]:
    a, b = (dict(zip(x[::2], x[1::2], strict=True)) for x in (mine, theirs))
    return {name for name in {*a, *b} if a.get(name) != b.get(name)}


def _rows(out: Path) -> list[dict[str, Any]]:
    """Logged steps from ms-swift's logging.jsonl, in order; steps that a resumed run did again count once."""
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
        steps = {known: old for known, old in steps.items() if known <= step}
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
    """The checkpoint without what only resuming needs, as `model`, in one rename. Files are linked where possible.

    Its processor takes pictures up to `max_pixels` from now on, so that RL, proxy and evaluation show it pictures of
    the size it was trained on (ms-swift gets the bound from the environment and writes it nowhere).
    """
    scratch = beside(model)
    copy_linked(checkpoint, scratch, _ONLY_FOR_RESUMING)
    is_hf_checkpoint(scratch)
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (scratch / name).exists():
            write_json(scratch / name, _bounded(json.loads((scratch / name).read_text(encoding="utf-8")), max_pixels))
    move_into_place(scratch, model)
    return model


def _bounded(processor: dict[str, Any], max_pixels: int) -> dict[str, Any]:
    """A processor's configuration, in any of transformers' layouts, whose pictures have at most `max_pixels`."""
    pictures = processor.get("image_processor", processor)
    for holder, key in ((pictures.get("size") or {}, "longest_edge"), (pictures, "max_pixels")):
        if holder.get(key):  # of Qwen2-VL both are pixels in all
            holder[key] = min(holder[key], max_pixels)
    return processor
