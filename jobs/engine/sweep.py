"""Ablations: the chain once for each cell of a grid, everything the cells have in common made once.

A spec is a TOML file, one that a recipe ships or your own:

    about = "Does the reward's aggregation matter?"
    throttle = 8                                # cells that train at a time
    set = ["rl.n=4"]                            # what all cells have in common
    sweep = "judging"                           # which of the recipe's `sweeps`; left out: its `sweep`
    [grid]                                      # every combination is a cell
    "rl.reward.aggregation" = ["sum", "bonus"]
    "rl.seed" = [1, 2, 3]
    [[cells]]                                   # instead of, or multiplied with, a grid
    name = "proxy-rl"
    set = ["proxy_training=rl"]

A cell is a pair of ordinary stages, so it has its own fingerprint, DONE record and failure: adding a seed trains that
seed alone, and submitting again runs what is missing.
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from jobs.engine.recipe import Recipe, Sweep
from jobs.engine.stage import Identity, Output, Stage, closure
from proxygrm.core import settings
from proxygrm.core.errors import UserError
from proxygrm.core.files.user_text import read_user_text

T = TypeVar("T")
CELLS = "cells/"
"""Folder of the stages that cells have for themselves."""
KEYS = ("about", "throttle", "set", "sweep", "grid", "cells")
LEFT_OUT = "!"
"""Before the pattern of cells that are not taken."""


@dataclass(frozen=True)
class Cell:
    """name: its folder. settings: what `--set` would be given. axes: (axis, value) of each, for the table."""

    name: str
    settings: tuple[str, ...]
    axes: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, row: dict[str, Any]) -> Cell:
        """Back from JSON."""
        return cls(row["name"], tuple(row["settings"]), tuple((axis, value) for axis, value in row["axes"]))


@dataclass(frozen=True)
class Spec:
    name: str
    about: str
    cells: tuple[Cell, ...]
    throttle: int = 0
    """Cells that train at a time; 0 leaves it to the scheduler."""
    sweep: str = ""
    """Which of the recipe's `sweeps` says what a cell repeats; "": its `sweep`."""


def read_spec(name: str, shipped: Path | None, only: Sequence[str] = ()) -> Spec:
    """The spec in a file, or the shipped one of that name. Raises UserError that says what is wrong, and where.

    shipped: the folder of the recipe's specs; None where it has none.

    only: names of the cells to take, as shell patterns; none takes all. A pattern after `!` leaves cells out.
    """
    files = {file.stem: file for file in sorted(shipped.glob("*.toml"))} if shipped else {}
    if not name.endswith(".toml") and name not in files:
        raise _no_spec(name, list(files))
    path = Path(name) if name.endswith(".toml") else files[name]
    try:
        table = tomllib.loads(read_user_text(path))
    except FileNotFoundError:
        raise _no_spec(name, list(files)) from None
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise _bad_spec(path, f"cannot be read: {error}", "unreadable") from None
    if unknown := sorted(set(table) - set(KEYS)):
        raise _bad_spec(
            path, f"unknown key {unknown[0]!r}; there are {', '.join(KEYS)}", "unknown-key", name=unknown[0]
        )
    throttle = table.get("throttle", 0)
    if not isinstance(throttle, int) or isinstance(throttle, bool) or throttle < 0:
        text = f"throttle is {throttle!r}; it is a number of cells, 0 for no limit"
        raise _bad_spec(path, text, "bad-throttle", value=throttle)
    common, of_recipe = table.get("set", []), table.get("sweep", "")
    if not _is_assignments(common):
        text = f'set is {common!r}; it is a list of "NAME=VALUE", what all cells have in common'
        raise _bad_spec(path, text, "bad-set", value=common)
    if not isinstance(of_recipe, str):
        raise _bad_spec(path, f"sweep is {of_recipe!r}; it is a name", "bad-sweep", value=of_recipe)
    cells = _selected(_cells(table.get("cells", []), table.get("grid", {}), path), only, path)
    cells = [replace(cell, settings=(*common, *cell.settings)) for cell in cells]
    return Spec(path.stem, str(table.get("about", "")), tuple(cells), throttle, of_recipe)


def _is_assignments(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) and "=" in text for text in value)


def _no_spec(name: str, known: list[str]) -> UserError:
    there = f"there are {', '.join(known)}, or the path of a .toml file" if known else "give the path of a .toml file"
    hint = settings.did_you_mean(name, known, there)
    return UserError(f"there is no ablation {name!r}; {hint}", code="ablation.unknown", name=name, known=known)


def _bad_spec(path: Path, text: str, code: str, **values: Any) -> UserError:
    return UserError(f"{path}: {text}", code=f"ablation.{code}", path=str(path), **values)


def _cells(named: Any, grid: Any, path: Path) -> list[Cell]:
    rows = [_named(row, path) for row in named] if isinstance(named, list) else None
    if rows is None or not isinstance(grid, dict) or not (rows or grid):
        text = "give a [grid] of NAME = [VALUES], [[cells]] with name and set, or both"
        raise _bad_spec(path, text, "no-cells")
    for axis, values in grid.items():
        if not isinstance(values, list) or not values:
            text = f"grid {axis!r} is {values!r}; it is a list of at least one value"
            raise _bad_spec(path, text, "bad-axis", axis=axis, value=values)
    cells = []
    for base in rows or [Cell("", ())]:
        for values in itertools.product(*grid.values()):
            axes = [(axis, _text(value)) for axis, value in zip(grid, values, strict=True)]
            words = [f"{axis.split('.')[-1]}-{_short(value)}" for axis, value in axes]
            name = "_".join(filter(None, [base.name, *words]))
            assignments = (*base.settings, *(f"{axis}={value}" for axis, value in axes))
            cells.append(Cell(name, assignments, (*base.axes, *axes)))
    counts = Counter(cell.name for cell in cells)
    if duplicates := sorted(name for name, count in counts.items() if count > 1):
        text = f"two cells are called {duplicates[0]!r}; name them apart with [[cells]]"
        raise _bad_spec(path, text, "duplicate-cell", name=duplicates[0])
    return cells


def _selected(cells: list[Cell], only: Sequence[str], path: Path) -> list[Cell]:
    names = [cell.name for cell in cells]
    taken = [pattern for pattern in only if not pattern.startswith(LEFT_OUT)]
    without = [pattern.removeprefix(LEFT_OUT) for pattern in only if pattern.startswith(LEFT_OUT)]
    for pattern in (*taken, *without):
        if not _matches(names, pattern):
            text = f"no cell is called {pattern!r}; there are {', '.join(names[:12])}"
            raise _bad_spec(path, text, "unknown-cell", name=pattern, known=names)
    selected = [
        cell
        for cell in cells
        if any(_matches([cell.name], pattern) for pattern in taken or ("*",))
        and not any(_matches([cell.name], pattern) for pattern in without)
    ]
    if not selected:
        raise _bad_spec(path, "no cell is left; take fewer out", "no-cells")
    return selected


def _matches(names: Sequence[str], pattern: str) -> bool:
    return any(fnmatchcase(name, pattern) for name in names)


def _named(row: Any, path: Path) -> Cell:
    assignments: Any = row.get("set", []) if isinstance(row, dict) else None
    if (
        not _is_assignments(assignments)
        or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", str(row.get("name", "")))
        or len(row) > 2
    ):
        text = f'a cell is name = "letters, digits, . + -" and set = ["NAME=VALUE", ...]; got {row!r}'
        raise _bad_spec(path, text, "bad-cell", value=row)
    return Cell(row["name"], tuple(assignments), (("cell", row["name"]),))


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _short(value: str) -> str:
    """A value as a part of a folder's name; of a path, what tells it apart."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", value.rstrip("/").split("/")[-1]).strip("-.") or "empty"


def last_stages(spec: Spec, recipe: Recipe) -> tuple[str, ...]:
    """Those that need all else that a cell has."""
    last = list(recipe.sweep_of(spec.sweep).per_cell)[-1]
    return tuple(f"{CELLS}{cell.name}/{last}" for cell in spec.cells)


def stages(recipe: Recipe, config: Any, cells: Sequence[Cell], throttle: int = 0, name: str = "") -> list[Stage]:
    """The recipe's chain for every cell; what cells have in common is made once. name: of the sweep that the spec
    gives. Raises UserError."""
    repeated = recipe.sweep_of(name)
    if not repeated.per_cell:
        raise UserError(
            f"recipe {recipe.name} does not say what an ablation repeats (Recipe.sweep)", code="ablation.not-possible"
        )
    chains = [(cell, recipe.stages(settings_of(config, cell))) for cell in cells]
    for _, chain in chains:
        if text := _fault(repeated, chain):
            raise UserError(f"{recipe.file or recipe.name}: its Sweep {text}", code="ablation.wrong-sweep")
    return cell_stages(recipe.stages(config), chains, repeated, throttle)


def _fault(sweep: Sweep, chain: Sequence[Stage]) -> str:
    """Why the chain of a cell cannot be repeated so; "" when it can."""
    names = [stage.name for stage in chain]
    repeated = [name for name in sweep.per_cell if name in names]
    if not repeated:
        return f"repeats {', '.join(sweep.per_cell)}, and the chain has {', '.join(names)}"
    if repeated != sorted(repeated, key=names.index):
        return f"repeats {', '.join(repeated)}; give them in the chain's order"
    for stage in _kept(chain, sweep):
        for parent in stage.upstream():
            if parent.name in sweep.left_out:
                return f"leaves out {parent.name}, which {stage.name} needs"
    return ""


def settings_of(config: T, cell: Cell) -> T:
    """The settings of one cell. Raises UserError that names the cell."""
    try:
        return settings.with_assignments(config, cell.settings)
    except UserError as error:
        raise UserError(f"cell {cell.name}: {error}", code=error.code, **{**error.values, "cell": cell.name}) from None


def cell_stages(
    base: Sequence[Stage], chains: Sequence[tuple[Cell, Sequence[Stage]]], sweep: Sweep, throttle: int = 0
) -> list[Stage]:
    """One list of stages for the chains of all cells.

    Stages of a cell (`sweep`) stand in `cells/NAME/`; each kind of them is one job array, unless it is an array of its
    own in each cell. Of any other stage there is one for each way the cells configure it: as in the chain without cells
    (`base`) it keeps its name, otherwise it is called NAME-FINGERPRINT.
    """
    kept: dict[str, Stage] = {}
    kinds: dict[str, str] = {}
    known = {stage.name: stage.fingerprint() for stage in base}
    for cell, stages in chains:
        mine: dict[str, Stage] = {}
        identities: dict[str, Identity] = {}
        for stage in _kept(stages, sweep):
            needs = {
                label: Output(mine[need.stage.name], need.path) if isinstance(need, Output) else need
                for label, need in stage.needs.items()
            }
            if own := sweep.per_cell.get(stage.name):
                renamed = replace(
                    stage,
                    name=f"{CELLS}{cell.name}/{stage.name}",
                    needs={label: need for label, need in needs.items() if label in (own.needs or needs)},
                    throttle=throttle if own.throttled else 0,
                )
                kinds[renamed.name] = stage.name
                if not _apart(renamed):
                    renamed = replace(renamed, batch=own.batch)
            else:
                fingerprint = stage.identity(identities).fingerprint
                as_ever = known.get(stage.name, fingerprint) == fingerprint
                name = stage.name if as_ever else f"{stage.name}-{fingerprint[:6]}"
                renamed = replace(stage, name=name, needs=needs)
            mine[stage.name] = kept.setdefault(renamed.name, renamed)
    order = ["", *sweep.per_cell]
    return sorted(kept.values(), key=lambda stage: order.index(kinds.get(stage.name, "")))


def _kept(stages: Sequence[Stage], sweep: Sweep) -> Sequence[Stage]:
    """What an ablation has of one cell's chain."""
    kept = [stage for stage in stages if stage.name not in sweep.left_out]
    if not sweep.needed_alone:
        return kept
    return closure(kept, [stage.name for stage in kept if stage.name in sweep.per_cell])


def _apart(stage: Stage) -> bool:
    """Whether a cell's stage is a job array itself, or waits for one: an array has no arrays for elements, and an
    element can wait for the element of its own cell only."""
    return stage.array > 1 or any(parent.array > 1 and parent.name.startswith(CELLS) for parent in stage.upstream())
