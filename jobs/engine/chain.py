"""What is wrong with the stages that a recipe returns: each alone, and between them."""

from __future__ import annotations

import inspect
import json
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from jobs.engine.stage import Artifact, Given, Output, Stage
from proxygrm.critique.prompts import NAMES
from slurm.sbatch import Resources

Fault = tuple[str, str, str]
"""Error code (after "recipe."), the stage's name, and what is wrong in words."""
_NAME = re.compile(r"\w[\w-]{0,99}")
TAKEN = frozenset({"ablations", "cells", "code", "sending", "used_by"})
"""Names of other folders in a run folder."""


def faults(stages: Sequence[Stage]) -> Iterable[Fault]:
    """Those of the stages first, because the others are looked for in what they say."""
    for stage in stages:
        if text := fault(stage):
            yield "bad-stage", str(stage.name), text
    names = [stage.name for stage in stages]
    for name in names:
        if names.count(name) > 1:
            yield "duplicate-stage", name, f"two stages are called {name!r}; each has its own folder"
    if circle := _circle(stages):
        yield "circle", circle[0], f"stages need each other in a circle: {' -> '.join(circle)}"
    earlier: set[str] = set()
    for stage in stages:
        for need in stage.needs.values():
            if not isinstance(need, Output):
                continue
            other = need.stage.name
            if other not in names:
                what = f"{stage.name!r} needs {other}/{need.path}, but chain() does not return stage {other!r}"
                yield "unlisted-stage", stage.name, what
            elif other not in earlier:
                yield "wrong-order", stage.name, f"{stage.name!r} comes before {other!r}, which it needs"
        earlier.add(stage.name)


def fault(stage: Stage) -> str:
    """Of one stage; "" where nothing is wrong."""
    name = stage.name
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        short = reprlib.repr(name)
        return f"a stage is called {short}; a folder and a job have its name: up to 100 letters, digits, _ and -"
    if name in TAKEN:
        return f"a stage is called {name!r}, like a folder that each run has; give it another name"
    for label, value, right, wanted in _fields(stage):
        if not right:
            return f"stage {name!r}: {label} is {reprlib.repr(value)}; it has to be {wanted}"
    try:
        json.dumps(stage.settings())
    except (TypeError, ValueError, KeyError, RecursionError) as error:
        return f"stage {name!r}: its config cannot be part of a fingerprint: {type(error).__name__}: {error}"
    return ""


def _fields(stage: Stage) -> Iterable[tuple[str, Any, bool, str]]:
    """Name, value, whether it is right, and what it is otherwise. Lazily: each may be looked at if those before it are
    right."""
    yield "run", stage.run, _takes_one(stage.run), "a function that takes a StageRun"
    makes = stage.makes
    yield "makes", makes, _all(makes, lambda one: isinstance(one, Artifact)), "a tuple of artifacts: (Artifact(PATH),)"
    for one in makes:
        yield "makes", one.path, _inside(one.path), "a path inside the stage's own folder"
        yield f"the check of {one.path}", one.check, callable(one.check), "a function that takes a path"
    needs = stage.needs
    yield "needs", needs, isinstance(needs, Mapping), "a mapping: label -> Given(PATH), or stage / PATH"
    for label, need in needs.items():
        right = isinstance(need, Given) or (isinstance(need, Output) and isinstance(need.stage, Stage))
        yield f"need {label!r}", need, right, "Given(PATH), or stage / PATH of an earlier stage"
        if isinstance(need, Given):
            path = need.path
            yield f"the path of need {label!r}", path, isinstance(path, str) and path.strip() != "", "a path, as text"
            yield f"the check of need {label!r}", need.check, callable(need.check), "a function that takes a path"
    yield "on", stage.on, isinstance(stage.on, Resources), "a Resources(...)"
    yield "prompts", stage.prompts, _all(stage.prompts, lambda one: one in NAMES), f"a tuple of {', '.join(NAMES)}"
    for key, least in (("array", 1), ("max_requeues", 0), ("throttle", 0)):
        number = getattr(stage, key)
        yield key, number, type(number) is int and number >= least, f"a whole number from {least}"
    for key in ("validate", "disk"):
        value = getattr(stage, key)
        yield key, value, value is None or callable(value), "None or a function"


def _all(values: Any, right: Callable[[Any], bool]) -> bool:
    return isinstance(values, tuple | list) and all(right(one) for one in values)


def _inside(path: Any) -> bool:
    parts = PurePath(path).parts if isinstance(path, str) else ()
    return bool(parts) and ".." not in parts and not PurePath(path).is_absolute()


def _takes_one(function: Any) -> bool:
    """Whether it can be called with one value; of what does not say what it takes, it is believed."""
    if not callable(function):
        return False
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(None)
    except TypeError:
        return False
    return True


def _circle(stages: Iterable[Stage]) -> list[str]:
    """By name, because a stage may have been replaced by another of its name after it was used."""
    needs = {
        stage.name: {need.stage.name for need in stage.needs.values() if isinstance(need, Output)} for stage in stages
    }
    left = dict(needs)
    while ready := [name for name, parents in left.items() if not parents & left.keys()]:
        for name in ready:
            del left[name]
    if not left:
        return []
    path = [next(iter(left))]
    while path.count(path[-1]) < 2:
        path.append(next(iter(sorted(left[path[-1]] & left.keys()))))
    return path[path.index(path[-1]) :]
