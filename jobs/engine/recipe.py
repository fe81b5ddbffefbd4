"""What the engine is handed of a recipe, and the checks a chain must pass. The engine imports no recipe."""

from __future__ import annotations

import contextlib
import inspect
import re
import reprlib
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from jobs.engine.chain import faults
from jobs.engine.demo_inputs import DemoInputs
from jobs.engine.stage import Stage
from proxygrm.core.errors import UserError
from proxygrm.core.files.user_code import one_line
from proxygrm.core.settings import did_you_mean
from proxygrm.report.contents import Report

T = TypeVar("T")
_NAME = re.compile(r"(.*\.py|[^:]*)(?::(.*))?", re.DOTALL)


def split_name(text: str) -> tuple[str, str]:
    """NAME[:PRESET] or FILE.py[:PRESET] -> name and preset, "" where none is given. A file's path may have colons."""
    match = _NAME.fullmatch(text)
    return (match[1], match[2] or "") if match else (text, "")


def own_file(text: str) -> Path | None:
    """The file that FILE.py[:PRESET] names; None for a shipped recipe."""
    name, _ = split_name(text)
    return Path(name).expanduser() if name.endswith(".py") else None


def with_file(text: str, file: Path) -> str:
    """The same preset of the recipe in another file."""
    _, preset = split_name(text)
    return f"{file}:{preset}" if preset else str(file)


@dataclass(frozen=True)
class PerCell:
    """A stage that every cell of an ablation has for itself."""

    batch: str
    """The job array that holds it for all cells."""
    needs: tuple[str, ...] = ()
    """Labels of the needs it keeps; empty keeps all."""
    throttled: bool = False
    """Whether only as many run at a time as the ablation says, rather than all."""


@dataclass(frozen=True)
class CellTable:
    """The table of an ablation: a row for each setting of the cells."""

    file: str
    """STAGE/FILE of each cell: JSON, {model: {figure: number}}."""
    model: str
    """Whose figures are shown."""
    figures: tuple[str, ...]
    seed: str = ""
    """The setting over which means are taken; "" where cells with other seeds are rows of their own."""
    title: str = "figures of each cell"
    metrics: str = ""
    """STAGE/FILE of each cell with a JSON line for each step of its training; "" for none."""
    curves: Mapping[str, str] = field(default_factory=dict)
    """Of the training: title -> name in the metrics. The largest and the last value are shown."""
    intervals: bool = False
    """Whether KEY_low and KEY_high are the interval of each figure."""
    plot: tuple[str, ...] = ()
    """Figures that are drawn with their intervals."""
    axis: str = ""
    """The setting that they are drawn over, at 0 where a cell does not set it; "": cell by cell."""
    curve: str = ""
    """The setting that tells the curves of a drawing apart."""
    steps: str = ""
    """Verdicts on the steps of the same solutions, beside `file`: the cells are compared by them instead of by pairs,
    and whether a curve falls is said."""


@dataclass(frozen=True)
class Sweep:
    """What an ablation repeats for each cell, in the chain's order; what it leaves out. Other stages are shared."""

    per_cell: Mapping[str, PerCell] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    needed_alone: bool = False
    """Whether stages that no cell's own stage needs are left out as well."""
    table: CellTable | None = None
    """What `ablate --table` shows."""


@dataclass(frozen=True)
class Recipe:
    name: str
    chain: Callable[[Any], list[Stage]]
    """Settings -> stages, each after those it needs."""
    presets: Mapping[str, Callable[[], Any]]
    """By name: functions that return the settings, a frozen dataclass. The first is the default."""
    sweep: Sweep = Sweep()
    """Of its ablations."""
    sweeps: Mapping[str, Sweep] = field(default_factory=dict)
    """Of ablations that repeat something else, by the name that their spec gives as `sweep`."""
    nodes: tuple[str, ...] = ()
    """Stages that `--nodes` sets the number of nodes of."""
    ablations: str = ""
    """Folder of its ablation specs, if it ships any."""
    report: Report = field(default_factory=Report)
    """What its page shows, and the demo when it has ended: files, titles, columns and their order."""
    demo_inputs: DemoInputs | None = None
    """What its presets demo and quick run on; drawn by `proxygrm demo`."""
    file: str = ""
    """Where it is written; for error messages."""

    def __post_init__(self) -> None:
        """Raises UserError: recipe.wrong-field."""
        for name, right, wanted in (
            ("name", isinstance(self.name, str) and self.name.strip() != "", "a text"),
            ("chain", callable(self.chain), "a function: settings -> stages"),
            ("presets", _functions(self.presets), "a mapping: name -> function without arguments"),
            ("nodes", isinstance(self.nodes, tuple | list), "a tuple of stage names"),
            ("sweep", _is_sweep(self.sweep), "a Sweep({stage: PerCell(...)})"),
            (
                "sweeps",
                isinstance(self.sweeps, Mapping) and all(map(_is_sweep, self.sweeps.values())),
                "a mapping: name -> Sweep(...)",
            ),
            ("report", isinstance(self.report, Report), "a Report(...)"),
        ):
            if not right:
                value = getattr(self, name)
                raise UserError(
                    f"Recipe: {name} is {reprlib.repr(value)}; it has to be {wanted}",
                    code="recipe.wrong-field",
                    name=name,
                )

    def settings(self, preset: str) -> Any:
        if preset not in self.presets:
            known = list(self.presets)
            raise UserError(
                f"recipe {self.name} has no preset {preset!r}; {did_you_mean(preset, known)}",
                code="recipe.unknown-preset",
                recipe=self.name,
                name=preset,
                known=known,
            )
        values = self._called(lambda: self.presets[preset]())
        if not is_dataclass(values) or isinstance(values, type):
            where = self._at(_first_line(self.presets[preset]) or self._find(preset))
            raise UserError(
                f"{where}: preset {preset!r} gives {_kind(values)}; a preset is a function without arguments that "
                "returns the settings, a dataclass",
                code="recipe.bad-preset",
                recipe=self.name,
                name=preset,
            )
        return values

    def sweep_of(self, name: str) -> Sweep:
        """name: what a spec gives as `sweep`; "" where it gives none. Raises UserError: ablation.unknown-sweep."""
        if name and name not in self.sweeps:
            raise UserError(
                f"recipe {self.name} has no sweep {name!r}; {did_you_mean(name, self.sweeps, 'leave `sweep` out')}",
                code="ablation.unknown-sweep",
                recipe=self.name,
                name=name,
                known=list(self.sweeps),
            )
        return self.sweeps[name] if name else self.sweep

    def stages(self, settings: Any) -> list[Stage]:
        """The chain, checked. Raises UserError with file and line: recipe.failed, recipe.not-a-chain,
        recipe.bad-stage, recipe.duplicate-stage, recipe.unlisted-stage, recipe.circle, recipe.wrong-order."""
        stages = self._called(lambda: self.chain(settings))
        if not isinstance(stages, list) or not stages or not all(isinstance(stage, Stage) for stage in stages):
            where = self._at(_first_line(self.chain))
            raise UserError(
                f"{where}: chain() returns {_kind(stages)}; it returns a list of stages", code="recipe.not-a-chain"
            )
        for code, name, text in faults(stages):
            where = self._at(self._find(name) or _first_line(self.chain))
            raise UserError(f"{where}: {text}", code=f"recipe.{code}", recipe=self.name, stage=name)
        return stages

    def _called(self, function: Callable[[], T]) -> T:
        """What a function of the recipe returns. What it prints goes to stderr, since a command's stdout may be read
        by a program. Raises UserError with file and line: recipe.failed, or the code of what it raises."""
        try:
            with contextlib.redirect_stdout(sys.stderr):
                return function()
        except (Exception, SystemExit) as error:
            line = self._line_of(error)
            if isinstance(error, UserError) and not line:
                raise
            code = error.code if isinstance(error, UserError) else "recipe.failed"
            raise UserError(f"{self._at(line)}: {one_line(error)}", code=code) from error

    def _at(self, line: int) -> str:
        """line: 0 where none is known, which becomes that of RECIPE."""
        return f"{self.file}:{line or self._line_of_recipe()}" if self.file else self.name

    def _line_of(self, error: BaseException) -> int:
        """Line of the recipe's own file where the error passed through, the innermost; 0 for none."""
        frames = traceback.extract_tb(error.__traceback__)
        return next((frame.lineno or 0 for frame in reversed(frames) if self.file and frame.filename == self.file), 0)

    def _line_of_recipe(self) -> int:
        try:
            lines = Path(self.file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return 1
        return next((number for number, line in enumerate(lines, 1) if re.match(r"RECIPE\b.*=", line)), 1)

    def _find(self, name: str) -> int:
        """Line where chain(), or else the file, names a stage for the last time; 0 where it does not."""
        try:
            lines = Path(self.file).read_text(encoding="utf-8").splitlines() if self.file else []
            body, first = inspect.getsourcelines(self.chain)
        except (OSError, UnicodeDecodeError, TypeError):
            return 0
        named = [number for number, line in enumerate(lines, 1) if f'"{name}"' in line or f"'{name}'" in line]
        return max((number for number in named if first <= number < first + len(body)), default=max(named, default=0))


def _first_line(function: Any) -> int:
    """Where a function is written; 0 for other callables."""
    return getattr(getattr(function, "__code__", None), "co_firstlineno", 0)


def _functions(presets: Any) -> bool:
    return isinstance(presets, Mapping) and all(callable(one) for one in presets.values())


def _is_sweep(value: Any) -> bool:
    if not isinstance(value, Sweep) or not isinstance(value.per_cell, Mapping):
        return False
    return all(isinstance(one, PerCell) for one in value.per_cell.values())


def _kind(value: Any) -> str:
    return (
        f"a list with {sorted({type(one).__name__ for one in value})}"
        if isinstance(value, list)
        else type(value).__name__
    )
