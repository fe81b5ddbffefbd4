"""Runs `swift sft` or `swift rlhf`, reports its progress, and publishes a checkpoint that everything else can load.

out/
  model/           complete Hugging Face checkpoint of the last step; with LoRA adapter/ instead, as peft saves it
  best/            the same of the step with the lowest evaluation loss, if there is an evaluation
  metrics.jsonl    one flat JSON object per logged step: step, loss, token_acc, learning_rate, grad_norm, eval/...
  swift.log        console output of all attempts; swift.node-N.log of the other nodes
  swift/           ms-swift's own folder: checkpoints for resuming, logging.jsonl
  swanlog/         SwanLab's record
  arguments.json   the arguments the checkpoints were trained with
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from proxygrm.core.checkpoints.adapter import BASE_FILE, base_of
from proxygrm.core.checkpoints.best import BEST, NOTE
from proxygrm.core.checkpoints.check import check_checkpoint
from proxygrm.core.checkpoints.code import refuse_code
from proxygrm.core.checkpoints.identity import checkpoint_identity
from proxygrm.core.checkpoints.kinds import MARKER, process_marker
from proxygrm.core.checkpoints.scalar import refuse_scalar
from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import write_json
from proxygrm.core.runtime.child_process import ChildProcess
from proxygrm.core.runtime.save_now import SaveNow, listening
from proxygrm.core.runtime.tracking import KEY_VARIABLE, MODE_VARIABLE, api_key, choose_mode
from proxygrm.scalar.settings import VARIABLE as REWARD_MODEL
from proxygrm.sft.arguments import ONE_NODE, by_name, command, environment, swift_arguments
from proxygrm.sft.checkpoints import (
    REWARD_MODEL_FILE,
    best_checkpoint,
    clean_up,
    finished,
    last_checkpoint,
    mark_finished,
    publish,
)
from proxygrm.sft.installed import model_type_of
from proxygrm.sft.metrics import collect_metrics, last_row, note
from proxygrm.sft.nodes import Nodes
from proxygrm.sft.settings import SftSettings

Progress = Callable[[int, int, str], None]

_POLL_S = 1.0
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
    nodes: Nodes = ONE_NODE,
    share: Callable[[list[str]], None] = lambda words: None,
    validation: Path | None = None,
) -> Path:
    """Fine-tune `model` on `dataset` (ms-swift JSONL) and return `out/model` (`out/adapter` with LoRA). Resumes from
    its last checkpoint. `validation`: rows for the evaluation loss, instead of a share of the others.

    On several nodes this is node 0; the others call `join_sft` with the arguments that `share` gets, none when there
    is nothing left to train. Raises UserError when an input is missing, when the checkpoints in `out` were trained
    with other settings, or with ms-swift's last error.
    """
    settings.check_installed()
    check_checkpoint(model)
    refuse_code(model, settings.trust_remote_code)
    settings = replace(settings, model_type=settings.model_type or model_type_of(model))
    is_rm = settings.rlhf_type == "rm"
    if not is_rm:
        refuse_scalar(model, f"`swift {settings.command}`")
    settings.check_evaluated(validation is not None)
    for what, rows in (("training", dataset), ("validation", validation)):
        if rows is not None and (not rows.is_file() or rows.stat().st_size == 0):
            raise UserError(
                f"sft: the {what} rows {rows} are missing or empty; run the stage that writes them first",
                code="sft.no-rows",
                path=rows,
            )
    work = out / "swift"
    work.mkdir(parents=True, exist_ok=True)
    mode = choose_mode(out / "swanlog")
    arguments = swift_arguments(settings, model, dataset, work, device, mode, out.name, validation)
    SaveNow(out).clear()
    head = [f"--{REWARD_MODEL.lower()}", settings.reward_model.text] if is_rm else []  # recorded, not ms-swift's
    _same_arguments(out / "arguments.json", [*arguments, *head])
    last = last_checkpoint(work)
    if last is None or not finished(last):
        clean_up(work, last, settings.save_total_limit)
        if last:
            # transformers saves weights under the released names but resumes by its own names: it would load none of
            # them, warn, and continue from the start model (github.com/QwenLM/Qwen3-VL/issues/1763). Loading the model
            # from the checkpoint handles both names; resuming restores optimizer, schedule and data. ms-swift itself
            # loads an adapter.
            if settings.tuner_type == "full":
                arguments[arguments.index("--model") + 1] = str(last)
            arguments += ["--resume_from_checkpoint", str(last)]
        (out / "swanlog").mkdir(exist_ok=True)
        variables = environment(settings, out, device)
        variables[MODE_VARIABLE] = mode
        if mode == "online":
            variables[KEY_VARIABLE] = api_key() or ""
        share(arguments)
        words = command(arguments, device, gpus_per_node, settings.command, nodes)
        run_swift(words, variables, out / "swift.log", progress)
        last = last_checkpoint(work)
        if settings.early_stop and last and not SaveNow(out).read_answer():
            mark_finished(last)
    else:
        share([])
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
    lora = settings.tuner_type == "lora"
    records: dict[str, Any] = {BASE_FILE: base_of(model)} if lora else {}
    if settings.step_judge:
        records[MARKER] = process_marker({"start": checkpoint_identity(model)})
    if is_rm and lora:
        records[REWARD_MODEL_FILE] = asdict(settings.reward_model)
    if settings.evaluates(validation is not None):
        best, note = best_checkpoint(last)
        publish(best, out / BEST, model if lora else best, settings.max_pixels, {**records, NOTE: asdict(note)})
    processor = model if lora else last
    return publish(last, out / settings.makes, processor, settings.max_pixels, records)


def join_sft(
    settings: SftSettings, arguments: list[str], out: Path, device: str, gpus_per_node: int, nodes: Nodes
) -> None:
    """The part of a node that is not the first; its log is `swift.node-N.log`. Raises UserError."""
    settings.check_installed()
    variables = environment(settings, out, device) | {MODE_VARIABLE: "disabled"}  # node 0 tracks
    words = command(arguments, device, gpus_per_node, settings.command, nodes)
    run_swift(words, variables, out / f"swift.node-{nodes.rank}.log", lambda done, total, note: None)


def run_swift(arguments: list[str], variables: dict[str, str], log: Path, progress: Progress) -> None:
    """log: in the stage's folder. Raises UserError (sft.failed) with ms-swift's last error."""
    out = log.parent
    progress(0, 0, "starting ms-swift")
    with ChildProcess(arguments, log, environment=_environment(variables)) as process, listening(out, process):
        while (code := process.wait(_POLL_S)) is None:
            if row := last_row(out):
                progress(row["step"], row["total"], note(row))
    if code:
        reason = with_remedy(process.last_words(400))
        raise UserError(
            f"ms-swift failed ({code}): {reason}; full log in {log}", code="sft.failed", exit_code=code, path=log
        )
    if row := last_row(out):
        progress(row["total"], row["total"], note(row))


def _environment(variables: dict[str, str]) -> dict[str, str]:
    """This process's environment plus `variables`, without the variables of an outer launcher, which would make
    ms-swift wait for other processes."""
    return {name: value for name, value in os.environ.items() if name not in _LAUNCHER} | variables


def with_remedy(line: str) -> str:
    """The most telling line of a failed run's log, with the remedy if there is one."""
    if "out of memory" in line:
        line += " (lower per_device_train_batch_size or max_pixels, or raise the deepspeed stage)"
    return line


def _same_arguments(path: Path, arguments: list[str]) -> None:
    """Refuses to resume from checkpoints of other settings. Only the tracking may differ."""
    if path.exists() and last_checkpoint(path.parent / "swift"):
        current, previous = by_name(arguments), by_name(json.loads(path.read_text(encoding="utf-8")))
        names = sorted({*current, *previous} - {*_TRACKING})
        if changed := [name for name in names if current.get(name) != previous.get(name)]:
            raise UserError(
                f"sft: {path.parent} has checkpoints of a training with other settings ({', '.join(changed)}); "
                "train into another folder, or remove this one",
                code="sft.other-settings",
                path=path.parent,
                names=changed,
            )
    write_json(path, arguments)
