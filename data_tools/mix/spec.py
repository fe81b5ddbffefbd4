"""The spec of a mixture, a TOML file: which pairs folders, how much of each, and against which benchmarks.

about = "what it is"
against = ["vl_rewardbench"]      # pairs folders of benchmarks
size = 200_000                    # of the mixture at most; 0: all that weights and caps allow
short = "take"                    # too few rows for `size`: take fewer, in proportion; or "refuse"

[sources.rlaif_v]                 # in this order: of near-duplicates in two sources, the first keeps its row
pairs = "rlaif_v"                 # the folder
weight = 2.0                      # share of the mixture; all sources have one, or none
cap = 50_000                      # rows at most; 0: no cap
per_question = 5                  # pairs about one question (and image) at most; 0: no cap
without = ["video"]               # categories whose rows are left out

[similarity]                      # as in the settings of `data filter`: docs/data-filters.md
[decontamination]
[quality]                         # only where this table is present
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from data_tools.filters.settings import FilterSettings, read_settings
from proxygrm.core.bounds import check_bounds
from proxygrm.core.errors import UserError
from proxygrm.core.files.user_text import read_user_text
from proxygrm.core.settings import from_table, require_known

SHIPPED = Path(__file__).parent / "specs"
FILTERS = ("similarity", "decontamination", "quality")


@dataclass(frozen=True)
class MixSource:
    pairs: str
    """The pairs folder."""
    weight: float = 1.0
    """Share of the mixture, relative to the other sources."""
    cap: int = 0
    """Rows at most; 0: no cap."""
    per_question: int = 0
    """Pairs about one question and the same images at most; 0: no cap."""
    without: list[str] = field(default_factory=list)
    """Categories whose rows are left out."""

    def __post_init__(self) -> None:
        check_bounds("source of a mixture", self, from_zero=("weight", "cap", "per_question"))
        if math.isinf(self.weight):
            raise UserError(
                "source of a mixture: weight is infinite; give a number",
                code="settings.out-of-range", name="weight", value=self.weight,
            )  # fmt: skip


@dataclass(frozen=True)
class Head:
    """The settings of the whole mixture."""

    about: str = ""
    against: list[str] = field(default_factory=list)
    size: int = 0
    short: str = "take"
    seed: int = 0

    def __post_init__(self) -> None:
        check_bounds("mixture", self, from_zero=("size", "seed"), choices={"short": ("take", "refuse")})


@dataclass(frozen=True)
class MixSpec:
    about: str
    sources: tuple[tuple[str, MixSource], ...]  # (name, source) in order; `pairs` is a path
    weighted: bool  # by weights; otherwise every source gives all its rows
    against: tuple[Path, ...]
    size: int
    short: Literal["take", "refuse"]
    seed: int
    filters: FilterSettings

    @property
    def folders(self) -> list[Path]:
        return [Path(source.pairs) for _, source in self.sources]


def shipped() -> list[str]:
    """Names of the specs that come with the package."""
    return sorted(file.stem for file in SHIPPED.glob("*.toml"))


def read_spec(spec: str | Path, root: Path | None = None, only: Sequence[str] = (), seed: int | None = None) -> MixSpec:
    """A spec from a file, or a shipped one by its name.

    root: the folder of relative paths, by default the current one. only: names of the sources to use, for ablations.
    seed: instead of the spec's. Raises UserError for a file that cannot be read and for settings that make no sense.
    """
    file, where = spec_file(spec), str(spec)
    try:
        table: dict[str, Any] = tomllib.loads(read_user_text(file))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UserError(
            f"mixture {file} cannot be read ({error}); give a TOML file", code="settings.unreadable", path=file
        ) from error
    filters = {name: table.pop(name) for name in FILTERS if name in table}
    tables = table.pop("sources", None)
    head = from_table(Head, table, where)
    if not isinstance(tables, dict) or not tables or not all(isinstance(each, dict) for each in tables.values()):
        raise UserError(f"{where}: write a table [sources.NAME] for each source", code="mix.no-sources", path=file)
    for name in only:
        require_known(name, tables, where, "source")
    tables = {name: each for name, each in tables.items() if not only or name in only}
    weights = [name for name, each in tables.items() if "weight" in each]
    if weights and len(weights) < len(tables):
        without = next(name for name in tables if name not in weights)
        raise UserError(
            f"{where}: {weights[0]} has a weight and {without} has none; give one to all sources, or to none",
            code="mix.some-weights", name=without,
        )  # fmt: skip
    base = (root or Path()).expanduser()
    sources = []
    for name, each in tables.items():
        if not name.strip() or "," in name:
            raise UserError(
                f"{where}: a source is named {name!r}; give it a name without commas", code="mix.bad-name", name=name
            )
        if "pairs" not in each:
            raise UserError(f"{where}: source {name} has no pairs folder", code="mix.no-pairs", name=name)
        source = from_table(MixSource, each, f"{where}: {name}")
        sources.append((name, replace(source, pairs=str(base / Path(source.pairs).expanduser()))))
    if weights and not sum(source.weight for _, source in sources):
        raise UserError(f"{where}: the weights sum to nothing; raise one", code="mix.no-weights", names=list(tables))
    return MixSpec(
        about=head.about,
        sources=tuple(sources),
        weighted=bool(weights),
        against=tuple(base / Path(folder).expanduser() for folder in head.against),
        size=head.size,
        short=head.short,  # type: ignore[arg-type]
        seed=head.seed if seed is None else seed,
        filters=read_settings(None, {"quality": False, **filters}),
    )


def shipped_file(spec: str | Path) -> Path | None:
    """The file of a shipped spec; None for other names, and where there is a file of this name."""
    file = SHIPPED / f"{spec}.toml"
    return file if str(spec) in shipped() and not Path(spec).is_file() else None


def spec_file(spec: str | Path) -> Path:
    """The file of a spec. Raises UserError if there is none, and no shipped one of this name."""
    file = shipped_file(spec) or Path(spec)
    if not file.is_file():
        raise UserError(
            f"mixture {spec} does not exist; give a TOML file or one of: {', '.join(shipped())}",
            code="file.missing", path=str(spec), known=shipped(),
        )  # fmt: skip
    return file
