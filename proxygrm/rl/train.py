"""The RL job's view of verl: its command, its progress and its output.

out/
  policy/          complete Hugging Face checkpoint of the last step (finish)
  best/            that of the best step by its validation, if there is one
  metrics.jsonl    one flat JSON object per step (written by finish, and whenever progress is read)
  rollouts/        every rollout with the parts of its reward
  checkpoints/     verl's own, for resuming: run the same command again
  swanlog/         SwanLab's offline record
  verl_metrics/    verl's metrics, one file per attempt
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from proxygrm.core.checkpoints.best import BEST
from proxygrm.core.checkpoints.check import copy_linked
from proxygrm.core.errors import UserError
from proxygrm.core.files.durable import move_into_place
from proxygrm.core.files.whole_file import write_json, write_text
from proxygrm.core.runtime.save_now import SaveNow
from proxygrm.core.runtime.tracking import KEY_FILE_VARIABLE, requested_mode
from proxygrm.rl.best import keep_best, with_validation, without_progress
from proxygrm.rl.checkpoints import clean_up, last_checkpoint
from proxygrm.rl.config import RlSettings
from proxygrm.rl.options import RewardOptions
from proxygrm.rl.overrides import job_environment, verl_overrides

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_BAR = re.compile(r"Training Progress:[^\r\n]*\|\s*(\d+)/(\d+)")
_NOTES = (
    ("all initialize finished", "rollout and trainer ready"),
    ("actor and ref model engine initialized", "starting the rollout engine"),
    ("create worker group", "loading the policy"),
    ("ray init kwargs", "starting workers"),
)
_KNOWN_FAILURES = (
    ("num_samples=0", "every training prompt is longer than max_prompt_length, or its image could not be read"),
    (
        "no room to generate",
        "a prompt fills the model's whole context; raise max_response_length or lower max_prompt_length",
    ),
    ("CUDA out of memory", "the GPU ran out of memory; lower ppo_micro_batch_size_per_gpu or gpu_memory_utilization"),
)


def train_grpo_command(
    settings: RlSettings,
    *,
    model: Path,
    train_file: Path,
    val_file: Path,
    out: Path,
    ray_address: str,
    nnodes: int,
    gpus_per_node: int,
    run_name: str,
    device: str = "cuda",
    endpoints: Path | None = None,
    services: Mapping[str, Sequence[str]] | None = None,
    service_keys: Mapping[str, Path] | None = None,
    attempt: int = 0,
    extra_environment: Mapping[str, str] | None = None,
    nursery: Path | None = None,
) -> tuple[list[str], dict[str, str]]:
    """Command and additional environment of verl's own trainer; writes its reward options into `out`.

    Running it again resumes from the last checkpoint in `out`; count `attempt` up then. `extra_environment`
    (for example NCCL_SOCKET_IFNAME) reaches the driver and Ray's workers, and is printed: no secrets.
    `services`, `service_keys`: base URLs of auxiliary servers and files with their keys by name, for the reward.
    `nursery`: socket of a nursery (`cpu.started.nursery`), on CPUs.
    """
    requested_mode()  # an unknown SwanLab mode is refused here, and not by one of Ray's workers
    for what, path in (("model", model), ("training file", train_file), ("validation file", val_file)):
        if not path.exists():
            raise UserError(f"rl: the {what} {path} does not exist", code="file.missing", path=path)
    settings.check_against(rows=_rows(train_file), devices=nnodes * gpus_per_node)
    options = RewardOptions(
        rollouts=str(out / "rollouts"),
        stop_file=str(_stop_file(out)),
        group_size=settings.n,
        smallest_group=2 if settings.algorithm.compares_groups else 1,
        reward=settings.reward,
        endpoints=str(endpoints or ""),
        services={name: list(urls) for name, urls in (services or {}).items()},
        service_keys={name: str(file) for name, file in (service_keys or {}).items()},
        max_unscored=settings.max_unscored,
        max_no_verdict=settings.max_no_verdict,
    )
    out.mkdir(parents=True, exist_ok=True)
    _stop_file(out).unlink(missing_ok=True)
    SaveNow(out).clear()
    clean_up(out / "checkpoints", settings.save_total_limit)
    options_file = options.write(out / "reward_options.json")
    environment = job_environment(device=device, output=out, attempt=attempt, algorithm=settings.algorithm)
    environment |= dict(extra_environment or {})
    if key_file := os.environ.get(KEY_FILE_VARIABLE):
        environment.setdefault(KEY_FILE_VARIABLE, str(Path(key_file).expanduser().resolve()))
    Path(environment["VERL_FILE_LOGGER_PATH"]).parent.mkdir(parents=True, exist_ok=True)
    overrides = verl_overrides(
        settings,
        model=model,
        train_file=train_file,
        val_file=val_file,
        output=out,
        ray_address=ray_address,
        nnodes=nnodes,
        gpus_per_node=gpus_per_node,
        reward_options=options_file,
        run_name=run_name,
        device=device,
        environment=environment,
        nursery=nursery,
    )
    return [sys.executable, "-m", "verl.trainer.main_ppo", *overrides], environment


def _rows(path: Path) -> int:
    from pyarrow.parquet import ParquetFile

    return ParquetFile(path).metadata.num_rows


def _stop_file(out: Path) -> Path:
    return out / "stopped.txt"


def explain(out: Path, log: str) -> str:
    """Why the training failed, if it is a known reason; otherwise "". `log`: console output."""
    stopped = _stop_file(out)
    if stopped.exists():
        return stopped.read_text(encoding="utf-8").strip()
    if saved := SaveNow(out).read_answer():
        return f"it was asked to save and stop. {saved}; submit again to resume"
    for text, reason in _KNOWN_FAILURES:
        if text in log:
            return reason
    return ""


def progress(log: str, metrics: list[dict[str, float]] | None = None) -> tuple[int, int, str]:
    """(steps done, steps in all, note) from the trainer's console output; (0, 0, phase) before the first step."""
    bars = _BAR.findall(log)
    done, total = (int(bars[-1][0]), int(bars[-1][1])) if bars else (0, 0)
    if metrics:
        last = metrics[-1]
        note = f"score {last['reward/score_mean']:+.2f}" if "reward/score_mean" in last else ""
        agreement = last.get("reward/proxy_agreement")
        return done, total, note + (f", proxy agrees {agreement:.0%}" if agreement is not None else "")
    if bars:
        return done, total, "first rollouts"
    return 0, 0, next((note for text, note in _NOTES if text in log), "starting")


def collect_metrics(out: Path) -> list[dict[str, float]]:
    """Join the attempts' metrics into `metrics.jsonl` (a later attempt replaces the steps that it repeated)."""
    steps: dict[int, dict[str, float]] = {}
    for path in sorted((out / "verl_metrics").glob("attempt_*.jsonl")):
        attempt: list[dict] = []
        for line in path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(json.JSONDecodeError):  # the last line of an attempt killed while writing it
                attempt.append(json.loads(line))
        # A resumed attempt may first validate the step it starts from: those rows are merged into that step.
        trained = [row["step"] for row in attempt if "training/global_step" in row["data"]]
        steps = {step: row for step, row in steps.items() if not trained or step < min(trained)}
        for row in attempt:
            steps.setdefault(row["step"], {"step": row["step"]}).update(row["data"])
    rows = [with_validation(steps[step]) for step in sorted(steps)]
    write_text(out / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return rows


def look(out: Path, settings: RlSettings, log: str) -> tuple[int, int, str]:
    """While verl trains: the progress. Keeps the best checkpoint, and asks for a stop where the validation has not
    improved for long."""
    rows = collect_metrics(out)
    if settings.eval_steps:
        keep_best(out, rows, settings.best_by)
        idle = without_progress(rows, settings.best_by)
        if settings.early_stop and idle >= settings.early_stop and not stopped_early(out):
            write_json(_early_file(out), {"step": rows[-1]["step"], "validations_without_progress": idle})
            SaveNow(out).request()
    return progress(log, rows)


def stopped_early(out: Path) -> bool:
    """The training is over because its validation did not improve, and there is a checkpoint to finish with."""
    return _early_file(out).exists() and last_checkpoint(out) is not None


def _early_file(out: Path) -> Path:
    return out / "stopped_early.json"


def finish(out: Path, start: Path, settings: RlSettings) -> Path:
    """After verl succeeded: `metrics.jsonl`, the last checkpoint's weights as `policy/`, and with validation `best/`
    (hard links).

    `start`: the model the training started from; the policy keeps its precision. (verl writes the weights in the 32
    bits of the optimiser and `bfloat16` into their configuration, whatever the model was.)
    """
    rows = collect_metrics(out)
    checkpoint = last_checkpoint(out)
    if checkpoint is None:
        raise UserError(
            f"rl: the training left no checkpoint in {out / 'checkpoints'}; see its log",
            code="rl.no-checkpoint",
            path=out / "checkpoints",
        )
    step, folder = checkpoint
    source = folder / "actor" / "huggingface"
    _publish(source, out / "policy", start, step)
    if settings.eval_steps:
        best = keep_best(out, rows, settings.best_by)
        _publish(out / BEST if best else source, out / BEST, start, best.step if best else step)
    shutil.rmtree(out / "datasets_cache", ignore_errors=True)
    return out / "policy"


def _publish(source: Path, target: Path, start: Path, step: int) -> None:
    """UserError (checkpoint.incomplete) for weights that nothing can load."""
    if missing := missing_from_policy(source):
        raise UserError(
            f"rl: the checkpoint of step {step} ({source}) has no {', '.join(missing)}",
            code="checkpoint.incomplete",
            path=source,
            step=step,
            missing=missing,
        )
    scratch = target.with_name(f"{target.name}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    copy_linked(source, scratch)
    _keep_precision(scratch / "config.json", start / "config.json")
    move_into_place(scratch, target)


def _keep_precision(config: Path, original: Path) -> None:
    """Write the original's `dtype` into `config`, as a new file: the old one is a hard link to the checkpoint's."""
    values, start = (json.loads(path.read_text(encoding="utf-8")) for path in (config, original))
    for part in ("", "text_config", "vision_config"):
        target, source = (values, start) if not part else (values.get(part), start.get(part))
        dtype = (source or start).get("dtype") or start.get("dtype") or start.get("torch_dtype")
        if target and dtype and "dtype" in target:
            target["dtype"] = dtype
    write_json(config, values)


def missing_from_policy(folder: Path) -> list[str]:
    """The parts that a complete vision-language checkpoint needs and this folder lacks."""
    needed: dict[str, tuple[str, ...]] = {
        "config.json": ("config.json",),
        "weights": WEIGHTS,
        "tokenizer": ("tokenizer.json", "vocab.json"),
        "processor": ("processor_config.json", "preprocessor_config.json"),
    }
    return [what for what, names in needed.items() if not any((folder / name).is_file() for name in names)]
