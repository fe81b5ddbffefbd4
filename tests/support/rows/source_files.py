"""The Python files of this checkout, read as text: for tests that look at the code itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
OURS = ("jobs", "slurm", "proxygrm", "data_tools")


def parsed(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    """(path below the checkout, syntax tree) of every file in these folders, in order."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))
