"""What a filter run does: one group of settings a filter, from defaults, a TOML file and the command line."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from data_tools.filters.decontamination import DecontaminationSettings
from data_tools.filters.difficulty import DifficultySettings
from data_tools.filters.quality import QualitySettings
from data_tools.filters.similarity import SimilaritySettings
from proxygrm.core.errors import UserError
from proxygrm.core.files.user_text import read_user_text

Group = TypeVar("Group")


@dataclass(frozen=True)
class FilterSettings:
    """Difficulty and decontamination need critiques and benchmarks beside their settings, and are off without."""

    quality: QualitySettings | None = field(default_factory=QualitySettings)
    similarity: SimilaritySettings | None = field(default_factory=SimilaritySettings)
    difficulty: DifficultySettings = field(default_factory=DifficultySettings)
    decontamination: DecontaminationSettings = field(default_factory=DecontaminationSettings)


_GROUPS: dict[str, type] = {
    "quality": QualitySettings,
    "similarity": SimilaritySettings,
    "difficulty": DifficultySettings,
    "decontamination": DecontaminationSettings,
}
_OFF = ("quality", "similarity")  # may be `false` as a whole


def read_settings(
    file: Path | None, changes: Mapping[str, Any] | None = None, idle: Mapping[str, str] | None = None
) -> FilterSettings:
    """Settings of a TOML file of tables [quality], [similarity], [difficulty], [decontamination]; `changes`, in the
    same form, come after it. `quality = false` turns a filter off. idle: {table: the option without which it says
    nothing}. Raises UserError for what is not known, or has no effect."""
    told: dict[str, Any] = {}
    if file is not None:
        try:
            told = tomllib.loads(read_user_text(Path(file)))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise UserError(f"settings {file} cannot be read ({error}); give a TOML file") from error
    where = str(file) if file else "settings"
    for name, option in (idle or {}).items():
        if name in told:
            raise UserError(f"{where}: [{name}] has no effect without {option}; give it, or leave the table out")
    if told.get("similarity") is False and list((changes or {}).get("similarity") or ()) == ["picture_distance"]:
        raise UserError(f"--picture-distance has no effect: {where} says similarity = false; leave one of them out")
    for name, change in (changes or {}).items():
        before = told.get(name)
        told[name] = {**before, **change} if isinstance(before, dict) and isinstance(change, dict) else change
    made: dict[str, Any] = {}
    for name, values in told.items():
        kind = _GROUPS[_known(name, _GROUPS, where)]
        if values is False and name in _OFF:
            made[name] = None
        elif isinstance(values, dict):
            made[name] = _group(kind, values, f"{where} [{name}]")
        else:
            raise UserError(f"{where}: {name} is {values!r}; write a table [{name}]")
    return FilterSettings(**made)


def _group(kind: type[Group], values: Mapping[str, Any], where: str) -> Group:
    defaults = {entry.name: entry.default for entry in fields(kind)}  # type: ignore[arg-type]
    made = {}
    for name, value in values.items():
        default = defaults[_known(name, defaults, where)]
        made[name] = _like(default, value, f"{where} {name}")
    return kind(**made)


def _like(default: Any, value: Any, where: str) -> Any:
    """The value in the type of the default. What is off by default, or may be, is a number or `false`."""
    if isinstance(default, tuple):
        if not (isinstance(value, (list, tuple)) and len(value) == 2):
            raise UserError(f"{where} is {value!r}; write [least, most]")
        return tuple(_like(one, other, where) for one, other in zip(default, value, strict=True))
    off = value is None or value is False
    if off and where.endswith(("decontamination] picture_distance", "decontamination] near_text")):
        return None
    kinds: tuple[Any, ...] = (
        (bool,) if isinstance(default, bool) else (str,) if isinstance(default, str)
        else (int, float) if isinstance(default, float) else (int,)
    )  # fmt: skip
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise UserError(f"{where} is {value!r}; it must be {' or '.join(kind.__name__ for kind in kinds)}")
    return float(value) if isinstance(default, float) else value


def _known(name: str, names: Mapping[str, Any], where: str) -> str:
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names)}"
        raise UserError(f"{where}: {name} is not known; {hint}")
    return name
