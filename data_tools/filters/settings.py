"""Settings of a filter run: one group per filter, from defaults, a TOML file and the command line."""

from __future__ import annotations

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
from proxygrm.core.settings import require_known

Group = TypeVar("Group")


@dataclass(frozen=True)
class FilterSettings:
    """Difficulty and decontamination also need critiques and benchmarks, and are off without them."""

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
_CAN_BE_OFF = ("quality", "similarity")  # by `quality = false`


def read_settings(
    file: Path | None, changes: Mapping[str, Any] | None = None, unused: Mapping[str, str] | None = None
) -> FilterSettings:
    """Settings from a TOML file with tables [quality], [similarity], [difficulty], [decontamination]; `changes`, in the
    same form, override it. `quality = false` turns a filter off. unused: {table: the option without which it has no
    effect}. Raises UserError for unknown settings and for those without effect."""
    values_of: dict[str, Any] = {}
    if file is not None:
        try:
            values_of = tomllib.loads(read_user_text(Path(file)))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise UserError(
                f"settings {file} cannot be read ({error}); give a TOML file", code="settings.unreadable", path=file
            ) from error
    where = str(file) if file else "settings"
    for name, option in (unused or {}).items():
        if name in values_of:
            raise UserError(
                f"{where}: [{name}] has no effect without {option}; give it, or leave the table out",
                code="settings.no-effect", name=name, option=option,
            )  # fmt: skip
    if values_of.get("similarity") is False and list((changes or {}).get("similarity") or ()) == ["image_distance"]:
        raise UserError(
            f"--image-distance has no effect: {where} has similarity = false; leave one of them out",
            code="option.no-effect", option="--image-distance",
        )  # fmt: skip
    for name, change in (changes or {}).items():
        before = values_of.get(name)
        values_of[name] = {**before, **change} if isinstance(before, dict) and isinstance(change, dict) else change
    groups: dict[str, Any] = {}
    for name, values in values_of.items():
        kind = _GROUPS[require_known(name, _GROUPS, where)]
        if values is False and name in _CAN_BE_OFF:
            groups[name] = None
        elif isinstance(values, dict):
            groups[name] = _group(kind, values, f"{where} [{name}]")
        else:
            raise UserError(
                f"{where}: {name} is {values!r}; write a table [{name}]",
                code="settings.bad-value", name=name, value=values,
            )  # fmt: skip
    return FilterSettings(**groups)


def _group(kind: type[Group], values: Mapping[str, Any], where: str) -> Group:
    defaults = {entry.name: entry.default for entry in fields(kind)}  # type: ignore[arg-type]
    converted = {}
    for name, value in values.items():
        default = defaults[require_known(name, defaults, where)]
        converted[name] = _convert(default, value, f"{where} {name}", name)
    return kind(**converted)


def _convert(default: Any, value: Any, where: str, name: str) -> Any:
    """The value in the type of the default; settings that can be off also accept `false`."""
    if isinstance(default, tuple):
        if not (isinstance(value, (list, tuple)) and len(value) == 2):
            raise UserError(
                f"{where} is {value!r}; write [least, most]", code="settings.bad-value", name=name, value=value
            )
        return tuple(_convert(bound, item, where, name) for bound, item in zip(default, value, strict=True))
    off = value is None or value is False
    if off and where.endswith(("decontamination] image_distance", "decontamination] near_text")):
        return None
    kinds: tuple[Any, ...] = (
        (bool,) if isinstance(default, bool) else (str,) if isinstance(default, str)
        else (int, float) if isinstance(default, float) else (int,)
    )  # fmt: skip
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise UserError(
            f"{where} is {value!r}; it must be {' or '.join(kind.__name__ for kind in kinds)}",
            code="settings.bad-value", name=name, value=value,
        )  # fmt: skip
    return float(value) if isinstance(default, float) else value
