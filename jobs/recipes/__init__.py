"""The recipes there are, and the ablations shipped with them. Read proxy_grm.py first.

The engine is handed a recipe; commands, tests and benchmarks ask here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jobs.engine import request as requests
from jobs.engine import sweep
from jobs.engine.request import Request, Resolved
from jobs.recipes import proxy_grm
from slurm.profile import Profile

SHIPPED = Path(__file__).parent / "ablations"


def resolve(request: Request, profile: Profile | None = None) -> Resolved:
    """profile: as it was when the run was submitted; without it, as its file is now."""
    return requests.resolve(request, proxy_grm.RECIPE, profile)


def of_run(folder: Path) -> Resolved:
    """Everything a run folder was asked for: `jobs.engine.request.of_run`."""
    return requests.of_run(folder, proxy_grm.RECIPE)


def shipped() -> list[sweep.Spec]:
    return [read_spec(str(path)) for path in sorted(SHIPPED.glob("*.toml"))]


def read_spec(name: str, only: Sequence[str] = ()) -> sweep.Spec:
    """name: of a shipped ablation, or the path of a file. only: patterns of cells."""
    return sweep.read_spec(name, SHIPPED, only)


def last_stages(spec: sweep.Spec) -> tuple[str, ...]:
    """Those that need all else that a cell has."""
    return sweep.last_stages(spec, proxy_grm.REPEATS)
