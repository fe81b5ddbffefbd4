"""Which models are served, by which names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, cast

from proxygrm.core.checkpoints.check import check_checkpoint
from proxygrm.core.checkpoints.kinds import kind_of
from proxygrm.core.checkpoints.scalar import refuse_scalar
from proxygrm.core.errors import UserError

Kind = Literal["scalar", "process", "generative"]
NO_KINDS: Mapping[str, str] = MappingProxyType({})
_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})=(.+)", re.DOTALL)
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class ServedModel:
    name: str
    """In requests, metrics and logs."""
    path: Path
    kind: Kind
    """As the checkpoint shows: it scores, judges steps, or writes critiques."""


def read_models(texts: Iterable[str], kinds: Mapping[str, str] = NO_KINDS) -> list[ServedModel]:
    """Of NAME=PATH, or PATH, which is called like its folder. kinds: as the user says, by name; "" is of all others.

    UserError: no checkpoint, two models of one name, a kind that the checkpoint contradicts or of a model that there is
    not.
    """
    models: list[ServedModel] = []
    for text in texts:
        named = None if Path(text).is_dir() else _NAMED.fullmatch(text)
        path = Path(named[2] if named else text)
        check_checkpoint(path)
        name = named[1] if named else _NOT_IN_A_NAME.sub("-", path.resolve().name).strip("-.") or "model"
        model = ServedModel(name, path, cast(Kind, kind_of(path, kinds.get(name, kinds.get("", "")))))
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
    _refuse_unknown(kinds, [model.name for model in models])
    return models


def read_helper(name: str, path: Path, models: Sequence[ServedModel]) -> ServedModel:
    """A checkpoint that helps process models, by what it does. UserError: none, one that scores, or a model is called
    like it."""
    check_checkpoint(path)
    refuse_scalar(path, f"--{name}")
    for model in models:
        if model.name == name:
            raise UserError(
                f"the model {model.path} is called {name!r}, which is --{name} here; give the model another name, "
                "NAME=PATH",
                code="serve-reward.duplicate-name",
                name=name,
                paths=[model.path, path],
                kinds=[model.kind, "generative"],
            )
    return ServedModel(name, path, "generative")


def read_kinds(texts: Iterable[str]) -> dict[str, str]:
    """Of NAME=KIND, or KIND, which is of all models without one, under "". UserError: two of one name."""
    kinds: dict[str, str] = {}
    for text in texts:
        name, _, kind = text.rpartition("=")
        if name in kinds:
            whose = f"of {name!r}" if name else "without a name"
            raise UserError(
                f"--kind is given twice {whose}; drop one", code="serve-reward.repeated-kind", name=name, kind=kind
            )
        kinds[name] = kind
    return kinds


def _refuse_unknown(kinds: Mapping[str, str], names: Sequence[str]) -> None:
    for name in kinds:
        if name and name not in names:
            raise UserError(
                f"--kind {name}={kinds[name]} is of no model here; there is {', '.join(names)}",
                code="serve-reward.unknown-model",
                name=name,
                names=list(names),
            )
