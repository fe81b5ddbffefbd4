"""Which models are served, by which names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from proxygrm.core.checkpoints.check import check_checkpoint
from proxygrm.core.checkpoints.kinds import kind_of
from proxygrm.core.errors import UserError

Kind = Literal["scalar", "process", "generative"]
_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})=(.+)", re.DOTALL)
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class ServedModel:
    name: str
    """In requests, metrics and logs."""
    path: Path
    kind: Kind
    """As the checkpoint shows: it scores, judges steps, or writes critiques."""


def read_models(texts: Iterable[str]) -> list[ServedModel]:
    """Of NAME=PATH, or PATH, which is called like its folder. UserError: no checkpoint, two models of one name."""
    models: list[ServedModel] = []
    for text in texts:
        named = None if Path(text).is_dir() else _NAMED.fullmatch(text)
        path = Path(named[2] if named else text)
        check_checkpoint(path)
        name = named[1] if named else _NOT_IN_A_NAME.sub("-", path.resolve().name).strip("-.") or "model"
        model = ServedModel(name, path, cast(Kind, kind_of(path)))
        if other := next((other for other in models if other.name == name), None):
            raise UserError(
                f"two models are called {name!r}: {other.path} ({other.kind}) and {path} ({model.kind}); a request "
                "could not say which one it means: give them names, NAME=PATH",
                code="serve-reward.duplicate-name",
                name=name,
                paths=[other.path, path],
                kinds=[other.kind, model.kind],
            )
        models.append(model)
    return models
