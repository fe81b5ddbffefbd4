"""Every UserError carries a code, so that nobody has to compare sentences."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
CODE = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\.[a-z0-9]+(?:-[a-z0-9]+)*")


def raised() -> Iterator[tuple[str, ast.expr | None]]:
    """(file:line, the code) of every `UserError(...)` in the packages."""
    for package in ("jobs", "slurm", "data_tools", "proxygrm"):
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "UserError":
                    code = next((word.value for word in node.keywords if word.arg == "code"), None)
                    yield f"{file.relative_to(ROOT)}:{node.lineno}", code


def test_every_error_for_users_has_a_code() -> None:
    places = dict(raised())
    assert [place for place, code in places.items() if code is None] == []
    literals = {place: code.value for place, code in places.items() if isinstance(code, ast.Constant)}
    assert {place: code for place, code in literals.items() if not CODE.fullmatch(str(code))} == {}
    assert len(literals) > 300
