"""Adds the weights of a LoRA adapter to the checkpoint that it was trained on, with `swift export`.

out/
  model/      complete Hugging Face checkpoint
  swift.log   console output
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from proxygrm.core.checkpoints.adapter import check_adapter, check_base
from proxygrm.core.checkpoints.check import check_checkpoint, read_json
from proxygrm.core.checkpoints.code import refuse_code
from proxygrm.core.checkpoints.kinds import MARKER
from proxygrm.core.errors import UserError
from proxygrm.scalar.settings import RewardModelSettings
from proxygrm.sft.arguments import OWN_PLUGINS, command, environment, plugins, words
from proxygrm.sft.checkpoints import REWARD_MODEL_FILE, publish
from proxygrm.sft.settings import SftSettings
from proxygrm.sft.train import Progress, run_swift

_ARGS = "args.json"


def merge_lora(
    start: Path,
    adapter: Path,
    out: Path,
    device: str = "cuda",
    max_shard_size: str = "5GB",
    trust_remote_code: bool = False,
    progress: Progress = lambda done, total, note: None,
) -> Path:
    """`out/model`: `start` with the adapter's weights added, and the processor that the adapter was trained with.

    Raises UserError for an incomplete input, for an adapter of another start (checkpoint.other-base), or with
    ms-swift's last error.
    """
    for path, check in ((start, check_checkpoint), (adapter, check_adapter)):
        check(path)
        refuse_code(path, trust_remote_code)
    check_base(adapter, start)
    merged = out / "swift"
    shutil.rmtree(merged, ignore_errors=True)  # of an interrupted attempt
    out.mkdir(parents=True, exist_ok=True)
    settings = _settings(adapter, trust_remote_code)
    values = {
        "model": start,
        "adapters": adapter,
        "merge_lora": True,
        "max_shard_size": max_shard_size,
        "output_dir": merged,
        "use_hf": True,
        "external_plugins": [*plugins(settings), *_other_plugins(adapter)],
    }
    variables = environment(settings, out, device)
    run_swift(command(words(values), "cpu", name="export"), variables, out / "swift.log", progress)
    marker = {MARKER: read_json(adapter, MARKER)} if (adapter / MARKER).exists() else {}
    model = publish(merged, out / "model", adapter, records=marker)
    shutil.rmtree(merged)
    return model


def _other_plugins(adapter: Path) -> list[str]:
    """Plug-ins that the adapter was trained with, besides the suite's own, which may have been in another folder."""
    recorded = _arguments(adapter).get("external_plugins") or []
    own = {plugin.parts[-3:] for plugin in OWN_PLUGINS}
    return [plugin for plugin in recorded if Path(plugin).parts[-3:] not in own]


def _settings(adapter: Path, trust_remote_code: bool) -> SftSettings:
    """Those that decide how the adapter's model is built: a scalar reward model has a head."""
    settings = SftSettings(trust_remote_code=trust_remote_code)
    if not (adapter / REWARD_MODEL_FILE).exists():
        return settings
    reward_model = RewardModelSettings(**read_json(adapter, REWARD_MODEL_FILE))
    return replace(settings, command="rlhf", rlhf_type="rm", reward_model=reward_model)


def _arguments(adapter: Path) -> dict[str, Any]:
    """ms-swift's record of the training: the kind of model, its template, its data type, its task."""
    try:
        return json.loads((adapter / _ARGS).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"the adapter at {adapter} has no {_ARGS}, which ms-swift writes beside it and needs to merge it",
            code="checkpoint.incomplete",
            path=adapter,
            file=_ARGS,
        ) from error
