"""`--set a.b=c`: change one value of a resolved experiment, typed and checked."""

from __future__ import annotations

import dataclasses
import difflib
import json
from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from proxygrm.core.errors import UserError
from proxygrm.core.one_line import refuse_control

T = TypeVar("T")


def apply(value: T, assignments: tuple[str, ...] | list[str]) -> T:
    """Returns a copy with every `path=value` applied at once; the right-hand side is JSON or plain text.

    At once, because a record may refuse a state that only stands between two assignments.
    """
    tree: dict[str, Any] = {}
    for assignment in assignments:
        path, sign, text = (part.strip() for part in assignment.partition("="))
        if not sign:
            raise UserError(f"--set {assignment}: expected NAME=VALUE, for example --set rl.lr=1e-6")
        refuse_control(assignment, f"--set {path}")  # of an ablation's spec, too
        *groups, name = path.split(".")
        branch: Any = tree
        for key in groups:
            branch = branch.setdefault(key, {})
            if not isinstance(branch, dict):
                raise UserError(f"--set {path}: {key!r} was given a value already")
        branch[name] = text
    return _replaced(value, tree, "")


def _replaced(value: Any, changes: dict[str, Any], where: str) -> Any:
    kind: Any = type(value)
    names = [field.name for field in dataclasses.fields(value)]
    new: dict[str, Any] = {}
    for key, change in changes.items():
        path = f"{where}{key}"
        if key not in names:
            near = difflib.get_close_matches(key, names, 1)
            hint = f"did you mean {near[0]!r}?" if near else _inside(value, key) or f"there are {', '.join(names)}"
            raise UserError(f"--set {path}: nothing is called {key!r} there; {hint}")
        old = getattr(value, key)
        group = dataclasses.is_dataclass(old)
        if isinstance(change, dict) and not group:
            part = next(iter(change))
            hint = _inside(value, part)
            raise UserError(f"--set {path}.{part}: {key!r} is a single value, it has no parts{'; ' * bool(hint)}{hint}")
        if group and not isinstance(change, dict):
            inner = ", ".join(f"{path}.{field.name}" for field in dataclasses.fields(old))
            raise UserError(f"--set {path}: that is a group of values; set one of {inner}")
        hint = _hints(kind)[key]
        new[key] = _replaced(old, change, f"{path}.") if group else _parsed(change, hint, old, path)
    return dataclasses.replace(value, **new)


def _inside(value: Any, name: str) -> str:
    """The groups of a record that have a value of this name, as a hint."""
    groups = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    found = [
        f"{key}.{name}" for key, group in groups.items() if dataclasses.is_dataclass(group) and hasattr(group, name)
    ]
    return f"did you mean {' or '.join(found)}?" if found else ""


@cache
def _hints(kind: type) -> dict[str, Any]:
    """Read once: an ablation sets the same few values for each of its many cells."""
    return get_type_hints(kind)


def _parsed(text: str, hint: Any, old: Any, path: str) -> Any:
    """Read `text` as the field's type; the type of the present value decides between the members of a union."""
    kind = str(hint)
    if text.lower() in {"none", "null"} and "None" in kind:
        return None
    if get_origin(hint) is Literal:
        if text not in get_args(hint):
            raise UserError(f"--set {path}: {text!r} is not one of {', '.join(map(str, get_args(hint)))}")
        return text
    try:
        if isinstance(old, bool) or hint is bool:
            return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
        if isinstance(old, int) or (old is None and "int" in kind):
            return int(text)
        if isinstance(old, float) or (old is None and "float" in kind):
            return float(text)
        if isinstance(old, tuple):
            items = json.loads(text) if text.startswith("[") else [part for part in text.split(",") if part]
            return tuple(items)
    except (ValueError, KeyError):
        expected = "true or false" if isinstance(old, bool) else type(old).__name__
        raise UserError(f"--set {path}: {text!r} is not {expected}") from None
    return text
