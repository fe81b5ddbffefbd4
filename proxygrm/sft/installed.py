"""The arguments that the installed ms-swift has, read from its source: importing it takes half a minute and torch.

ms-swift's command line is made of the fields of one dataclass and its bases, some of them transformers'. Where ms-swift
is not installed (a login node) nothing can be checked; the job checks again.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from proxygrm.core.checkpoints.check import read_json
from proxygrm.core.errors import UserError
from proxygrm.core.settings import did_you_mean

CLASSES = {"sft": "SftArguments", "rlhf": "RLHFArguments", "export": "ExportArguments"}
"""Command of ms-swift -> the class of its arguments."""
_REGISTRIES = {"model_type": "swift.model.constant", "template": "swift.template.constant"}
_NUMBERS = {"int": int, "float": float}


@dataclass(frozen=True)
class Argument:
    name: str
    types: frozenset[str]
    """Names in its annotation, as {"Optional", "int"}."""
    choices: tuple[str, ...] = ()
    """Of a Literal; empty for all values."""

    @property
    def is_list(self) -> bool:
        return bool(self.types & {"List", "list"})

    def expected(self, value: str) -> str:
        """What it must be instead, "" where `value` will do."""
        if self.choices:
            return "" if value in self.choices else f"one of {', '.join(self.choices)}"
        kinds = self.types - {"Optional", "Union", "List", "list", "None"}
        if kinds == {"bool"}:
            return "" if value.lower() in ("true", "false") else "true or false"
        for kind, convert in _NUMBERS.items():
            if kinds == {kind}:
                try:
                    convert(value)
                except ValueError:
                    return f"a number ({kind})"
        return ""


@cache
def arguments(command: str) -> dict[str, Argument] | None:
    """By name, the arguments of `swift COMMAND`; None where ms-swift is not installed."""
    if _source("swift.arguments") is None:
        return None
    return {argument.name: argument for argument in _fields("swift.arguments", CLASSES[command])}


@cache
def registered(name: str) -> tuple[str, ...]:
    """The values of `model_type` or `template` that ms-swift comes with; none where it is not installed."""
    tree = _source(_REGISTRIES[name])
    constants = (node.value for node in ast.walk(tree or ast.Module([], [])) if isinstance(node, ast.Assign))
    return tuple(value.value for value in constants if isinstance(value, ast.Constant) and isinstance(value.value, str))


def model_type_of(model: Path) -> str:
    """What config.json calls the kind of model, where ms-swift has a model_type and a template of that name; or ""."""
    kind = str(read_json(model, "config.json").get("model_type", ""))
    return kind if all(kind in registered(name) for name in _REGISTRIES) else ""


def check_argument(command: str, name: str, value: str, where: str) -> Argument | None:
    """The argument; None where ms-swift is not installed. where: for the message.

    Raises UserError: sft.unknown-argument, sft.wrong-value.
    """
    known = arguments(command)
    if known is None:
        return None
    if name not in known:
        hint = did_you_mean(name, known, f"`swift {command}` has no argument like it")
        raise UserError(
            f"{where}: ms-swift has no argument {name!r} for `swift {command}`; {hint}",
            code="sft.unknown-argument",
            name=name,
            command=command,
        )
    if expected := known[name].expected(value):
        raise UserError(
            f"{where}: {name} is {value!r}; it must be {expected}", code="sft.wrong-value", name=name, value=value
        )
    return known[name]


def _fields(module: str, name: str) -> Iterator[Argument]:
    """Fields of a dataclass, after those of its bases, which it overrides."""
    found = _definition(module, name)
    if found is None:
        return
    module, node = found
    for base in reversed(node.bases):
        if isinstance(base, ast.Name):
            yield from _fields(module, base.id)
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            yield _argument(line.target.id, line.annotation)


def _argument(name: str, annotation: ast.expr) -> Argument:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):  # written in quotes
        annotation = ast.parse(annotation.value, mode="eval").body
    nodes = list(ast.walk(annotation))
    types = {node.id for node in nodes if isinstance(node, ast.Name)}
    texts = tuple(str(node.value) for node in nodes if isinstance(node, ast.Constant) and node.value is not None)
    return Argument(name, frozenset(types), texts if "Literal" in types and not types & {"List", "str"} else ())


def _definition(module: str, name: str) -> tuple[str, ast.ClassDef] | None:
    """Where a name that `module` defines or imports is defined as a class; None for one that cannot be followed."""
    tree = _source(module)
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.ClassDef) and node.name == name:
            return module, node
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _definition(_imported(module, node), alias.name)
    return None


def _imported(module: str, node: ast.ImportFrom) -> str:
    """The module that `from X import` in `module` names."""
    if not node.level:
        return node.module or ""
    package = module.split(".") if _path(module).name == "__init__.py" else module.split(".")[:-1]
    return ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])


@cache
def _source(module: str) -> ast.Module | None:
    path = _path(module)
    return ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else None


def _path(module: str) -> Path:
    top, *rest = module.split(".")
    spec = find_spec(top)  # of a top-level package: it is found, not imported
    root = Path(spec.origin).parent if spec and spec.origin else Path("/nonexistent")
    folder = root.joinpath(*rest)
    return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
