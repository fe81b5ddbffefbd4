"""A scalar reward model for others: the checkpoint, a card, and code that loads it without this suite.

OUT/*.safetensors, config.json, ...  the checkpoint (hard links where possible)
OUT/README.md                        the card
OUT/score_with_transformers.py       scores with transformers alone
OUT/score_with_vllm.py               scores with a vLLM server that embeds
OUT/vllm/                            the backbone alone, which vLLM serves: its loader refuses the head's weights
OUT/reward_head.npz                  the head alone, for the server's callers
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from proxygrm.core.checkpoints.check import copy_linked, read_json
from proxygrm.core.checkpoints.scalar import HEAD
from proxygrm.core.files.durable import move_into_place
from proxygrm.core.files.whole_file import beside
from proxygrm.scalar.layout import PREFIX, layout_of

SCRIPTS = Path(__file__).with_name("elsewhere")
CARD, BACKBONE, HEAD_FILE = "README.md", "vllm", "reward_head.npz"
_INDEX = "model.safetensors.index.json"


def export_model(model: Path, out: Path, card: str) -> Path:
    """`out` appears complete or not at all. Raises UserError for what is not a scalar reward model: those of
    `layout_of`."""
    layout_of(model)
    scratch = beside(out)
    copy_linked(model, scratch)
    for script in sorted(SCRIPTS.glob("score_*.py")):
        shutil.copyfile(script, scratch / script.name)
    (scratch / CARD).unlink(missing_ok=True)  # of the start checkpoint, and maybe a link to it
    (scratch / CARD).write_text(card, encoding="utf-8")
    _part_with_head(model, scratch / BACKBONE, scratch / HEAD_FILE)
    move_into_place(scratch, out)
    return out


def _part_with_head(model: Path, backbone: Path, head_file: Path) -> None:
    """Only the files of weights that hold a part of the head are written again."""
    import numpy as np
    from safetensors import safe_open
    from safetensors.torch import save_file

    copy_linked(model, backbone)
    head: dict[str, Any] = {}
    for file in sorted(model.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            names = list(tensors.keys())
            mine = [name for name in names if name.startswith(PREFIX)]
            if not mine:
                continue
            head |= {name.removeprefix(PREFIX): tensors.get_tensor(name).float().numpy() for name in mine}
            rest = {name: tensors.get_tensor(name) for name in names if name not in mine}
        target = backbone / file.name
        target.unlink()
        if rest:
            save_file(rest, target, {"format": "pt"})
    np.savez(head_file, **head)
    if (backbone / _INDEX).exists():
        index = read_json(model, _INDEX)
        kept = {name: file for name, file in index["weight_map"].items() if not name.startswith(PREFIX)}
        _write(backbone / _INDEX, index | {"weight_map": kept})
    config = read_json(model, "config.json")
    recorded = {name: value for name, value in config.items() if name not in (HEAD, "id2label", "label2id")}
    names = [name.replace("ForSequenceClassification", "ForConditionalGeneration") for name in config["architectures"]]
    _write(backbone / "config.json", recorded | {"architectures": names})


def _write(file: Path, content: object) -> None:
    """Instead of the link."""
    file.unlink()
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
