"""Ablations: the chain once for each cell of a grid, everything the cells have in common made once.

A spec is a TOML file, one that a recipe ships or your own:

    about = "Does the reward's aggregation matter?"
    throttle = 8                                # cells that train at a time
    [grid]                                      # every combination is a cell
    "rl.aggregation" = ["sum", "bonus"]
    "rl.seed" = [1, 2, 3]
    [[cells]]                                   # instead of, or multiplied with, a grid
    name = "proxy-rl"
    set = ["proxy_training=rl"]

A cell is a pair of ordinary stages, so it has its own fingerprint, DONE record and failure: adding a seed trains that
seed alone, and submitting again runs what is missing.
"""

from __future__ import annotations

import difflib
import itertools
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from jobs.engine import overrides
from jobs.engine.stage import Output, Stage
from proxygrm.core.errors import UserError
from proxygrm.core.files.user_text import read_user_text

T = TypeVar("T")
KEYS = ("about", "throttle", "grid", "cells")


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
class OfACell:
    """A stage that every cell has for itself."""

    batch: str
    """The job array that holds it for all cells."""
    needs: tuple[str, ...] = ()
    """Of what it needs, only these; empty for all."""
    throttled: bool = False
    """Whether so many run at a time as the ablation says, rather than all."""


@dataclass(frozen=True)
class Repeats:
    """What an ablation repeats, as the recipe says: stages of a cell in the chain's order, and stages left out."""

    of_a_cell: Mapping[str, OfACell]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spec:
    name: str
    about: str
    cells: tuple[Cell, ...]
    throttle: int = 0
    """Cells that train at a time; 0 leaves it to the scheduler."""


def read_spec(name: str, shipped: Path, only: Sequence[str] = ()) -> Spec:
    """The spec in a file, or the shipped one of that name. Raises UserError that says what is wrong, and where.

    only: names of the cells to take, as shell patterns; none takes all.
    """
    path = Path(name) if name.endswith(".toml") else shipped / f"{name}.toml"
    try:
        found = tomllib.loads(read_user_text(path))
    except FileNotFoundError:
        known = [file.stem for file in sorted(shipped.glob("*.toml"))]
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}, or the path of a .toml file"
        raise UserError(f"no ablation {name!r}; {hint}") from None
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if unknown := sorted(set(found) - set(KEYS)):
        raise UserError(f"{path}: unknown key {unknown[0]!r}; there are {', '.join(KEYS)}")
    throttle = found.get("throttle", 0)
    if not isinstance(throttle, int) or isinstance(throttle, bool) or throttle < 0:
        raise UserError(f"{path}: throttle is {throttle!r}; it is a number of cells, 0 for no limit")
    cells = _chosen(_cells(found.get("cells", []), found.get("grid", {}), path), only, path)
    return Spec(path.stem, str(found.get("about", "")), tuple(cells), throttle)


def _cells(named: Any, grid: Any, path: Path) -> list[Cell]:
    rows = [_named(row, path) for row in named] if isinstance(named, list) else None
    if rows is None or not isinstance(grid, dict) or not (rows or grid):
        raise UserError(f"{path}: give a [grid] of NAME = [VALUES], [[cells]] with name and set, or both")
    for axis, values in grid.items():
        if not isinstance(values, list) or not values:
            raise UserError(f"{path}: grid {axis!r} is {values!r}; it is a list of at least one value")
    found = []
    for base in rows or [Cell("", ())]:
        for values in itertools.product(*grid.values()):
            axes = [(axis, _text(value)) for axis, value in zip(grid, values, strict=True)]
            words = [f"{axis.split('.')[-1]}-{_short(value)}" for axis, value in axes]
            name = "_".join(filter(None, [base.name, *words]))
            settings = (*base.settings, *(f"{axis}={value}" for axis, value in axes))
            found.append(Cell(name, settings, (*base.axes, *axes)))
    names = [cell.name for cell in found]
    if twice := sorted({name for name in names if names.count(name) > 1})[:1] if len(set(names)) < len(names) else []:
        raise UserError(f"{path}: two cells are called {twice[0]!r}; name them apart with [[cells]]")
    return found


def _chosen(cells: list[Cell], only: Sequence[str], path: Path) -> list[Cell]:
    for pattern in only:
        if not any(fnmatchcase(cell.name, pattern) for cell in cells):
            raise UserError(f"{path}: no cell is called {pattern!r}; there are {', '.join(c.name for c in cells[:12])}")
    return [cell for cell in cells if not only or any(fnmatchcase(cell.name, pattern) for pattern in only)]


def _named(row: Any, path: Path) -> Cell:
    settings: Any = row.get("set", []) if isinstance(row, dict) else None
    plain = isinstance(settings, list) and all(isinstance(text, str) and "=" in text for text in settings)
    if not plain or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", str(row.get("name", ""))) or len(row) > 2:
        raise UserError(f'{path}: a cell is name = "letters, digits, . + -" and set = ["NAME=VALUE", ...]; got {row!r}')
    return Cell(row["name"], tuple(settings), (("cell", row["name"]),))


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _short(value: str) -> str:
    """A value as a part of a folder's name; of a path, what tells it apart."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", value.rstrip("/").split("/")[-1]).strip("-.") or "empty"


def last_stages(spec: Spec, repeats: Repeats) -> tuple[str, ...]:
    """Those that need all else that a cell has."""
    return tuple(f"cells/{cell.name}/{list(repeats.of_a_cell)[-1]}" for cell in spec.cells)


def experiment(x: T, cell: Cell) -> T:
    """The settings of one cell. Raises UserError that names the cell."""
    try:
        return overrides.apply(x, cell.settings)
    except UserError as error:
        raise UserError(f"cell {cell.name}: {error}") from None


def cell_stages(
    base: Sequence[Stage], chains: Sequence[tuple[Cell, Sequence[Stage]]], repeats: Repeats, throttle: int = 0
) -> list[Stage]:
    """One list of stages for the chains of all cells.

    Stages of a cell (`repeats`) stand in `cells/NAME/`; each kind of them is one job array. Of any
    other stage there is one for each way the cells configure it: as in the chain without cells (`base`) it keeps its
    name, otherwise it is called NAME-FINGERPRINT.
    """
    kept: dict[str, Stage] = {}
    known = {stage.name: stage.fingerprint() for stage in base}
    for cell, stages in chains:
        mine: dict[str, Stage] = {}
        fingerprints: dict[str, str] = {}
        for stage in stages:
            if stage.name in repeats.left_out:
                continue
            needs = {
                label: Output(mine[need.stage.name], need.path) if isinstance(need, Output) else need
                for label, need in stage.needs.items()
            }
            if own := repeats.of_a_cell.get(stage.name):
                found = replace(
                    stage,
                    name=f"cells/{cell.name}/{stage.name}",
                    needs={label: need for label, need in needs.items() if label in (own.needs or needs)},
                    batch=own.batch,
                    throttle=throttle if own.throttled else 0,
                )
            else:
                fingerprint = stage.fingerprint(fingerprints)
                as_ever = known.get(stage.name, fingerprint) == fingerprint
                name = stage.name if as_ever else f"{stage.name}-{fingerprint[:6]}"
                found = replace(stage, name=name, needs=needs)
            mine[stage.name] = kept.setdefault(found.name, found)
    order = [
        [s for s in kept.values() if s.batch == batch]
        for batch in ("", *(own.batch for own in repeats.of_a_cell.values()))
    ]
    return [stage for group in order for stage in group]
