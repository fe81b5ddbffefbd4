"""Whether a checkpoint is a scalar reward model that the suite can score with, by its small files and the headers of
its weights: without torch, before anything is loaded.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxygrm.core.checkpoints.check import check_checkpoint, read_json
from proxygrm.core.checkpoints.scalar import HEAD, is_scalar
from proxygrm.core.errors import UserError
from proxygrm.scalar.settings import ACTIVATIONS

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
"""Values of `model_type` whose positions and masks the scorer knows."""
PREFIX = "score."
"""Of the head's weights."""
_MOST_LAYERS = 1000


@dataclass(frozen=True)
class Layout:
    """The head as config.json describes it."""

    hidden_size: int
    layers: int
    activation: str
    length_normalisation: bool
    of_ms_swift: bool
    """One linear layer, `score` itself; the bias may be missing."""


def layout_of(model: Path) -> Layout:
    """Raises UserError: checkpoint.not-scalar, checkpoint.unknown-backbone, checkpoint.no-head, checkpoint.other-head,
    and those of a damaged checkpoint."""
    check_checkpoint(model)
    config = read_json(model, "config.json")
    if not is_scalar(config):
        raise UserError(
            f"{model} generates text: it is not a scalar reward model (its config.json has neither {HEAD} nor an "
            "architecture ForSequenceClassification)",
            code="checkpoint.not-scalar",
            path=model,
        )
    if (family := config.get("model_type")) not in FAMILIES:
        raise UserError(
            f"{model} has the backbone {family!r}, which is not scored here; known are {', '.join(FAMILIES)}. Score "
            "the pairs elsewhere and give the file of scores as the judge",
            code="checkpoint.unknown-backbone",
            path=model,
            family=family,
            known=list(FAMILIES),
        )
    shapes = _head_shapes(model)
    if not shapes:
        raise UserError(
            f"{model} says that it is a scalar reward model, but has no weights of a head ({PREFIX}*); it generates "
            "text, or its head was lost in a conversion",
            code="checkpoint.no-head",
            path=model,
        )
    recorded, hidden = _recorded(model, config), _hidden_size(model, config)
    of_ms_swift = "weight" in shapes
    layers = 1 if of_ms_swift else recorded["layers"]
    _check_shapes(model, shapes, _expected(hidden, layers, of_ms_swift and "bias" not in shapes, of_ms_swift), recorded)
    normalised = recorded.get("length_normalisation", False)
    return Layout(hidden, layers, recorded["activation"], normalised, of_ms_swift)


def _recorded(model: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    recorded = config.get(HEAD) or {"layers": 1, "activation": "none"}
    fits = (
        isinstance(recorded, dict)
        and type(recorded.get("layers")) is int
        and 1 <= recorded["layers"] <= _MOST_LAYERS
        and recorded.get("activation") in ACTIVATIONS
        and type(recorded.get("length_normalisation", False)) is bool
    )
    if not fits:
        raise UserError(
            f"{model}: config.json describes its head as {str(recorded)[:160]}; {HEAD} is "
            f"{{layers: 1 to {_MOST_LAYERS}, activation: {' or '.join(ACTIVATIONS)}, length_normalisation: "
            "true or false}; copy it again",
            code="checkpoint.bad-head",
            path=model,
            head=recorded,
        )
    return recorded


def _hidden_size(model: Path, config: Mapping[str, Any]) -> int:
    text = config.get("text_config")
    sizes = [part.get("hidden_size") for part in (text, config) if isinstance(part, dict)]
    size = next((size for size in sizes if size is not None), None)
    if type(size) is not int or size < 1:
        raise UserError(
            f"{model}: config.json has the hidden_size {size!r}, not a whole number of at least 1; copy it again",
            code="checkpoint.bad-head",
            path=model,
            hidden_size=size,
        )
    return size


def _expected(hidden: int, layers: int, no_bias: bool, of_ms_swift: bool) -> dict[str, list[int]]:
    last = "" if of_ms_swift else "out_proj."
    shapes = {f"{last}weight": [1, hidden]} | ({} if no_bias else {f"{last}bias": [1]})
    for number in range(layers - 1):
        shapes |= {f"dense.{number}.weight": [hidden, hidden], f"dense.{number}.bias": [hidden]}
    return shapes


def _check_shapes(
    model: Path, present: Mapping[str, list[int]], expected: Mapping[str, list[int]], recorded: Mapping[str, Any]
) -> None:
    if present == expected:
        return
    names = sorted(name for name in expected.keys() | present.keys() if expected.get(name) != present.get(name))
    raise UserError(
        f"{model}: its head does not fit its backbone and {dict(recorded)}: {PREFIX}{names[0]} is "
        f"{present.get(names[0], 'missing')}, expected {expected.get(names[0], 'none')}",
        code="checkpoint.other-head",
        path=model,
        names=names,
    )


def _head_shapes(model: Path) -> dict[str, list[int]]:
    """Shape by name without the prefix. The files have been checked."""
    shapes: dict[str, list[int]] = {}
    for file in sorted(model.glob("*.safetensors")):
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length))
        names = [name for name in header if name.startswith(PREFIX)]
        shapes |= {name.removeprefix(PREFIX): header[name]["shape"] for name in names}
    return shapes
