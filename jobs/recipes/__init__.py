"""The recipes there are. Read proxy_grm.py first.

A recipe is named NAME[:PRESET], or PATH/TO/FILE.py[:PRESET] for one of your own (docs/recipes.md). The engine is handed
the recipe; commands, tests and benchmarks look it up here.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from jobs.engine import request as requests
from jobs.engine import sweep
from jobs.engine.recipe import Recipe, own_file, split_name
from jobs.engine.request import Request, Resolved
from proxygrm.core.errors import UserError
from proxygrm.core.files import owner, user_code
from proxygrm.core.settings import did_you_mean
from slurm.profile import Profile

RECIPES = {
    "proxy_grm": "distill -> split -> SFT -> GRPO with the proxy's reward -> evaluate -> transfer -> report",
    "unseen-proxy": "distill -> split -> SFT of a proxy that judges the rubrics of others' trainings",
    "base-reward": "scalar reward models of one or several backbones -> ensemble -> benchmarks -> cards -> report",
    "policy-rl": "questions -> RL of a policy, rewarded by answers and a reward model -> two judges -> report",
    "r1-reward": "distill with tries -> split -> SFT -> StableReinforce, consistency reward -> evaluate -> report",
    "evpv-prm": "labelled solutions -> teacher -> vision SFT, DPO, step judge -> best of N with a gate -> report",
    "learn-to-judge": "a critic's tasks -> SFT -> benchmarks by comparisons and by scores, before and after -> report",
}
"""Name -> what it does, in a line; the module of that name beside this file, with _ for -, has its RECIPE."""


def find(spec: str) -> tuple[Recipe, str]:
    """NAME[:PRESET] or FILE.py[:PRESET] -> the recipe and the preset's name, "" where none is given.

    Raises UserError: recipe.unknown, and those of `load_file`.
    """
    name, preset = split_name(spec)
    if file := own_file(spec):
        path = file.absolute()
        if not path.is_file():
            raise UserError(f"there is no recipe file {path}", code="recipe.missing-file", path=str(path))
        return load_file(path, path.stat().st_mtime_ns), preset
    known = {each.replace("_", "-"): each for each in RECIPES}.get(name.replace("_", "-"))
    if known is None:
        presets = [f"{each}:{name}" for each in RECIPES if name in find(each)[0].presets]
        hint = f"did you mean {presets[0]}?" if presets else did_you_mean(name, RECIPES)
        raise UserError(
            f"there is no recipe {name!r}; {hint} (your own: the path of its .py file)",
            code="recipe.unknown",
            name=name,
            known=list(RECIPES),
        )
    module = importlib.import_module(f"jobs.recipes.{known.replace('-', '_')}")
    return _recipe_of(module, module.__file__ or ""), preset


@lru_cache
def load_file(path: Path, modified_ns: int) -> Recipe:
    """A user's own recipe. Its functions and classes travel into jobs by value: no job imports the file.

    Raises UserError: those of `user_code.load`, with file and line, and recipe.no-recipe.
    """
    import cloudpickle

    module = user_code.load(path, "recipe", owner.why_anyones)
    cloudpickle.register_pickle_by_value(module)
    return _recipe_of(module, str(path))


def _recipe_of(module: ModuleType, file: str) -> Recipe:
    recipe = getattr(module, "RECIPE", None)
    if not isinstance(recipe, Recipe) or not recipe.presets:
        raise UserError(
            f"{file}:1: no RECIPE; a recipe file has RECIPE = Recipe(name=..., chain=..., presets={{...}}) with at "
            "least one preset (docs/recipes.md)",
            code="recipe.no-recipe",
            path=file,
        )
    return replace(recipe, file=file)


def resolve(request: Request, profile: Profile | None = None) -> Resolved:
    """profile: as it was when the run was submitted; without it, as its file is now."""
    return requests.resolve(request, find, profile)


def of_run(folder: Path) -> Resolved:
    """Everything a run folder was asked for: `jobs.engine.request.of_run`."""
    return requests.of_run(folder, find)


def shipped(recipe: Recipe) -> list[sweep.Spec]:
    """The ablation specs of a recipe."""
    folder = _ablations(recipe)
    return [read_spec(recipe, str(path)) for path in sorted(folder.glob("*.toml"))] if folder else []


def read_spec(recipe: Recipe, name: str, only: Sequence[str] = ()) -> sweep.Spec:
    """name: of a spec of the recipe, or the path of a file. only: patterns of cells."""
    return sweep.read_spec(name, _ablations(recipe), only)


def _ablations(recipe: Recipe) -> Path | None:
    """Where its specs are; None where it ships none, which is not the folder that the command was typed in."""
    return Path(recipe.ablations) if recipe.ablations else None
