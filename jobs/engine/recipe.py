"""What the engine is handed of a recipe, and the checks a chain must pass. The engine imports no recipe."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.engine.demo_inputs import DemoInputs
from jobs.engine.stage import Output, Stage
from proxygrm.core.errors import UserError
from proxygrm.core.settings import did_you_mean
from proxygrm.report.contents import Report

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
        return self.presets[preset]()

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
        recipe.duplicate-stage, recipe.unlisted-stage, recipe.circle, recipe.wrong-order."""
        try:
            stages = self.chain(settings)
        except Exception as error:
            if isinstance(error, UserError) and not self._line_of(error):
                raise
            code = getattr(error, "code", "") or "recipe.failed"
            raise UserError(f"{self._at(self._line_of(error))}: {_one_line(error)}", code=code) from error
        if not isinstance(stages, list) or not stages or not all(isinstance(stage, Stage) for stage in stages):
            where = self._at(self.chain.__code__.co_firstlineno)
            raise UserError(
                f"{where}: chain() returns {_kind(stages)}; it returns a list of stages", code="recipe.not-a-chain"
            )
        self._check(stages)
        return stages

    def _check(self, stages: list[Stage]) -> None:
        names = [stage.name for stage in stages]
        for name in names:
            if names.count(name) > 1:
                raise self._error("duplicate-stage", name, f"two stages are called {name!r}; each has its own folder")
        _refuse_circles(stages, self._error)
        earlier: dict[str, Stage] = {}
        for stage in stages:
            for need in stage.needs.values():
                if not isinstance(need, Output):
                    continue
                other = need.stage.name
                if other not in names:
                    what = f"{stage.name!r} needs {other}/{need.path}, but chain() does not return stage {other!r}"
                    raise self._error("unlisted-stage", stage.name, what)
                if other not in earlier:
                    what = f"{stage.name!r} comes before {other!r}, which it needs"
                    raise self._error("wrong-order", stage.name, what)
            earlier[stage.name] = stage

    def _error(self, code: str, name: str, text: str) -> UserError:
        return UserError(f"{self._at(self._find(name))}: {text}", code=f"recipe.{code}", recipe=self.name, stage=name)

    def _at(self, line: int) -> str:
        return f"{self.file or self.name}:{line}" if line else self.file or self.name

    def _line_of(self, error: BaseException) -> int:
        """Line of the recipe's own file where the error passed through, the innermost; 0 for none."""
        frames = traceback.extract_tb(error.__traceback__)
        return next((frame.lineno or 0 for frame in reversed(frames) if self.file and frame.filename == self.file), 0)

    def _find(self, name: str) -> int:
        """Line where chain(), or else the file, names a stage for the last time; 0 where it does not."""
        try:
            lines = Path(self.file).read_text(encoding="utf-8").splitlines() if self.file else []
            body, first = inspect.getsourcelines(self.chain)
        except (OSError, UnicodeDecodeError, TypeError):
            return 0
        named = [number for number, line in enumerate(lines, 1) if f'"{name}"' in line or f"'{name}'" in line]
        return max((number for number in named if first <= number < first + len(body)), default=max(named, default=0))


def _refuse_circles(stages: list[Stage], error: Callable[[str, str, str], UserError]) -> None:
    """By name, because a stage may have been replaced by another of its name after it was used."""
    needs = {
        stage.name: {need.stage.name for need in stage.needs.values() if isinstance(need, Output)} for stage in stages
    }
    left = dict(needs)
    while ready := [name for name, parents in left.items() if not parents & left.keys()]:
        for name in ready:
            del left[name]
    if left:
        path = [next(iter(left))]
        while path.count(path[-1]) < 2:
            path.append(next(iter(sorted(left[path[-1]] & left.keys()))))
        circle = path[path.index(path[-1]) :]
        raise error("circle", circle[0], f"stages need each other in a circle: {' -> '.join(circle)}")


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


def _kind(value: Any) -> str:
    return (
        f"a list with {sorted({type(one).__name__ for one in value})}"
        if isinstance(value, list)
        else type(value).__name__
    )
